"""Pack documents into rows of at most `max_length` tokens, without splitting sentences. There are two ways:

* `FullRows` (RoBERTa's FULL-SENTENCES): sentences fill a row one after the other, across document ends, with [SEP]
  between documents. There is almost no padding. Attention crosses documents.
* `Segments` (WoBERT's own training data, `text_process` of https://github.com/ZhuiyiTechnology/WoBERT): a row is a
  part of one document. Sentences (up to 。 or the end of a line) are joined up to `characters` characters, by default
  1.3 x max_length, because a word is longer than a character. Rows differ in length, so batch rows of similar length.
  Tokens of a segment that do not fit into the row are dropped, as in the original; fewer characters drop less.

Both number the words of a row from 0, as whole-word masking needs it.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from kexue_hf.errors import InputError

# A sentence with its end mark and the closing quotation marks after it.
SENTENCE = re.compile(r"[^。！？\n]*[。！？\n]+[”’」』）]*|[^。！？\n]+")
LINE_OR_SENTENCE = re.compile(r"[^。\n]*[。\n]|[^。\n]+")
# Number of texts whose sentences are encoded in one call.
_TEXTS = 64
Row = tuple[list[int], list[int]]  # token ids, and the word number of each token (-1: none)


def split_segments(text: str, characters: int) -> Iterator[str]:
    """Yield parts of at most `characters` characters that end at sentence ends; only longer sentences are split."""
    start = end = 0
    for match in LINE_OR_SENTENCE.finditer(text):
        if end > start and match.end() - start > characters:
            yield text[start:end]
            start = end
        end = match.end()
        while end - start > characters:
            yield text[start : start + characters]
            start += characters
    if end > start:
        yield text[start:end]


def encoded_words(tokenizer: Any, texts: list[str]) -> Iterator[Row]:
    """Yield token ids and word numbers of each text, without special tokens."""
    ids_only = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    # No warning about long texts: they are split into rows later.
    encoded = tokenizer(texts, **ids_only, verbose=False)
    for index, ids in enumerate(encoded["input_ids"]):
        words = encoded.word_ids(index)
        if None in words:  # Some tokenizers have tokens that belong to no word. Drop them.
            ids = [i for i, w in zip(ids, words, strict=True) if w is not None]
            words = [w for w in words if w is not None]
        yield ids, words


def tokens_around(tokenizer: Any) -> tuple[int, int]:
    """Return the ids that the tokenizer puts before and after a text.

    These are [CLS] and [SEP] for BERT, [SOS] and [EOS] for T-TA.

    Raises:
        InputError: it does not put exactly one token before and one after.
    """
    ids = tokenizer("")["input_ids"]
    if len(ids) != 2:
        raise InputError(
            f"expected a tokenizer that puts one token before a text and one after, but {type(tokenizer).__name__} "
            f"puts {tokenizer.convert_ids_to_tokens(ids)} around an empty text"
        )
    return ids[0], ids[1]


class Segments:
    """Pack texts into one row per segment, for a batched `datasets.map` or for a stream. See the module.

    Raises:
        InputError: `characters` is below 1.
    """

    def __init__(self, tokenizer: Any, max_length: int, characters: int | None = None) -> None:
        self.tokenizer, self.room = tokenizer, max_length - 2
        self.around = tokens_around(tokenizer)
        self.characters = int(1.3 * max_length) if characters is None else characters
        if self.characters < 1:
            raise InputError(f"a segment must have at least 1 character, got {self.characters}")

    def split(self, texts: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield segments before encoding, as {"text", "length" in characters}."""
        for text in texts:
            for segment in split_segments(text, self.characters):
                if not segment.isspace():
                    yield {"text": segment, "length": len(segment)}

    def encode(self, segments: list[str]) -> list[dict[str, Any]]:
        """Return the row of each segment."""
        return [
            _row(self.around, ids[: self.room], words[: self.room])
            for ids, words in encoded_words(self.tokenizer, segments)
        ]

    def __call__(self, batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        segments = [segment["text"] for segment in self.split(batch["text"])]
        return _columns(self.encode(segments) if segments else [])


class FullRows:
    """Fill rows with whole sentences, for a batched `datasets.map` or for a stream. See the module."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer, self.room = tokenizer, max_length - 2
        self.around = tokens_around(tokenizer)

    def split(self, texts: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a stream of texts."""
        for ids, words in self._rows(texts):
            yield _row(self.around, ids, words)

    def __call__(self, batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        return _columns(list(self.split(batch["text"])))

    def _rows(self, texts: Iterable[str]) -> Iterator[Row]:
        row: Row = ([], [])
        next_word = 0
        for sentences in self._sentences(texts):
            for position, (ids, words) in enumerate(sentences):
                numbers = [next_word + word for word in words]
                next_word = numbers[-1] + 1
                separator = 1 if position == 0 and row[0] else 0
                if row[0] and len(row[0]) + separator + len(ids) > self.room:
                    yield row
                    row, separator = ([], []), 0
                if separator:
                    row[0].append(self.around[1])
                    row[1].append(-1)
                row[0].extend(ids)
                row[1].extend(numbers)
                while len(row[0]) > self.room:
                    yield row[0][: self.room], row[1][: self.room]
                    row = row[0][self.room :], row[1][self.room :]
        if row[0]:
            yield row

    def _sentences(self, texts: Iterable[str]) -> Iterator[list[Row]]:
        """Yield the encoded sentences of each text, without empty ones. Encoding several texts at once is faster."""
        stream = iter(texts)
        while split := [SENTENCE.findall(text) for text in islice(stream, _TEXTS)]:
            joined = [sentence for sentences in split for sentence in sentences]
            encoded = encoded_words(self.tokenizer, joined) if joined else iter(())
            for sentences in split:
                yield [found for found in islice(encoded, len(sentences)) if found[0]]


def _row(around: tuple[int, int], ids: list[int], words: list[int]) -> dict[str, Any]:
    start = words[0] if words else 0
    return {
        "input_ids": [around[0], *ids, around[1]],
        "word_ids": [-1, *(word - start if word >= 0 else -1 for word in words), -1],
        "length": len(ids) + 2,
    }


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in ("input_ids", "word_ids", "length")}


__all__ = ["FullRows", "Segments", "encoded_words", "split_segments", "tokens_around"]
