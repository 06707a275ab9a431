"""Convert texts to ids and spans: normalise, cut into words, look each word up.

This is the fast core of the tokenizer. A whole chunk of texts is cut at once, and every further step handles all
characters of the chunk together. Its arrays hold, for each character, the id and the length of the token that begins
there, or `NONE`. `WordTable` looks up arrays of characters and short words; the other words go one by one through a
bounded cache of records. The lists of a batch share their integers and (start, end) tuples, because allocating a
million small objects would take most of the time. A few short texts use only the cache. Words are numbered in a second
pass, only on request. `analyse` computes the same for one text in plain Python, and the tests compare the two.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .normalization_wobert import Normalizer
from .segmentation_wobert import Segmenter
from .word_table_wobert import ASK, NONE, WordTable, all_chinese, codes_of
from .wordpiece_wobert import WordPieces

Span = tuple[int, int]

# Limits of the cache, in words and in characters per word: a corpus must not fill the memory.
_CACHED_WORDS = 1 << 17
_CACHED_LENGTH = 64
# Approximate number of characters that are cut at once.
_CHUNK = 1 << 16
# Between the texts of a chunk: a noncharacter, at which both segmenters and the normaliser separate their context.
_SEPARATOR = "\uffff"
# Texts of smaller chunks are faster one by one. Measured, in characters; each text adds _TEXT_OVERHEAD.
_SMALL = 2000
_TEXT_OVERHEAD = 30
# Spans (start, start + length) that are shared: those with start and length below these limits.
_SHARED_STARTS = 2048
_SHARED_LENGTHS = 16
# Ids below this are created once as Python integers; otherwise a batch would create a million of them.
_SHARED_NUMBERS = 1 << 16


class Analysis(NamedTuple):
    """The tokens of one text: ids, spans in the raw text, and word numbers (from 0).

    Words that leave no token, such as spaces, are not counted.
    """

    ids: list[int]
    spans: list[Span]
    words: list[int]


class SpecialToken(NamedTuple):
    """A token that is found in the text before it is cut into words."""

    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


# A part of a text: start, end, and its special token, or None for plain text.
Part = tuple[int, int, SpecialToken | None]


class _Records(dict[str, bytes]):
    """Word -> its records, computed on first sight; cleared when full.

    A record is two int32: (id, n) for a token of n characters, (-1, -n) for n characters without a token.
    """

    def __init__(self, pieces: WordPieces) -> None:
        super().__init__()
        self._pieces = pieces

    def __missing__(self, word: str) -> bytes:
        flat = []
        position = 0
        for index, start, end in self._pieces(word):
            if start > position:
                flat += [NONE, position - start]
            flat += [index, end - start]
            position = end
        if position < len(word):
            flat += [NONE, position - len(word)]
        records = np.array(flat, dtype=np.int32).tobytes()
        if len(word) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_WORDS:
                self.clear()
            self[word] = records
        return records


class Analyzer:
    """Convert texts to ids and spans. Immutable except for its caches; threads may share it.

    Args:
        vocabulary: token -> id.
        unk_id: the id of text that cannot be spelt.
        lower: whether to lower-case and drop accents.
        user_words: words to cut as one unit, in upper or lower case.
        special_tokens: tokens that are found in the text before anything else.
        backend: name of the segmenter, see `Segmenter`.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        unk_id: int,
        lower: bool = True,
        user_words: Iterable[str] = (),
        special_tokens: Iterable[SpecialToken] = (),
        backend: str | None = None,
    ) -> None:
        self.normalize = Normalizer(lower)
        words = list(dict.fromkeys(map(self.normalize, user_words)))
        self.segment = Segmenter(words, backend)
        # A word that contains the separator would be found across texts.
        self._joins = not any(_SEPARATOR in word for word in words)
        self.pieces = WordPieces(vocabulary, unk_id)
        self._records = _Records(self.pieces)
        self._table = WordTable(self.pieces.vocabulary, unk_id)
        special_tokens = list(special_tokens)
        self._raw_special = _SpecialFinder([t for t in special_tokens if not t.normalized])
        self._normalized_special = _SpecialFinder(
            [t._replace(content=self.normalize(t.content)) for t in special_tokens if t.normalized]
        )

    def batch(
        self, texts: Sequence[str], special: bool = True, spans: bool = False, cls_sep: tuple[int, int] | None = None
    ) -> tuple[list[list[int]], list[list[Span]] | None]:
        """Return the ids and, on request, the spans of many texts.

        Args:
            texts: raw texts.
            special: whether to recognise special tokens, or treat them as ordinary text.
            spans: whether to return spans.
            cls_sep: ids to put around each text, with the span (0, 0).
        """
        if not special or not any(map(self._has_special, texts)):
            return self._plain(texts, spans, cls_sep)
        layouts, plain = self._layouts(texts)
        ids, found = self._plain(plain, spans, None)
        parts: Iterator[tuple[list[int], list[Any]]] = iter(zip(ids, found or ids, strict=True))
        all_ids, all_spans = [], []
        for layout in layouts:
            text_ids, text_spans = ([], []) if cls_sep is None else ([cls_sep[0]], [(0, 0)])
            for start, end, token in layout:
                if token is not None:
                    text_ids.append(token.id)
                    text_spans.append((start, end))
                    continue
                part_ids, part_spans = next(parts)
                text_ids += part_ids
                if spans:
                    text_spans += [(start + a, start + b) for a, b in part_spans] if start else part_spans
            if cls_sep is not None:
                text_ids.append(cls_sep[1])
                text_spans.append((0, 0))
            all_ids.append(text_ids)
            all_spans.append(text_spans)
        return all_ids, all_spans if spans else None

    def analyses(self, texts: Sequence[str], special: bool = True) -> list[Analysis]:
        """Return `analyse` of many texts, nearly as fast as `batch`."""
        if not special or not any(map(self._has_special, texts)):
            results: list[Analysis] = []
            for part, many in self._chunks(texts):
                if many:
                    results += map(Analysis, *self._chunk(part, True, None, True))
                else:
                    results += [self.analyse(text, False) for text in part]
            return results
        layouts, plain = self._layouts(texts)
        parts = iter(self.analyses(plain, False))
        return [_joined(layout, parts) for layout in layouts]

    def _layouts(self, texts: Sequence[str]) -> tuple[list[list[Part]], list[str]]:
        """Split texts at special tokens: the parts of each text, and all parts that are plain text."""
        layouts = [list(self._parts(text)) for text in texts]
        plain = [
            text[start:end]
            for text, layout in zip(texts, layouts, strict=True)
            for start, end, token in layout
            if token is None
        ]
        return layouts, plain

    def _plain(
        self, texts: Sequence[str], spans: bool, cls_sep: tuple[int, int] | None
    ) -> tuple[list[list[int]], list[list[Span]] | None]:
        """Return `batch` of texts without special tokens."""
        all_ids: list[list[int]] = []
        all_spans: list[list[Span]] = []
        for part, many in self._chunks(texts):
            if many:
                ids, found, _ = self._chunk(part, spans, cls_sep)
            else:
                ids, found = self._one_by_one(part, spans, cls_sep)
            all_ids += ids
            all_spans += found
        return all_ids, all_spans if spans else None

    def _chunks(self, texts: Sequence[str]) -> Iterator[tuple[Sequence[str], bool]]:
        """Group texts into chunks; each comes with a flag whether it is large enough to be cut at once."""
        first = size = 0
        for number, text in enumerate(texts, 1):
            size += len(text)
            if size >= _CHUNK or number == len(texts):
                yield texts[first:number], self._joins and size + _TEXT_OVERHEAD * (number - first) >= _SMALL
                first, size = number, 0

    def _chunk(
        self, texts: Sequence[str], spans: bool, cls_sep: tuple[int, int] | None, words: bool = False
    ) -> tuple[list[list[int]], list[list[Span]], list[list[int]]]:
        """Return the ids, spans and words of texts that are cut at once; spans and words only on request.

        `words` requires `spans`, and no `cls_sep`.
        """
        normals = list(map(self.normalize, texts))
        joined = _SEPARATOR + (2 * _SEPARATOR).join(normals) + _SEPARATOR
        lengths = np.array(list(map(len, normals)), dtype=np.int64)
        base = np.cumsum(lengths + 2) - lengths - 1  # position of each text's first character
        # For each character of the joined text: the id and the length of the token that begins there.
        codes = codes_of(joined)
        ids = self._table.characters[codes]
        sizes = np.ones(len(ids), dtype=np.int64) if spans else None
        ids[base - 1], ids[base + lengths] = cls_sep or (NONE, NONE)
        length = self._find(self.segment(joined), codes, ids, sizes)
        start = np.flatnonzero(ids >= 0)
        firsts, lasts = np.searchsorted(start, base - 1), np.searchsorted(start, base + lengths, "right")
        bounds = list(zip(firsts.tolist(), lasts.tolist(), strict=True))
        numbers = _numbers(ids[start])
        all_ids = [numbers[first:last].tolist() for first, last in bounds]
        if sizes is None:
            return all_ids, [], []
        all_words = []
        if words:
            ranks = _numbers(_ranks(np.repeat(np.arange(len(length)), length)[start], firsts, lasts)).tolist()
            all_words = [ranks[first:last] for first, last in bounds]
        end = start + sizes[start]
        offset = np.repeat(base, lasts - firsts)
        start -= offset
        end -= offset
        if cls_sep is not None:
            for around in (firsts, lasts - 1):
                start[around] = end[around] = 0
        inner = 0 if cls_sep is None else 1
        for text, normal, (first, last) in zip(texts, normals, bounds, strict=True):
            if normal is not text:
                part = slice(first + inner, last - inner)
                start[part], end[part] = self._in_raw(text, normal, start[part], end[part])
        tuples = _tuples(start, end)
        return all_ids, [tuples[first:last] for first, last in bounds], all_words

    def _find(self, words: list[str], codes: np.ndarray, ids: np.ndarray, sizes: np.ndarray | None) -> np.ndarray:
        """Write the tokens of words to the positions where they begin, in `ids` and `sizes`.

        `ids` already holds the tokens of single characters.

        Returns:
            The length of each word.
        """
        length = np.fromiter(map(len, words), np.int64, len(words))
        start = np.cumsum(length) - length
        unknown = ids[start] == ASK
        multiple = np.flatnonzero(length > 1)
        first, size = start[multiple], length[multiple]
        found = self._table.find(codes, first, size)
        # Chinese words that are not found become characters, which `ids` holds already.
        missing = np.flatnonzero(found < 0)
        unknown[multiple] = False
        unknown[multiple[missing]] = ~all_chinese(codes, first[missing], size[missing])
        hits = np.flatnonzero(found >= 0)
        first, size = first[hits], size[hits]
        ids[first] = found[hits]
        if sizes is not None:
            sizes[first] = size
        for place in range(1, int(size.max(initial=0))):
            ids[first[size > place] + place] = NONE
        # The rest goes through the cache: new single characters, longer words, Latin words.
        uncached = np.flatnonzero(unknown)
        if not len(uncached):
            return length
        size = length[uncached]
        single = start[uncached[size == 1]]
        places = np.arange(size.sum()) + np.repeat(start[uncached] - np.cumsum(size) + size, size)
        records = np.frombuffer(self._look_up([words[i] for i in uncached.tolist()]), dtype=np.int32).reshape(-1, 2)
        steps = np.abs(records[:, 1])
        begin = places[np.cumsum(steps) - steps]
        ids[places] = NONE
        ids[begin] = records[:, 0]
        if sizes is not None:
            sizes[begin] = steps
        self._table.learn(codes[single], ids[single])
        return length

    def _one_by_one(
        self, texts: Sequence[str], spans: bool, cls_sep: tuple[int, int] | None
    ) -> tuple[list[list[int]], list[list[Span]]]:
        """Return `_chunk` of a few short texts, for which its hundred numpy calls cost more than they save."""
        all_ids, all_spans = [], []
        for text in texts:
            normal = self.normalize(text)
            records = self._look_up(self.segment(normal))
            ids = memoryview(records).cast("i").tolist()[::2]
            if NONE in ids:
                ids = [index for index in ids if index != NONE]
            all_ids.append(ids if cls_sep is None else [cls_sep[0], *ids, cls_sep[1]])
            if spans:
                step = np.frombuffer(records, dtype=np.int32)[1::2]
                kept = step > 0
                end = np.cumsum(np.abs(step), dtype=np.int64)[kept]
                tuples = _tuples(*self._in_raw(text, normal, end - step[kept], end))
                all_spans.append(tuples if cls_sep is None else [(0, 0), *tuples, (0, 0)])
        return all_ids, all_spans

    def _look_up(self, words: Iterable[str]) -> bytes:
        """Return the concatenated records of words."""
        return b"".join(map(self._records.__getitem__, words))

    def _in_raw(self, text: str, normal: str, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Convert positions in the normal form of a text to positions in the text."""
        if normal is text or self.normalize.is_aligned(text, normal):
            return start, end
        source = np.array(self.normalize.sources(text), dtype=np.int64)
        return source[start], source[end - 1] + 1

    def _has_special(self, text: str) -> bool:
        if self._raw_special.search is not None and self._raw_special.search(text) is not None:
            return True
        find = self._normalized_special.search
        return find is not None and find(self.normalize(text)) is not None

    def _parts(self, text: str) -> Iterator[Part]:
        """Split a text into special tokens and the parts between them."""
        if self._normalized_special.search is None:
            yield from self._raw_special.split(text)
            return
        for start, end, token in self._raw_special.split(text):
            part = text[start:end]
            if token is not None or self._normalized_special.search(self.normalize(part)) is None:
                yield start, end, token
                continue
            source = self.normalize.sources(part)
            source.append(len(part))
            last = 0
            for _, stop, found in self._normalized_special.split(self.normalize(part)):
                # Up to the start of the next part: a dropped mark belongs to the character before it.
                first, last = last, source[stop]
                yield start + first, start + last, found

    def analyse(self, text: str, special: bool = True) -> Analysis:
        """Return the ids, spans and words of one text."""
        result = Analysis([], [], [])
        for start, end, token in self._parts(text) if special else [(0, len(text), None)]:
            if token is not None:
                _append_word(result, [(token.id, start, end)])
            else:
                self._analyse_plain(text[start:end], start, result)
        return result

    def _analyse_plain(self, text: str, offset: int, result: Analysis) -> None:
        normal = self.normalize(text)
        source = range(len(text)) if self.normalize.is_aligned(text, normal) else self.normalize.sources(text)
        position = 0
        for word in self.segment(normal):
            tokens = []
            for index, start, end in self.pieces(word):
                first, last = source[position + start], source[position + end - 1] + 1
                tokens.append((index, offset + first, offset + last))
            _append_word(result, tokens)
            position += len(word)


def _append_word(result: Analysis, tokens: Sequence[tuple[int, int, int]]) -> None:
    number = result.words[-1] + 1 if result.words else 0
    for index, start, end in tokens:
        result.ids.append(index)
        result.spans.append((start, end))
        result.words.append(number)


def _joined(layout: Iterable[Part], plain: Iterator[Analysis]) -> Analysis:
    """Return the analysis of a text from its layout and the analyses of its plain parts, taken from an iterator."""
    result = Analysis([], [], [])
    for start, end, token in layout:
        if token is not None:
            _append_word(result, [(token.id, start, end)])
            continue
        ids, spans, words = next(plain)
        number = result.words[-1] + 1 if result.words else 0
        result.ids.extend(ids)
        result.spans.extend((start + a, start + b) for a, b in spans)
        result.words.extend(number + word for word in words)
    return result


def _ranks(words: np.ndarray, firsts: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """Return, for each token, the number of words with a token that precede its own word in its text.

    Args:
        words: word number of each token, ascending; texts share no word.
        firsts, lasts: for each text its first token, and the one after its last.
    """
    if not len(words):
        return words
    ranks = np.cumsum(np.diff(words, prepend=words[0]) != 0)
    # A text without tokens at the end has no first token.
    return ranks - np.repeat(ranks[np.minimum(firsts, len(ranks) - 1)], lasts - firsts)


class _SpecialFinder:
    """Find special tokens in a text, from the left, the longest first."""

    def __init__(self, tokens: Sequence[SpecialToken]) -> None:
        self._tokens = {token.content: token for token in tokens if token.content}
        contents = sorted(self._tokens, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, contents))) if contents else None
        self.search = pattern.search if pattern is not None else None

    def split(self, text: str) -> Iterator[Part]:
        """Yield the parts of `text` in order."""
        position = start = 0
        while self.search is not None and (match := self.search(text, start)) is not None:
            token = self._tokens[match.group()]
            start, end = match.span()
            if token.single_word and (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
                start = end
                continue
            # Not in the pattern, which would scan a run of spaces again from each of its characters.
            while token.lstrip and start > position and text[start - 1].isspace():
                start -= 1
            while token.rstrip and end < len(text) and text[end].isspace():
                end += 1
            if start > position:
                yield position, start, None
            yield start, end, token
            position = start = end
        if position < len(text):
            yield position, len(text), None


_shared_numbers: np.ndarray | None = None


def _numbers(ids: np.ndarray) -> np.ndarray:
    """Return ids as an array of Python integers that all texts share, if they are small enough."""
    global _shared_numbers
    if _shared_numbers is None:
        _shared_numbers = np.arange(_SHARED_NUMBERS).astype(object)
    return _shared_numbers[ids] if ids.max(initial=0) < _SHARED_NUMBERS else ids


_shared_spans: np.ndarray | None = None


def _tuples(start: np.ndarray, end: np.ndarray) -> list[Span]:
    """Return [(start, end), ...], most of them shared between texts."""
    global _shared_spans
    if _shared_spans is None:
        table = np.empty(_SHARED_STARTS * _SHARED_LENGTHS, dtype=object)
        table[:] = [(s, s + n) for s in range(_SHARED_STARTS) for n in range(_SHARED_LENGTHS)]
        _shared_spans = table
    length = end - start
    shared = (start < _SHARED_STARTS) & (length < _SHARED_LENGTHS)
    spans = _shared_spans[np.where(shared, start * _SHARED_LENGTHS + length, 0)]
    for index in np.flatnonzero(~shared).tolist():
        spans[index] = (int(start[index]), int(end[index]))
    result: list[Span] = spans.tolist()
    return result


__all__ = ["Analysis", "Analyzer", "Span", "SpecialToken"]
