"""Turn a batch of samples into rows: analyse all texts at once, truncate, and add [CLS] and [SEP].

All data are lists of lists over the whole batch. Little more than a slice is done for each sample, because every call
for a sample is made thousands of times in a batch of short texts.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .analysis_wobert import Analysis, Analyzer
from .encoding_wobert import Row, RowEncodings, Window, WoBertEncoding
from .truncation_wobert import truncated_windows

# A sequence: a text, a text that is split into words, or ids.
Input = str | list[str] | list[int]

# Approximate number of characters that are analysed at once when a row is accessed; each text adds _TEXT_OVERHEAD.
_BLOCK = 1 << 14
_TEXT_OVERHEAD = 16


class Batch:
    """Samples of one or two sequences each.

    Args:
        analyzer: the tokenizer's analyzer.
        firsts: the first (or only) sequence of each sample.
        seconds: the second sequence of each sample, None for a single one; None if no sample has a second one.
        special: whether special tokens in texts are recognised.
        spans: whether to compute spans.
        cls_sep: the ids of [CLS] and [SEP], None to leave them out.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        firsts: list[Input],
        seconds: list[Input | None] | None,
        special: bool,
        spans: bool,
        cls_sep: tuple[int, int] | None,
    ) -> None:
        self.analyzer = analyzer
        self.firsts = firsts
        self.seconds = seconds
        self.special = special
        self.cls_sep = cls_sep
        self.rows: list[Row] | None = None  # None: every sample is one row, not truncated.
        # First sequences get [CLS] and [SEP] here, second sequences do not.
        self.ids, self.spans = _analyse_batch(analyzer, firsts, special, spans, cls_sep)
        self.pair_ids: list[list[int] | None] | None = None
        self.pair_spans: list[Any] | None = None
        if seconds is not None:
            with_pair = [i for i, second in enumerate(seconds) if second is not None]
            ids, found = _analyse_batch(analyzer, [seconds[i] for i in with_pair], special, spans, None)
            self.pair_ids, self.pair_spans = [None] * len(firsts), [None] * len(firsts)
            for i, pair_ids, pair_spans in zip(with_pair, ids, found or ids, strict=True):
                self.pair_ids[i], self.pair_spans[i] = pair_ids, pair_spans

    def truncate(self, max_length: int, strategy: str, side: str, stride: int, overflow: bool) -> None:
        """Cut the samples into rows of at most `max_length` tokens, special ones included.

        Raises:
            ValueError: there is no room for the special tokens, or as in `truncated_windows`.
        """
        if self.pair_ids is None and max(map(len, self.ids), default=0) <= max_length:
            return
        rows: list[Row] = []
        for number, ids in enumerate(self.ids):
            lengths = [len(ids) - (2 if self.cls_sep else 0)]
            if self.pair_ids is not None and (pair := self.pair_ids[number]) is not None:
                lengths.append(len(pair))
            special = len(lengths) + 1 if self.cls_sep else 0
            if max_length < special:
                raise ValueError(
                    f"max_length must have room for the {special} special tokens around a "
                    f"{'text' if len(lengths) == 1 else 'pair of texts'}, got {max_length}: use a larger one, or "
                    f"add_special_tokens=False"
                )
            for windows in truncated_windows(lengths, max_length - special, strategy, side, stride, overflow):
                rows.append(Row(number, windows))
        self.rows = rows

    def input_ids(self) -> list[list[int]]:
        cls, sep = self.cls_sep or (0, 0)
        return self._assemble(self.ids, self.pair_ids, cls, sep, sep)

    def offsets(self) -> list[list[Any]]:
        """Return the spans of the tokens of each row; (0, 0) at [CLS] and [SEP]."""
        assert self.spans is not None, "spans were not requested"
        return self._assemble(self.spans, self.pair_spans, (0, 0), (0, 0), (0, 0))

    def special_mask(self) -> list[list[int]]:
        """Return 1 at the [CLS] and [SEP] of each row, and 0 elsewhere, also at special tokens of its text."""
        if self.cls_sep is None:
            firsts = [[0] * len(ids) for ids in self.ids]
        else:
            firsts = [[1, *[0] * (len(ids) - 2), 1] for ids in self.ids]
        return self._assemble(firsts, self._pairs_of(0), 1, 1, 1)

    def type_ids(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the token types of rows with the shapes of `rows`: 0 up to the first [SEP], then 1."""
        if self.pair_ids is None:
            return [[0] * len(row) for row in rows]
        return self._assemble([[0] * len(ids) for ids in self.ids], self._pairs_of(1), 0, 0, 1)

    def samples(self) -> list[int]:
        """Return the sample number of each row."""
        return list(range(len(self.ids))) if self.rows is None else [row.sample for row in self.rows]

    def _pairs_of(self, value: int) -> list[list[int] | None] | None:
        """Return `value` for each token of the second sequences."""
        if self.pair_ids is None:
            return None
        return [None if ids is None else [value] * len(ids) for ids in self.pair_ids]

    def _assemble(
        self, firsts: list[Any], seconds: list[Any] | None, cls: Any, sep: Any, last_sep: Any
    ) -> list[list[Any]]:
        """Return rows with one value for each token.

        Args:
            firsts: values of the first sequences, including those of [CLS] and [SEP].
            seconds: values of the second sequences, without special tokens.
            cls: value of [CLS], for truncated rows.
            sep: value of the [SEP] of the first sequence, for truncated rows.
            last_sep: value of the [SEP] of the second sequence.
        """
        if self.rows is None and seconds is None:
            return firsts
        framed = self.cls_sep is not None
        assembled = []
        for sample, windows in self.rows or [Row(number, ()) for number in range(len(firsts))]:
            row = firsts[sample]
            second = None if seconds is None else seconds[sample]
            if windows:
                start, end = windows[0]
                row = [cls, *row[start + 1 : end + 1], sep] if framed else row[start:end]
                if second is not None:
                    second = second[slice(*windows[1])]
            if second is not None:
                row = [*row, *second, last_sep] if framed else [*row, *second]
            assembled.append(row)
        return assembled

    def encodings(
        self,
        rows: Sequence[Sequence[int]],
        target: int | None,
        side: str,
        pad: tuple[int, int],
        token_of: Callable[[int], str],
    ) -> RowEncodings:
        """Return the objects behind `word_ids()` and similar methods, for `rows` padded to `target` tokens."""
        lengths = [len(row) for row in rows]
        analysed: dict[int, list[Analysis]] = {}

        def make(number: int) -> WoBertEncoding:
            sample = number if self.rows is None else self.rows[number].sample
            if sample not in analysed:
                self._analyse_from(sample, analysed)
            found = analysed[sample]
            windows = tuple(Window(0, len(analysis.ids)) for analysis in found)
            if self.rows is not None:
                windows = self.rows[number].windows
            missing = 0 if target is None else max(0, target - lengths[number])
            padding = (missing, 0) if side == "left" else (0, missing)
            return WoBertEncoding(windows, found, token_of, self.cls_sep, padding, pad)

        return RowEncodings(len(rows), make)

    def _analyse_from(self, sample: int, analysed: dict[int, list[Analysis]]) -> None:
        """Analyse a block of samples from this one on, because callers usually read the rows in order."""
        sequences: list[Input] = []
        of_sample: list[int] = []
        size = 0
        for number in range(sample, len(self.firsts)):
            if number in analysed or size >= _BLOCK:
                break
            for sequence in (self.firsts[number], None if self.seconds is None else self.seconds[number]):
                if sequence is not None:
                    sequences.append(sequence)
                    of_sample.append(number)
                    size += _TEXT_OVERHEAD + sum(map(len, _words_of(sequence)))
        block: dict[int, list[Analysis]] = {}
        found = _analyses(self.analyzer, sequences, self.special)
        for number, analysis in zip(of_sample, found, strict=True):
            block.setdefault(number, []).append(analysis)
        # In one call, so that another thread finds all sequences of a sample or none.
        analysed.update(block)


def _analyses(analyzer: Analyzer, sequences: list[Any], special: bool) -> list[Analysis]:
    """Return the analyses of sequences. If a text is split into words, spans count within a word of it."""
    if all(isinstance(sequence, str) for sequence in sequences):
        return analyzer.analyses(sequences, special)
    if any(isinstance(sequence, str) for sequence in sequences):
        return [_analyses(analyzer, [sequence], special)[0] for sequence in sequences]
    ids, spans = analyzer.batch([word for sequence in sequences for word in _words_of(sequence)], special, True)
    assert spans is not None
    of_words = zip(ids, spans, strict=True)
    results = []
    for sequence in sequences:
        result = Analysis([], [], [])
        if _is_ids(sequence):
            result = Analysis(list(map(int, sequence)), [(0, 0)] * len(sequence), list(range(len(sequence))))
        for number, (word_ids, word_spans) in enumerate(itertools.islice(of_words, len(_words_of(sequence)))):
            result.ids.extend(word_ids)
            result.spans.extend(word_spans)
            result.words.extend([number] * len(word_ids))
        results.append(result)
    return results


def _analyse_batch(
    analyzer: Analyzer, sequences: list[Any], special: bool, spans: bool, cls_sep: tuple[int, int] | None
) -> tuple[list[list[int]], list[Any] | None]:
    """Return the ids and, on request, the spans of sequences, between [CLS] and [SEP] if these are given."""
    if all(type(sequence) is str for sequence in sequences):
        return analyzer.batch(sequences, special, spans, cls_sep)
    words = [word for sequence in sequences for word in _words_of(sequence)]
    ids, found = analyzer.batch(words, special, spans)
    of_words: Iterator[tuple[list[int], list[Any]]] = iter(zip(ids, found or ids, strict=True))
    all_ids: list[list[int]] = []
    all_spans: list[Any] = []
    for sequence in sequences:
        row: list[int] = []
        row_spans: list[Any] = []
        if _is_ids(sequence):
            row, row_spans = list(sequence), [(0, 0)] * len(sequence)
        for _ in _words_of(sequence):
            word_ids, word_spans = next(of_words)
            row += word_ids
            row_spans += word_spans
        if cls_sep is not None:
            row, row_spans = [cls_sep[0], *row, cls_sep[1]], [(0, 0), *row_spans, (0, 0)]
        all_ids.append(row)
        all_spans.append(row_spans)
    return all_ids, all_spans if spans else None


def _is_ids(sequence: Any) -> bool:
    return not isinstance(sequence, str) and len(sequence) > 0 and not isinstance(sequence[0], str)


def _words_of(sequence: Any) -> list[str]:
    """Return the strings of a sequence: the text, its words, or none for ids."""
    if isinstance(sequence, str):
        return [sequence]
    return [] if _is_ids(sequence) else sequence


def read_inputs(text: Any, pair: Any, in_words: bool) -> tuple[list[Input], list[Input | None] | None, bool]:
    """Return the first and second sequences of the tokenizer's arguments, and whether they are a batch.

    A sequence is a string, a list of words (`in_words`), or a list of ids; a batch is a list of sequences or of pairs.

    Raises:
        ValueError: an argument has another type.
    """
    text, pair = _as_list(text), _as_list(pair)
    if not _is_batch(text, in_words):
        return [_sequence(text, in_words)], None if pair is None else [_sequence(pair, in_words)], False
    if pair is not None and (not isinstance(pair, (list, tuple)) or len(pair) != len(text)):
        raise ValueError(
            f"for a batch of {len(text)} texts, text_pair must be a list of {len(text)} texts, got "
            f"{len(pair) if isinstance(pair, (list, tuple)) else type(pair).__name__}"
        )
    if pair is None and all(type(sample) is str for sample in text):
        return list(text), None, True
    firsts: list[Input] = []
    seconds: list[Input | None] = []
    for number, sample in enumerate(text):
        second = None if pair is None else pair[number]
        sample = _as_list(sample)
        if second is None and _is_pair(sample, in_words):
            sample, second = sample
        elif isinstance(sample, (list, tuple)) and len(sample) == 1 and isinstance(sample[0], str) and not in_words:
            sample = sample[0]
        firsts.append(_sequence(sample, in_words))
        seconds.append(None if second is None else _sequence(_as_list(second), in_words))
    return firsts, seconds if any(second is not None for second in seconds) else None, True


def _as_list(value: Any) -> Any:
    """Convert arrays and columns (numpy, pandas, datasets) to lists."""
    if value is None or isinstance(value, (str, list, tuple)):
        return value
    if hasattr(value, "tolist"):
        return value.tolist()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)) else value


def _is_batch(text: Any, in_words: bool) -> bool:
    if not isinstance(text, (list, tuple)):
        return False
    if not text:
        return not in_words
    return isinstance(_as_list(text[0]), (list, tuple)) or (not in_words and isinstance(text[0], str))


def _is_pair(sample: Any, in_words: bool) -> bool:
    """Return whether a member of a batch is a pair. If texts are split into words, only a tuple is a pair."""
    if not isinstance(sample, (list, tuple)) or len(sample) != 2 or (in_words and not isinstance(sample, tuple)):
        return False
    kinds = (list, tuple) if in_words else (str, list, tuple)
    return all(isinstance(part, kinds) for part in sample)


def _sequence(value: Any, in_words: bool) -> Input:
    if isinstance(value, str):
        return [value] if in_words else value
    if isinstance(value, (list, tuple)):
        if in_words and all(isinstance(word, str) for word in value):
            return list(value)
        if not any(isinstance(item, (str, list, tuple)) or item is None for item in value):
            return [int(item) for item in value]
    raise ValueError(
        "a text must be a string, a list of words with is_split_into_words=True, or a list of ids, and a batch a list "
        f"of these or of pairs of them; got {type(value).__name__}: {str(value)[:60]!r}"
    )


__all__ = ["Batch", "read_inputs"]
