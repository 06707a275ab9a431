"""The rows behind `word_ids()`, `char_to_token()` and similar methods: one object per row of a batch.

They have the attributes and methods of `tokenizers.Encoding` that transformers' BatchEncoding reads. They cost nothing
until they are used: the first access to a row analyses a block of texts again, with words.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np

from .analysis_wobert import Analysis, Span

# The attributes of a row that are pickled.
_STATE = (
    "ids",
    "type_ids",
    "tokens",
    "offsets",
    "attention_mask",
    "word_ids",
    "sequence_ids",
    "n_sequences",
    "overflowing",
)


class Window(NamedTuple):
    """The part of a sequence in a row: tokens start ... end-1."""

    start: int
    end: int


class Row(NamedTuple):
    """The source of a row: the number of its sample, and its window of each sequence of that sample."""

    sample: int
    windows: tuple[Window, ...]


class WoBertEncoding:
    """One row: its tokens and their sources. Spans are (0, 0) and words None at added tokens.

    `word_ids` number the words within their sequence, `offsets` count characters within their sequence (within the
    given word if the text came in words).

    Args:
        windows: one per sequence.
        analyses: the analysis of each whole sequence.
        token_of: id -> token.
        cls_sep: ids of [CLS] and [SEP], None without them.
        padding: number of [PAD] on the left and on the right.
        pad: id and token type of [PAD].
    """

    def __init__(
        self,
        windows: Sequence[Window],
        analyses: Sequence[Analysis],
        token_of: Callable[[int], str],
        cls_sep: tuple[int, int] | None,
        padding: tuple[int, int],
        pad: tuple[int, int],
    ) -> None:
        self.n_sequences = len(windows)
        self.overflowing: list[WoBertEncoding] = []
        self._parts = [slice(*window) for window in windows]
        self._sizes = [window.end - window.start for window in windows]
        self._analyses = analyses
        self._token_of = token_of
        self._cls_sep = cls_sep
        self._padding = padding
        self._pad = pad

    # Computed on first access: a caller that needs words only does not pay for the rest.

    @cached_property
    def ids(self) -> list[int]:
        cls, sep = self._cls_sep or (None, None)
        parts = [found.ids[part] for found, part in zip(self._analyses, self._parts, strict=True)]
        return self._row(parts, cls, sep, self._pad[0])

    @cached_property
    def type_ids(self) -> list[int]:
        row = self._row([[number] * size for number, size in enumerate(self._sizes)], 0, None, self._pad[1])
        if self._cls_sep is not None:
            # The [SEP] of a sequence has the sequence's type.
            place = self._padding[0]
            for number, size in enumerate(self._sizes):
                place += size + 1
                row[place] = number
        return row

    @cached_property
    def tokens(self) -> list[str]:
        return [self._token_of(index) for index in self.ids]

    @cached_property
    def offsets(self) -> list[Span]:
        parts = [found.spans[part] for found, part in zip(self._analyses, self._parts, strict=True)]
        return self._row(parts, (0, 0), (0, 0), (0, 0))

    @cached_property
    def attention_mask(self) -> list[int]:
        return self._row([[1] * size for size in self._sizes], 1, 1, 0)

    @cached_property
    def word_ids(self) -> list[int | None]:
        parts = [found.words[part] for found, part in zip(self._analyses, self._parts, strict=True)]
        return self._row(parts, None, None, None)

    @cached_property
    def sequence_ids(self) -> list[int | None]:
        return self._row([[number] * size for number, size in enumerate(self._sizes)], None, None, None)

    def _row(self, parts: Sequence[Sequence[Any]], cls: Any, sep: Any, pad: Any) -> list[Any]:
        """Join the values of each sequence's tokens with those of the added tokens."""
        row = [pad] * self._padding[0]
        if self._cls_sep is not None:
            row.append(cls)
        for part in parts:
            row += part
            if self._cls_sep is not None:
                row.append(sep)
        row += [pad] * self._padding[1]
        return row

    def __getstate__(self) -> dict[str, Any]:
        # Pickle the row without the tokenizer, and without the overflow.
        return {name: getattr(self, name) for name in _STATE}

    @property
    def words(self) -> list[int | None]:
        return self.word_ids

    @property
    def special_tokens_mask(self) -> list[int]:
        return [int(sequence is None) for sequence in self.sequence_ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"WoBertEncoding(num_tokens={len(self)}, n_sequences={self.n_sequences})"

    def token_to_sequence(self, token: int) -> int | None:
        return self.sequence_ids[token]

    def token_to_word(self, token: int) -> int | None:
        return self.word_ids[token]

    def token_to_chars(self, token: int) -> Span | None:
        return None if self.sequence_ids[token] is None else self.offsets[token]

    def char_to_token(self, char: int, sequence_index: int = 0) -> int | None:
        tokens = self._tokens_of_chars.get(sequence_index, ())
        token = int(tokens[char]) if 0 <= char < len(tokens) else -1
        return None if token < 0 else token

    def char_to_word(self, char: int, sequence_index: int = 0) -> int | None:
        token = self.char_to_token(char, sequence_index)
        return None if token is None else self.word_ids[token]

    def word_to_tokens(self, word: int, sequence_index: int = 0) -> Span | None:
        return self._tokens_of_words.get((sequence_index, word))

    def word_to_chars(self, word: int, sequence_index: int = 0) -> Span | None:
        tokens = self.word_to_tokens(word, sequence_index)
        return None if tokens is None else (self.offsets[tokens[0]][0], self.offsets[tokens[1] - 1][1])

    # Cached, since callers loop over a text: scanning the row each time would be quadratic.

    @cached_property
    def _tokens_of_chars(self) -> dict[int, np.ndarray]:
        """Return, for each sequence and each of its characters, the first token that covers it, or -1."""
        tokens = {}
        for sequence in {sequence for sequence in self.sequence_ids if sequence is not None}:
            spans = [
                (token, *span)
                for token, (span, of) in enumerate(zip(self.offsets, self.sequence_ids, strict=True))
                if of == sequence
            ]
            first = np.full(max(end for _, _, end in spans), -1, dtype=np.int32)
            for token, start, end in reversed(spans):
                first[start:end] = token
            tokens[sequence] = first
        return tokens

    @cached_property
    def _tokens_of_words(self) -> dict[tuple[int | None, int], Span]:
        """Return, for each sequence and word, its first token and the one after its last."""
        tokens: dict[tuple[int | None, int], Span] = {}
        for token, (word, sequence) in enumerate(zip(self.word_ids, self.sequence_ids, strict=True)):
            if word is not None:
                tokens[sequence, word] = (tokens.get((sequence, word), (token, 0))[0], token + 1)
        return tokens


class RowEncodings(Sequence[WoBertEncoding]):
    """The encodings of all rows of a batch, created on access.

    Args:
        rows: number of rows.
        make: creates the encoding of one row.
    """

    def __init__(self, rows: int, make: Callable[[int], WoBertEncoding]) -> None:
        self._made: list[WoBertEncoding | None] = [None] * rows
        self._make = make

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, index: int) -> WoBertEncoding: ...
    @overload
    def __getitem__(self, index: slice) -> list[WoBertEncoding]: ...
    def __getitem__(self, index: int | slice) -> WoBertEncoding | list[WoBertEncoding]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        made = self._made[index]
        if made is None:
            made = self._made[index] = self._make(index % len(self))
        return made

    def __iter__(self) -> Iterator[WoBertEncoding]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle the rows, not the tokenizer that creates them.
        return list, (list(self),)


__all__ = ["Row", "RowEncodings", "Window", "WoBertEncoding"]
