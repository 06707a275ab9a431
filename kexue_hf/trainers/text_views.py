"""Views of texts for SimSiam, BYOL and SimCSE: a collator that changes words at random."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from kexue_hf.corpora.row_order import random_generator


class TextViewsCollator:
    """Make several views of each text: int64 [batch, views, length].

    Without options, the views are equal: dropout makes them differ, as in SimCSE (arXiv 2104.08821). The options
    change words: a token with the ## tokens after it, or the tokens of equal number in the column `word_ids`. Tokens
    around the text ([CLS], [SEP]) stay, and at least one word stays visible and unmasked. Applied in this order:

    * `passage`: a contiguous part at a random place, so that the views of a document are different passages of it;
    * `deletion`: a fraction of the words is removed;
    * `shuffle`: words change places, each by at most that many; then a view that is too long is cut;
    * `masking`: a fraction of the words becomes [MASK];
    * `cutoff`: a fraction of the words is hidden by the attention mask, and so is left out of the mean.

    If a text has `row` and `epoch` (as in `OrderedTrainer`), its views are a function of these and the seed: they do
    not depend on batch, process, worker or resumption. Otherwise they are a function of the seed and the whole batch.
    transformers' Trainer removes these columns and `word_ids` unless `remove_unused_columns=False`.

    Args:
        tokenizer: any tokenizer with a padding token, and for `masking` a mask token; only its token ids are kept.
        views: views per text.
        passage: fraction of a text's words in a passage; 1 for the whole text.
        deletion, masking, cutoff: fractions from 0 up to, but not including, 1.
        shuffle: greatest distance in words; 0 for none.
        keep_first: leave the first view unchanged.
        max_length: maximum number of tokens, special tokens included; longer views are cut at their end.
        seed: seed of the random numbers.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: the tokenizer lacks a token, or an option is out of range; when called: a text with two segments,
            or with `row` and no `epoch`, whose views would be the same in each epoch.

    Example:
        >>> collator = TextViewsCollator(tokenizer, deletion=0.1, shuffle=2)
        >>> collator([{"input_ids": [2, 7, 8, 3]}, {"input_ids": [2, 9, 3]}])["input_ids"].shape
        torch.Size([2, 2, 4])
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        views: int = 2,
        passage: float = 1.0,
        deletion: float = 0.0,
        shuffle: int = 0,
        masking: float = 0.0,
        cutoff: float = 0.0,
        keep_first: bool = False,
        max_length: int | None = None,
        seed: int = 0,
        pad_to_multiple_of: int = 1,
    ) -> None:
        if tokenizer.pad_token_id is None or (masking and tokenizer.mask_token_id is None):
            raise ValueError(
                "views need a tokenizer with a padding token, and masking=... one with a mask token, got pad_token="
                f"{tokenizer.pad_token!r}, mask_token={tokenizer.mask_token!r}"
            )
        for name, share in (("deletion", deletion), ("masking", masking), ("cutoff", cutoff)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} must be from 0 up to, but not including, 1, got {share}")
        if not 0 < passage <= 1:
            raise ValueError(f"passage must be above 0 and at most 1, got {passage}")
        for name, value, least in (("views", views, 1), ("shuffle", shuffle, 0), ("max_length", max_length or 3, 3)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self.pad_token_id: int = tokenizer.pad_token_id
        self.mask_token_id: int | None = tokenizer.mask_token_id
        self.views, self.passage, self.deletion, self.shuffle = views, passage, deletion, shuffle
        self.masking, self.cutoff, self.keep_first = masking, cutoff, keep_first
        self.max_length, self.seed, self.pad_to_multiple_of = max_length, seed, pad_to_multiple_of
        size = len(tokenizer)
        self.is_special = np.zeros(size, dtype=bool)
        self.is_special[[i for i in tokenizer.all_special_ids if i < size]] = True
        if tokenizer.unk_token_id is not None:
            self.is_special[tokenizer.unk_token_id] = False  # it stands for a part of the text
        self.is_continuation = np.zeros(size, dtype=bool)
        for token, index in tokenizer.get_vocab().items():
            self.is_continuation[index] = token.startswith("##") and len(token) > 2

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Convert texts to `input_ids` and `attention_mask`, int64 [batch, views, length].

        Each text is a dict with `input_ids` and optionally `attention_mask` (0 at padding, which is dropped),
        `word_ids` (None or -1 for tokens outside words), `row` and `epoch`; `token_type_ids` must be 0. Other entries
        are ignored.
        """
        made = []
        for feature, random in zip(features, self._generators(features), strict=True):
            if any(feature.get("token_type_ids", ())):
                raise ValueError("expected single texts, got one with two segments (token_type_ids other than 0)")
            made.append([self._view(feature, random, number) for number in range(self.views)])
        longest = max(len(ids) for views in made for ids, _ in views)
        longest = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        shape = (len(made), self.views, longest)
        ids, mask = np.full(shape, self.pad_token_id, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, views in enumerate(made):
            for number, (tokens, attended) in enumerate(views):
                ids[row, number, : len(tokens)] = tokens
                mask[row, number, : len(tokens)] = attended
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}

    def _generators(self, features: Sequence[dict[str, Any]]) -> Iterator[np.random.Generator]:
        """Yield a random generator for each text."""
        if "row" in features[0]:
            if "epoch" not in features[0]:
                raise ValueError("expected texts with `row` and `epoch`, or with neither, got `row` alone")
            for feature in features:
                # The 3 separates these numbers from those that order rows and mask words.
                yield random_generator(self.seed, int(feature["epoch"]), 3, int(feature["row"]))
        else:
            content = np.concatenate([np.asarray(feature["input_ids"], dtype=np.int64) for feature in features])
            random = np.random.default_rng([self.seed, zlib.crc32(content.tobytes())])
            for _ in features:
                yield random

    def _view(
        self, feature: dict[str, Any], random: np.random.Generator, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the attention mask of a view."""
        ids = np.asarray(feature["input_ids"], dtype=np.int64)
        numbers = feature.get("word_ids")
        if "attention_mask" in feature:
            kept = np.asarray(feature["attention_mask"], dtype=bool)
            ids = ids[kept]
            numbers = None if numbers is None else [number for number, keep in zip(numbers, kept, strict=True) if keep]
        inner = np.flatnonzero(~self.is_special[ids])
        start, end = (int(inner[0]), int(inner[-1]) + 1) if len(inner) else (len(ids), len(ids))
        before, after = ids[:start], ids[end:]
        words = self._words(ids[start:end], numbers, start, end)
        room = None if self.max_length is None else max(1, self.max_length - len(before) - len(after))
        if words and not (self.keep_first and number == 0):
            words = _cut(self._moved(words, random), room)
            words, attended = self._hidden(words, random)
        else:
            words = _cut(words, room)
            attended = [np.ones(len(word), dtype=np.int64) for word in words]
        text = np.concatenate([*words, ids[:0]])
        visible = np.concatenate([*attended, ids[:0]])
        around = np.ones(len(before), dtype=np.int64), np.ones(len(after), dtype=np.int64)
        return np.concatenate([before, text, after]), np.concatenate([around[0], visible, around[1]])

    def _words(self, ids: np.ndarray, word_ids: Sequence[int | None] | None, start: int, end: int) -> list[np.ndarray]:
        """Return the tokens of each word; a token outside words is one of its own."""
        if not len(ids):
            return []
        if word_ids is None:
            first = ~self.is_continuation[ids]
        else:
            numbers = np.array([-1 if word is None else word for word in word_ids[start:end]])
            first = np.concatenate([[True], (numbers[1:] != numbers[:-1]) | (numbers[1:] < 0)])
        first[0] = True
        return np.split(ids, np.flatnonzero(first)[1:])

    def _moved(self, words: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
        """Return the words of a passage, without the deleted ones, in their new order."""
        if self.passage < 1:
            size = max(1, round(self.passage * len(words)))
            start = int(random.integers(len(words) - size + 1))
            words = words[start : start + size]
        if self.deletion:
            kept = random.random(len(words)) >= self.deletion
            kept[random.integers(len(words))] = True
            words = [word for word, keep in zip(words, kept, strict=True) if keep]
        if self.shuffle:
            # Sorting by place plus noise below k + 1 moves no word by more than k.
            places = np.arange(len(words)) + random.random(len(words)) * (self.shuffle + 1)
            words = [words[place] for place in np.argsort(places, kind="stable")]
        return words

    def _hidden(
        self, words: list[np.ndarray], random: np.random.Generator
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the words, some of them masked, and their attention masks."""
        masked, cut = random.random((2, len(words))) < [[self.masking], [self.cutoff]]
        survivor = random.integers(len(words))
        masked[survivor] = cut[survivor] = False
        shown = [
            np.full_like(word, self.mask_token_id) if hit else word for word, hit in zip(words, masked, strict=True)
        ]
        return shown, [np.full_like(word, 0 if hit else 1) for word, hit in zip(words, cut, strict=True)]


def _cut(words: list[np.ndarray], room: int | None) -> list[np.ndarray]:
    """Return the words of the first `room` tokens; a word that does not fit is cut."""
    if room is None:
        return words
    cut = []
    for word in words:
        if room <= 0:
            break
        cut.append(word[:room])
        room -= len(word)
    return cut


__all__ = ["TextViewsCollator"]
