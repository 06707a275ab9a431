"""Collators for masked language modelling, language autoencoding and sequence-to-sequence training."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from kexue_hf.corpora.row_order import random_generator
from kexue_hf.trainers.selected_logits import IGNORED


def padded(rows: Sequence[Sequence[int]], length: int, value: int) -> np.ndarray:
    """Return rows padded on the right with `value`: int64 [rows, length]."""
    array = np.full((len(rows), length), value, dtype=np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array


class LanguageAutoencodingCollator:
    """Pad a batch and use its tokens as labels, for language autoencoding (T-TA, arXiv 2004.08097).

    The network hides each token from itself, so nothing is masked or random: a text is its own label, and every token
    contributes to the loss, not just 15 %. Two differences from the official code (https://github.com/joongbo/tta):

    * Special tokens ([SOS], [EOS], [UNK] ...) are given, not predicted; the first two only say where a text ends.
    * Padding is never predicted. The original's loss is a mean over all positions with padding counted as 0, so it
      shrinks as padding grows. Here, the loss is the mean over the predicted tokens.

    Args:
        tokenizer: any tokenizer with a padding token; only its token ids are kept.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: the tokenizer has no padding token.

    Example:
        >>> collator = LanguageAutoencodingCollator(tokenizer)  # [PAD] 0, [EOS] 1, [SOS] 3
        >>> collator([{"input_ids": [3, 9, 1]}, {"input_ids": [3, 7, 8, 1]}])["labels"]
        tensor([[-100,    9, -100, -100],
                [-100,    7,    8, -100]])
    """

    def __init__(self, tokenizer: Any, pad_to_multiple_of: int = 1) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError("language autoencoding needs a tokenizer with a padding token, got one without")
        self.pad_token_id: int = tokenizer.pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of
        self.is_special = np.zeros(len(tokenizer), dtype=bool)
        self.is_special[[i for i in tokenizer.all_special_ids if i < len(tokenizer)]] = True

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Convert texts to `input_ids`, `attention_mask`, `labels` (and `token_type_ids`), int64 [batch, length].

        Each text is a dict with `input_ids` and optionally `token_type_ids` and `attention_mask` (0 at padding); other
        entries are ignored.
        """
        length = max(len(feature["input_ids"]) for feature in features)
        length = -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of
        ids = padded([feature["input_ids"] for feature in features], length, self.pad_token_id)
        attended = [feature.get("attention_mask", [1] * len(feature["input_ids"])) for feature in features]
        attention = padded(attended, length, 0)
        labels = np.where((attention != 0) & ~self.is_special[ids], ids, IGNORED)
        batch = {"input_ids": ids, "attention_mask": attention, "labels": labels}
        if "token_type_ids" in features[0]:
            batch["token_type_ids"] = padded([feature["token_type_ids"] for feature in features], length, 0)
        return {name: torch.from_numpy(array) for name, array in batch.items()}


class WordMaskingCollator:
    """Pad a batch and mask words for masked language modelling.

    Differences from transformers' `DataCollatorForLanguageModeling`:

    * Masking works on words: all tokens of a word are masked, replaced, kept, or not chosen together. Words come from
      the column `word_ids`, if there is one; otherwise a token that starts with ## belongs to the token before it.
    * A random replacement is never a special token.
    * The collator has no state. If a text has `row` and `epoch` (as from `kexue_hf.corpora.row_order`), its masks are
      a function of seed, epoch and row: they do not depend on batch, process, worker or resumption, and differ in each
      epoch. Otherwise, masks are a function of the seed and the whole batch: they do not depend on workers or
      resumption, and differ in each epoch because shuffling changes the batches (unless there is only one text). A
      held-out set, which is not shuffled, gets the same masks in every evaluation.

    Args:
        tokenizer: any tokenizer with a mask and a padding token; only its token ids are kept.
        probability: fraction of words to predict; at least one word of each text.
        mask_fraction: fraction of these words that become [MASK]. Half of the rest is replaced by random tokens, the
            other half is kept (0.8 gives BERT's 80/10/10).
        seed: seed of the random numbers.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: the tokenizer lacks a mask or padding token, or a fraction is outside 0..1.

    Example:
        >>> collator = WordMaskingCollator(tokenizer, probability=0.15)
        >>> batch = collator([{"input_ids": [2, 7, 8, 3]}, {"input_ids": [2, 9, 3]}])
        >>> batch["labels"].shape  # [batch, length]; -100 where nothing is predicted
        torch.Size([2, 4])
    """

    def __init__(
        self,
        tokenizer: Any,
        probability: float = 0.15,
        mask_fraction: float = 0.8,
        seed: int = 0,
        pad_to_multiple_of: int = 1,
    ) -> None:
        if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise ValueError(
                "masking words needs a tokenizer with a mask token and a padding token, "
                f"got mask_token={tokenizer.mask_token!r}, pad_token={tokenizer.pad_token!r}"
            )
        for name, share in (("probability", probability), ("mask_fraction", mask_fraction)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {share}")
        self.mask_token_id: int = tokenizer.mask_token_id
        self.pad_token_id: int = tokenizer.pad_token_id
        self.probability, self.mask_fraction, self.seed = probability, mask_fraction, seed
        self.pad_to_multiple_of = pad_to_multiple_of
        size = len(tokenizer)
        self.is_special = np.zeros(size, dtype=bool)
        self.is_special[[i for i in tokenizer.all_special_ids if i < size]] = True
        self.is_continuation = np.zeros(size, dtype=bool)
        for token, index in tokenizer.get_vocab().items():
            self.is_continuation[index] = token.startswith("##") and len(token) > 2
        self.replacements = np.flatnonzero(~self.is_special)

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Convert texts to `input_ids`, `attention_mask`, `labels` (and `token_type_ids`), int64 [batch, length].

        Each text is a dict with `input_ids` and optionally `token_type_ids`, `word_ids` (None or -1 for tokens outside
        words), `row` and `epoch` (which determine its masks).
        """
        length = max(len(feature["input_ids"]) for feature in features)
        length = -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of
        ids = padded([feature["input_ids"] for feature in features], length, self.pad_token_id)
        attention = padded([[1] * len(feature["input_ids"]) for feature in features], length, 0)
        if "word_ids" in features[0]:
            rows = [[-1 if word is None else word for word in feature["word_ids"]] for feature in features]
            words = padded(rows, length, -1)
        else:
            words = np.cumsum(~self.is_continuation[ids], axis=1)
        if "token_type_ids" in features[0]:
            types = padded([feature["token_type_ids"] for feature in features], length, 0)
            words = _continue_numbering(words, types)
        lengths = [len(feature["input_ids"]) for feature in features]
        draws = self._draws(self._generators(features, ids), words, lengths)
        labels, masked = self._mask(ids, (attention == 1) & (words >= 0) & ~self.is_special[ids], *draws)

        batch = {"input_ids": masked, "attention_mask": attention, "labels": labels}
        if "token_type_ids" in features[0]:
            batch["token_type_ids"] = types
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _generators(self, features: Sequence[dict[str, Any]], ids: np.ndarray) -> Iterator[np.random.Generator]:
        """Yield a random generator for each text."""
        if "row" in features[0]:
            for feature in features:
                # The 2 separates these numbers from those that order the rows.
                yield random_generator(self.seed, int(feature.get("epoch", 0)), 2, int(feature["row"]))
        else:
            random = np.random.default_rng([self.seed, zlib.crc32(ids.tobytes())])
            for _ in features:
                yield random

    def _draws(
        self, generators: Iterable[np.random.Generator], words: np.ndarray, lengths: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the random numbers of each token, [batch, length]: selection and replacement draw, replacement.

        The draws are uniform and equal for all tokens of a word; the replacement is a token id.
        """
        selection_draw, replacement_draw, replacement = (
            np.ones(words.shape),
            np.ones(words.shape),
            np.zeros(words.shape, dtype=np.int64),
        )
        for row, (random, length) in enumerate(zip(generators, lengths, strict=True)):
            # The count depends on this text alone, so the batch does not affect its masks.
            own = words[row, :length]
            draws = random.random((2, own.max() + 2))
            selection_draw[row, :length], replacement_draw[row, :length] = draws[:, own]
            places = (random.random(length) * len(self.replacements)).astype(np.int64)
            replacement[row, :length] = self.replacements[places]
        return selection_draw, replacement_draw, replacement

    def _mask(
        self,
        ids: np.ndarray,
        maskable: np.ndarray,
        selection_draw: np.ndarray,
        replacement_draw: np.ndarray,
        replacement: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return labels and masked ids for ids [batch, length] and each token's random numbers."""
        selection_draw = np.where(maskable, selection_draw, np.inf)
        lowest = selection_draw.min(axis=1, keepdims=True)
        chosen = maskable & ((selection_draw < self.probability) | (selection_draw == lowest))
        if self.probability == 0:
            chosen = np.zeros_like(chosen)
        replaced_below = self.mask_fraction + (1 - self.mask_fraction) / 2
        masked = np.where(chosen & (replacement_draw < self.mask_fraction), self.mask_token_id, ids)
        masked = np.where(
            chosen & (replacement_draw >= self.mask_fraction) & (replacement_draw < replaced_below),
            replacement,
            masked,
        )
        return np.where(chosen, ids, IGNORED), masked


def _continue_numbering(words: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Return word numbers [batch, length] in which a pair's second text continues those of the first."""
    count = np.where(types == 0, words, -1).max(axis=1, keepdims=True) + 1
    second = (types > 0) & (words >= 0)
    restarted = (second & (words < count)).any(axis=1, keepdims=True)
    numbered: np.ndarray = words + (second & restarted) * count
    return numbered


class NextSegmentCollator(WordMaskingCollator):
    """[`WordMaskingCollator`] for models with both pre-training heads; takes the same arguments.

    Word masking alone does not train [CLS], so [CLS] does not represent the text for a classifier. A small model
    pre-trained that way can be worse than random weights. Here, each text is cut in two, [CLS] A [SEP] B [SEP], the
    second halves are permuted among half of the texts in the batch, and [CLS] predicts whether B follows A. (BERT
    draws its pairs when it prepares the data; permuting within the batch gives new pairs in every epoch at no cost.
    The pairs depend on the batch. Unlike the masks, they change with the number of processes or accumulated steps.)

    Takes texts of [CLS] ... [SEP] with `word_ids`, one id shorter than the model's longest input, and adds
    `token_type_ids` and `next_sentence_label` [batch]: 0 if B follows A, 1 if B is from another text.
    """

    def __init__(self, tokenizer: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(tokenizer, *arguments, **options)
        self.cls_token_id: int = tokenizer.cls_token_id
        self.sep_token_id: int = tokenizer.sep_token_id

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        firsts, seconds = [], []
        for feature in features:
            ids, words = list(feature["input_ids"][1:-1]), list(feature["word_ids"][1:-1])
            middle = len(ids) // 2
            firsts.append((ids[:middle], words[:middle]))
            seconds.append((ids[middle:], words[middle:]))
        checksum = zlib.crc32(np.concatenate([np.asarray(first[0], dtype=np.int64) for first in firsts]).tobytes())
        random = np.random.default_rng([self.seed, 1, checksum, int(features[0].get("epoch", 0))])
        moved = random.permutation(len(features))[: len(features) // 2]
        # A single text has no partner.
        moved = moved if len(moved) > 1 else moved[:0]
        order = np.arange(len(features))
        order[moved] = np.roll(moved, 1)
        longest = max(len(feature["input_ids"]) for feature in features) + 1
        pairs: list[dict[str, Any]] = []
        for feature, (ids, words), second in zip(features, firsts, order, strict=True):
            other_ids, other_words = seconds[second]
            room = longest - 3 - len(ids)
            # Words are numbered within a row, so the second part continues the first.
            start = 1 + max((w for w in words if w is not None), default=0)
            other_ids = other_ids[:room]
            other_words = [-1 if w is None or w < 0 else w + start for w in other_words[:room]]
            pairs.append(
                {
                    **{name: feature[name] for name in ("row", "epoch") if name in feature},
                    "input_ids": [self.cls_token_id, *ids, self.sep_token_id, *other_ids, self.sep_token_id],
                    "word_ids": [-1, *words, -1, *other_words, -1],
                    "token_type_ids": [0] * (len(ids) + 2) + [1] * (len(other_ids) + 1),
                }
            )
        batch = super().__call__(pairs)
        batch["next_sentence_label"] = torch.from_numpy((order != np.arange(len(features))).astype(np.int64))
        return batch


class UniLmCollator:
    """Join and pad sources and targets for a UniLM: [CLS] source [SEP] target [SEP].

    Takes the columns of transformers' `DataCollatorForSeq2Seq` (`input_ids` of the source, `labels` of the target,
    both as the tokenizer returns them), with these differences:

    * Both become one row; `token_type_ids` are 0 in the source and 1 in the target, which is all that the mask needs.
    * If a row is too long, the end of the source is cut, never the target.
    * Labels are the target and its final [SEP], so `num_items_in_batch` counts the predicted tokens, and accumulated
      batches give the same loss as one batch.

    Args:
        tokenizer: any tokenizer with [CLS], [SEP] and a padding token; only its token ids are kept.
        max_length: tokens per row, special tokens included.
        max_target_length: maximum number of target tokens, without [SEP]. A target that was cut gets no [SEP], so that
            the model does not learn to stop there. None: a long target is an error only if it leaves no room for a
            source.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: the tokenizer lacks one of the three tokens, or `max_length` leaves no room; when called: a target
            leaves no room for a source.

    Example:
        >>> collator = UniLmCollator(tokenizer, max_length=128)
        >>> batch = collator([{"input_ids": [2, 7, 8, 9, 3], "labels": [2, 7, 9, 3]}])
        >>> batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        ([2, 7, 8, 9, 3, 7, 9, 3], [-100, -100, -100, -100, -100, 7, 9, 3])
    """

    def __init__(
        self, tokenizer: Any, max_length: int = 128, max_target_length: int | None = None, pad_to_multiple_of: int = 1
    ) -> None:
        special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad")}
        if missing := [name for name, index in special.items() if index is None]:
            raise ValueError(
                f"joining source and target needs a tokenizer with cls, sep and pad tokens, got one without {missing}"
            )
        if max_length < 4 or (max_target_length is not None and not 0 < max_target_length <= max_length - 4):
            raise ValueError(
                "expected max_target_length from 1 to max_length - 4, which leaves room for a source, got "
                f"max_target_length={max_target_length}, max_length={max_length}"
            )
        self.cls_token_id, self.sep_token_id, self.pad_token_id = special.values()
        self.max_length, self.max_target_length = max_length, max_target_length
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Convert `input_ids` and `labels`, with or without [CLS] and [SEP], to a batch.

        Returns:
            `input_ids`, `token_type_ids`, `attention_mask` and `labels`, int64 [batch, length].
        """
        rows = [self._joined(feature["input_ids"], feature["labels"], i) for i, feature in enumerate(features)]
        length = max(len(source) + len(target) for source, target in rows)
        length = -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of
        batch: dict[str, list[list[int]]] = {
            name: [] for name in ("input_ids", "token_type_ids", "attention_mask", "labels")
        }
        for source, target in rows:
            padding = length - len(source) - len(target)
            batch["input_ids"].append(source + target + [self.pad_token_id] * padding)
            batch["token_type_ids"].append([0] * len(source) + [1] * len(target) + [0] * padding)
            batch["attention_mask"].append([1] * (length - padding) + [0] * padding)
            batch["labels"].append([IGNORED] * len(source) + target + [IGNORED] * padding)
        return {name: torch.tensor(values, dtype=torch.int64) for name, values in batch.items()}

    def _joined(self, source_ids: Sequence[int], target_ids: Sequence[int], row: int) -> tuple[list[int], list[int]]:
        source, target = self._bare(source_ids), self._bare(target_ids)
        if self.max_target_length is None or len(target) <= self.max_target_length:
            target = [*target, self.sep_token_id]
        else:
            target = target[: self.max_target_length]
        room = self.max_length - 2 - len(target)
        if room < 1:
            raise ValueError(
                f"row {row} of the batch: expected a target of at most {self.max_length - 4} tokens, which leaves "
                f"room for a source within max_length={self.max_length}, got {len(target) - 1}; cut it or set "
                f"max_target_length"
            )
        return [self.cls_token_id, *source[:room], self.sep_token_id], target

    def _bare(self, ids: Sequence[int]) -> list[int]:
        start = 1 if len(ids) and ids[0] == self.cls_token_id else 0
        end = len(ids) - 1 if len(ids) > start and ids[-1] == self.sep_token_id else len(ids)
        return list(ids[start:end])


__all__ = [
    "IGNORED",
    "LanguageAutoencodingCollator",
    "NextSegmentCollator",
    "UniLmCollator",
    "WordMaskingCollator",
    "padded",
]
