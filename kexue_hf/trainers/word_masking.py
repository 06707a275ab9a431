"""Masking words for masked language modelling, dynamically, in the data loader.

Differences from transformers' `DataCollatorForLanguageModeling`:

* The unit is the word: all tokens of a word share one fate (hidden, replaced, left, or not chosen at all). Words come
  from a `word_ids` column where there is one, else a token that starts with ## belongs to the token before it.
* A random replacement is never a special token.
* No state. A text that brings its number `row` and the pass `epoch` (the data of `kexue_hf.corpora.row_order` do) is
  masked by a function of seed, epoch and row: alike in whatever batch, process or loader worker it is, in a resumed
  run, and anew in each epoch. Texts without a number are masked by a function of the seed and of the whole batch:
  alike with 0 or 8 loader workers and after a resumed run; anew in each epoch because shuffling composes other batches
  (of one text, it does not). A held-out set, which is not shuffled, is masked alike at every evaluation.

Rows of different lengths as one array.

Language autoencoding, what T-TA is trained by (arXiv 2004.08097): every token is predicted from all the others.

The network hides each token from itself, so nothing is masked and nothing drawn: a text is its own label, and every
token teaches, not 15 % of them. Two departures from the official code (https://github.com/joongbo/tta):

* Special tokens ([SOS], [EOS], [UNK] ...) are given, not predicted: the first two say nothing but where a text ends.
* Padding is never predicted. The original's loss is a mean over all positions, with padding counted as 0: it is the
  smaller the more padding a batch has. Here it is the mean over the predicted tokens.

Word masking together with BERT's next-sentence task, so that [CLS] learns to stand for its text.

Masked words alone never ask anything of [CLS]: what a classifier reads there is then no summary, and a small model
pre-trained so can fall behind random weights. Here each text is cut in two, [CLS] A [SEP] B [SEP]; half of a batch's
texts exchange their second parts, and [CLS] tells which. (BERT draws its pairs when the data is made; exchanging them
in the batch gives new ones in every epoch, for nothing. Which texts exchange depends on the batch: unlike the masks,
it is not the same where other numbers of processes or accumulated steps compose other batches.)
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from kexue_hf.corpora.row_order import random_generator
from kexue_hf.trainers.labelled_positions import IGNORED


def padded(rows: Sequence[Sequence[int]], length: int, value: int) -> np.ndarray:
    """Rows, filled up on the right with `value`: int64 [rows, length]."""
    array = np.full((len(rows), length), value, dtype=np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array


class LanguageAutoencodingCollator:
    """Pads a batch; its labels are its tokens.

    Args:
        tokenizer: any tokenizer with a padding token; only numbers are kept of it.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: no padding token.

    Example:
        >>> collator = LanguageAutoencodingCollator(tokenizer)  # [PAD] 0, [EOS] 1, [SOS] 3
        >>> collator([{"input_ids": [3, 9, 1]}, {"input_ids": [3, 7, 8, 1]}])["labels"]
        tensor([[-100,    9, -100, -100],
                [-100,    7,    8, -100]])
    """

    def __init__(self, tokenizer: Any, pad_to_multiple_of: int = 1) -> None:
        if tokenizer.pad_token_id is None:
            raise ValueError("language autoencoding needs a tokenizer with a padding token, this one has none")
        self.pad_token_id: int = tokenizer.pad_token_id
        self.pad_to_multiple_of = pad_to_multiple_of
        self.is_special = np.zeros(len(tokenizer), dtype=bool)
        self.is_special[[i for i in tokenizer.all_special_ids if i < len(tokenizer)]] = True

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Texts to `input_ids`, `attention_mask`, `labels` (and `token_type_ids`), int64 [batch, length].

        Each text is a dict of `input_ids` and perhaps `token_type_ids` and `attention_mask`, 0 where it is padded
        already; anything else in it makes no difference.
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
    """Pads a batch and chooses the words to be predicted.

    Args:
        tokenizer: any tokenizer with a mask and a padding token; only numbers are kept of it.
        probability: share of the words that are chosen; at least one word of each text is.
        hidden: share of the chosen words that become [MASK]; a like share of the rest, half of it, is replaced by
            random tokens and the other half is left as it is (0.8 gives BERT's 80/10/10).
        seed: of the random numbers.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: no mask token, or a share outside 0..1.

    Example:
        >>> collator = WordMaskingCollator(tokenizer, probability=0.15)
        >>> batch = collator([{"input_ids": [2, 7, 8, 3]}, {"input_ids": [2, 9, 3]}])
        >>> batch["labels"].shape  # [batch, length]; -100 where nothing is to be predicted
        torch.Size([2, 4])
    """

    def __init__(
        self,
        tokenizer: Any,
        probability: float = 0.15,
        hidden: float = 0.8,
        seed: int = 0,
        pad_to_multiple_of: int = 1,
    ) -> None:
        if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
            raise ValueError(
                "masking words needs a tokenizer with a mask token and a padding token, "
                f"got mask_token={tokenizer.mask_token!r}, pad_token={tokenizer.pad_token!r}"
            )
        for name, share in (("probability", probability), ("hidden", hidden)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {share}")
        self.mask_token_id: int = tokenizer.mask_token_id
        self.pad_token_id: int = tokenizer.pad_token_id
        self.probability, self.hidden, self.seed = probability, hidden, seed
        self.pad_to_multiple_of = pad_to_multiple_of
        size = len(tokenizer)
        self.is_special = np.zeros(size, dtype=bool)
        self.is_special[[i for i in tokenizer.all_special_ids if i < size]] = True
        self.is_continuation = np.zeros(size, dtype=bool)
        for token, index in tokenizer.get_vocab().items():
            self.is_continuation[index] = token.startswith("##") and len(token) > 2
        self.replacements = np.flatnonzero(~self.is_special)

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Texts to `input_ids`, `attention_mask`, `labels` (and `token_type_ids`), int64 [batch, length].

        Each text is a dict of `input_ids` and perhaps `token_type_ids`, `word_ids` (None or -1 for tokens of no word),
        `row` and `epoch` (what its masks are drawn from).
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
            words = _numbered_on(words, types)
        lengths = [len(feature["input_ids"]) for feature in features]
        draws = self._draws(self._generators(features, ids), words, lengths)
        labels, masked = self._mask(ids, (attention == 1) & (words >= 0) & ~self.is_special[ids], *draws)

        batch = {"input_ids": masked, "attention_mask": attention, "labels": labels}
        if "token_type_ids" in features[0]:
            batch["token_type_ids"] = types
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _generators(self, features: Sequence[dict[str, Any]], ids: np.ndarray) -> Iterator[np.random.Generator]:
        """A source of random numbers for each text."""
        if "row" in features[0]:
            for feature in features:
                # Another word of the counter than the order of rows uses.
                yield random_generator(self.seed, int(feature.get("epoch", 0)), 2, int(feature["row"]))
        else:
            random = np.random.default_rng([self.seed, zlib.crc32(ids.tobytes())])
            for _ in features:
                yield random

    def _draws(
        self, generators: Iterable[np.random.Generator], words: np.ndarray, lengths: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lottery and fate (uniform, one for all tokens of a word) and replacement of each token [batch, length]."""
        lottery, fate, replacement = np.ones(words.shape), np.ones(words.shape), np.zeros(words.shape, dtype=np.int64)
        for row, (random, length) in enumerate(zip(generators, lengths, strict=True)):
            # As many numbers as the text asks for: the others of its batch make no difference.
            own = words[row, :length]
            draws = random.random((2, own.max() + 2))
            lottery[row, :length], fate[row, :length] = draws[:, own]
            places = (random.random(length) * len(self.replacements)).astype(np.int64)
            replacement[row, :length] = self.replacements[places]
        return lottery, fate, replacement

    def _mask(
        self, ids: np.ndarray, maskable: np.ndarray, lottery: np.ndarray, fate: np.ndarray, replacement: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels and masked ids of ids [batch, length], given each token's draws."""
        lottery = np.where(maskable, lottery, np.inf)
        first_prize = lottery.min(axis=1, keepdims=True)
        chosen = maskable & ((lottery < self.probability) | (lottery == first_prize))
        if self.probability == 0:
            chosen = np.zeros_like(chosen)
        replaced_below = self.hidden + (1 - self.hidden) / 2
        masked = np.where(chosen & (fate < self.hidden), self.mask_token_id, ids)
        masked = np.where(chosen & (fate >= self.hidden) & (fate < replaced_below), replacement, masked)
        return np.where(chosen, ids, IGNORED), masked


def _numbered_on(words: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Words [batch, length] in which those of a pair's second text, if numbered from 0 again, follow the first's."""
    count = np.where(types == 0, words, -1).max(axis=1, keepdims=True) + 1
    second = (types > 0) & (words >= 0)
    again = (second & (words < count)).any(axis=1, keepdims=True)
    numbered: np.ndarray = words + (second & again) * count
    return numbered


class NextSegmentCollator(WordMaskingCollator):
    """[`WordMaskingCollator`] for models with both pre-training heads; arguments as there.

    Takes texts of [CLS] ... [SEP] with `word_ids`, one id shorter than the model's longest input, and adds
    `token_type_ids` and `next_sentence_label` [batch]: 0 where B follows A, 1 where it is another text's.
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
        # One alone cannot exchange with itself.
        moved = moved if len(moved) > 1 else moved[:0]
        order = np.arange(len(features))
        order[moved] = np.roll(moved, 1)
        longest = max(len(feature["input_ids"]) for feature in features) + 1
        pairs: list[dict[str, Any]] = []
        for feature, (ids, words), second in zip(features, firsts, order, strict=True):
            other_ids, other_words = seconds[second]
            room = longest - 3 - len(ids)
            # Words are numbered within a row: those of the second part go on after the first's.
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


__all__ = ["IGNORED", "LanguageAutoencodingCollator", "NextSegmentCollator", "WordMaskingCollator", "padded"]
