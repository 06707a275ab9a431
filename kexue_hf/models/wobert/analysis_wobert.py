"""Texts to ids and spans: normalise, cut into words, look each word up in a cache of what it becomes.

The fast core of the tokenizer. A whole chunk of texts is cut at once, and every word then stands for a few bytes, the
ids and lengths of its pieces, that wait in a bounded cache; joined, they are one array of the chunk, whose cumulative
sum gives all spans. The (start, end) tuples come out of a table that all texts share, for it is the allocation of a
million small tuples that costs. `analyse` computes the same for one text in plain Python, with words; the tests hold
one against the other.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .normalization_wobert import Normalizer
from .segmentation_wobert import Segmenter
from .wordpiece_wobert import WordPieces

Span = tuple[int, int]

# Words in the cache beside the vocabulary, and the longest that is worth keeping: a corpus must not fill the memory.
_CACHED_WORDS = 1 << 17
_CACHED_LENGTH = 64
# Characters that are cut at once, about.
_CHUNK = 1 << 16
# Between the texts of a chunk: a noncharacter, at which both segmenters and the normaliser part what is around it.
_SEPARATOR = "\uffff"
# Spans (start, start + length) that are shared: start and length below these.
_SHARED_STARTS = 2048
_SHARED_LENGTHS = 16
# Words of which every character is a word of its own to BERT.
_all_chinese = re.compile("[\u4e00-\u9fff]+").fullmatch


class Analysis(NamedTuple):
    """What one text becomes: per token its id, its span in the raw text, and the number of its word (from 0).

    Words that leave no token, such as spaces, are not counted.
    """

    ids: list[int]
    spans: list[Span]
    words: list[int]


class SpecialToken(NamedTuple):
    """A token that is found in the text as it stands, before words are."""

    id: int
    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


class _Records(dict[str, bytes]):
    """Word -> its records, computed on first sight; starts over when it is full.

    A record is two int32: (id, n) for a token of n characters, (-1, -n) for n characters that belong to none. The
    separator has two records of n = 0, which become [SEP] of one text and [CLS] of the next.
    """

    def __init__(self, pieces: WordPieces) -> None:
        self._pieces = pieces
        vocabulary = pieces.vocabulary
        packed = np.array([(index, len(word)) for word, index in vocabulary.items()], dtype=np.int32).tobytes()
        self._seed = {word: packed[8 * i : 8 * i + 8] for i, word in enumerate(vocabulary)}
        self._seed[_SEPARATOR] = bytes(16)
        super().__init__(self._seed)

    def __missing__(self, word: str) -> bytes:
        if word in self._seed:  # Another thread is starting the cache over.
            return self._seed[word]
        if len(word) > 1 and _all_chinese(word):
            records = b"".join(map(self.__getitem__, word))
        else:
            flat = []
            position = 0
            for index, start, end in self._pieces(word):
                if start > position:
                    flat += [-1, position - start]
                flat += [index, end - start]
                position = end
            if position < len(word):
                flat += [-1, position - len(word)]
            records = np.array(flat, dtype=np.int32).tobytes()
        if len(word) <= _CACHED_LENGTH:
            if len(self) >= len(self._seed) + _CACHED_WORDS:
                self.clear()
                self.update(self._seed)
            self[word] = records
        return records


class Analyzer:
    """Turns texts into ids and spans. Not changed once made, but for its caches; safe to share between threads.

    Args:
        vocabulary: token -> id.
        unk_id: the id of what cannot be spelt.
        lower: whether to lower-case and drop accents.
        user_words: words to be cut as one unit, in any case.
        special_tokens: found in the text before anything else.
        backend: which segmenter, see `Segmenter`.
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
        self.segment = Segmenter(dict.fromkeys(map(self.normalize, user_words)), backend)
        self.pieces = WordPieces(vocabulary, unk_id)
        self._records = _Records(self.pieces)
        special_tokens = list(special_tokens)
        self._raw_special = _SpecialFinder([t for t in special_tokens if not t.normalized])
        self._normalized_special = _SpecialFinder(
            [t._replace(content=self.normalize(t.content)) for t in special_tokens if t.normalized]
        )

    def batch(
        self, texts: Sequence[str], special: bool = True, spans: bool = False, cls_sep: tuple[int, int] | None = None
    ) -> tuple[list[list[int]], list[list[Span]] | None]:
        """Ids and, if wanted, spans of many texts.

        Args:
            texts: raw.
            special: whether special tokens are recognised, or ordinary text.
            spans: whether spans are wanted.
            cls_sep: ids to put around each text, with the span (0, 0).
        """
        if not special or not any(map(self._has_special, texts)):
            return self._plain(texts, spans, cls_sep)
        # Texts with special tokens go through in parts, and are put together again.
        layouts = [list(self._parts(text)) for text in texts]
        plain = [
            text[start:end]
            for text, layout in zip(texts, layouts, strict=True)
            for start, end, token in layout
            if token is None
        ]
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

    def _plain(
        self, texts: Sequence[str], spans: bool, cls_sep: tuple[int, int] | None
    ) -> tuple[list[list[int]], list[list[Span]] | None]:
        """`batch` of texts without special tokens."""
        all_ids: list[list[int]] = []
        all_spans: list[list[Span]] | None = [] if spans else None
        first = size = 0
        for number, text in enumerate(texts):
            size += len(text)
            if size >= _CHUNK or number == len(texts) - 1:
                ids, found = self._chunk(texts[first : number + 1], spans, cls_sep)
                all_ids += ids
                if all_spans is not None and found is not None:
                    all_spans += found
                first, size = number + 1, 0
        return all_ids, all_spans

    def _chunk(
        self, texts: Sequence[str], spans: bool, cls_sep: tuple[int, int] | None
    ) -> tuple[list[list[int]], list[list[Span]] | None]:
        """`_plain` of texts that are cut at once."""
        normals = list(map(self.normalize, texts))
        joined = _SEPARATOR.join(normals)
        if len(texts) > 1 and joined.count(_SEPARATOR) != len(texts) - 1:
            rows = [self._chunk([text], spans, cls_sep) for text in texts]
            return [row[0][0] for row in rows], [row[1][0] for row in rows if row[1]] if spans else None
        look_up = self._records.__getitem__
        if len(texts) == 1 and _SEPARATOR in joined:
            look_up = self._record_of_text
        raw = b"".join([bytes(8), *map(look_up, self.segment(joined)), bytes(8)])
        record = np.frombuffer(raw, dtype=np.int32).reshape(-1, 2)
        step = record[:, 1]
        kept = step >= 0
        ids = record[kept, 0]
        around = np.flatnonzero(step[kept] == 0)  # the places of [CLS], [SEP], [CLS], ... [SEP]
        starts, ends = around[0::2], around[1::2] + 1
        if cls_sep is None:
            starts, ends = starts + 1, ends - 1
        else:
            ids[around[0::2]], ids[around[1::2]] = cls_sep
        bounds = list(zip(starts.tolist(), ends.tolist(), strict=True))
        all_ids = [ids[start:end].tolist() for start, end in bounds]
        if not spans:
            return all_ids, None
        # Positions in the joined text, where a separator has two records and one character.
        length = np.abs(step).astype(np.int64)
        length[np.flatnonzero(step == 0)[2::2]] = 1
        end_of = np.cumsum(length)[kept]
        start_of = end_of - step[kept]
        base = np.cumsum([0, *(len(normal) + 1 for normal in normals[:-1])])
        offset = np.repeat(base, np.diff(around)[0::2] + 1)
        start_of -= offset
        end_of -= offset
        for number, (text, normal) in enumerate(zip(texts, normals, strict=True)):
            if normal is not text and not self.normalize.is_aligned(text, normal):
                part = slice(around[2 * number] + 1, around[2 * number + 1])
                source = np.array(self.normalize.sources(text), dtype=np.int64)
                start_of[part], end_of[part] = source[start_of[part]], source[end_of[part] - 1] + 1
        start_of[around] = end_of[around] = 0
        tuples = _tuples(start_of, end_of)
        return all_ids, [tuples[start:end] for start, end in bounds]

    def _record_of_text(self, word: str) -> bytes:
        """The records of a word of a text in which the separator is a character like any other."""
        if word != _SEPARATOR:
            return self._records[word]
        flat = [n for index, start, end in self.pieces(word) for n in (index, end - start)] or [-1, -1]
        return np.array(flat, dtype=np.int32).tobytes()

    def _has_special(self, text: str) -> bool:
        if self._raw_special.search is not None and self._raw_special.search(text) is not None:
            return True
        find = self._normalized_special.search
        return find is not None and find(self.normalize(text)) is not None

    def _parts(self, text: str) -> Iterator[tuple[int, int, SpecialToken | None]]:
        """The parts of a text between special tokens, and these: (start, end, the token or None)."""
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
                # Up to where the next part starts: a dropped mark goes with the character before it.
                first, last = last, source[stop]
                yield start + first, start + last, found

    def analyse(self, text: str, special: bool = True) -> Analysis:
        """Ids, spans and words of one text."""
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

    def analyse_words(self, words: Sequence[str], special: bool = True) -> Analysis:
        """`analyse` of a text that comes in words: spans within the word, numbers of the given words."""
        result = Analysis([], [], [])
        for number, word in enumerate(words):
            found = self.analyse(word, special)
            result.ids.extend(found.ids)
            result.spans.extend(found.spans)
            result.words.extend([number] * len(found.ids))
        return result


def _append_word(result: Analysis, tokens: Sequence[tuple[int, int, int]]) -> None:
    number = result.words[-1] + 1 if result.words else 0
    for index, start, end in tokens:
        result.ids.append(index)
        result.spans.append((start, end))
        result.words.append(number)


class _SpecialFinder:
    """Finds special tokens in a text: from the left, the longest first."""

    def __init__(self, tokens: Sequence[SpecialToken]) -> None:
        self._tokens = {token.content: token for token in tokens if token.content}
        contents = sorted(self._tokens, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, contents))) if contents else None
        self.search = pattern.search if pattern is not None else None

    def split(self, text: str) -> Iterator[tuple[int, int, SpecialToken | None]]:
        """The parts of `text`, in order: (start, end, the special token that this part is, or None)."""
        position = start = 0
        while self.search is not None and (match := self.search(text, start)) is not None:
            token = self._tokens[match.group()]
            start, end = match.span()
            if token.single_word and (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
                start = end
                continue
            # By hand and not in the pattern, where a run of spaces would be walked again from each of its characters.
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


_shared_spans: np.ndarray | None = None


def _tuples(start: np.ndarray, end: np.ndarray) -> list[Span]:
    """[(start, end), ...], most of them shared between texts."""
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
