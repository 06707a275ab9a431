"""Texts to ids and spans: normalise, cut into words, look each word up in a cache of what it becomes.

The fast core of the tokenizer. A word is spelt once: its ids, and the lengths of its pieces, wait in a bounded cache
for the next time. Spans of a whole batch are one cumulative sum in numpy, and the (start, end) tuples come out of a
table that all texts share, for it is the allocation of a million small tuples that costs. `analyse` computes the same
for one text in plain Python, with words; the tests hold one against the other.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from .normalization_wobert import Normalizer
from .segmentation_wobert import Segmenter
from .wordpiece_wobert import WordPieces

Span = tuple[int, int]

# Words in each cache, and the longest that is worth keeping: a large corpus must not fill the memory.
_CACHED_WORDS = 1 << 17
_CACHED_LENGTH = 64
# Texts whose spans are computed together.
_CHUNK = 512
# Spans (start, start + length) that are shared: start and length below these.
_SHARED_STARTS = 2048
_SHARED_LENGTHS = 16


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


class _WordCache(dict[str, tuple[int, ...]]):
    """word -> a tuple of integers, computed on first sight; starts over from `seed` when it is full."""

    def __init__(self, compute: Callable[[str], tuple[int, ...]], seed: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(seed)
        self._compute = compute
        self._seed = seed
        self._limit = len(seed) + _CACHED_WORDS

    def __missing__(self, word: str) -> tuple[int, ...]:
        value = self._compute(word)
        if len(word) <= _CACHED_LENGTH:
            if len(self) >= self._limit:
                self.clear()
                self.update(self._seed)
            self[word] = value
        return value


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
        seed = {word: (index,) for word, index in vocabulary.items()}
        self._ids_of_word = _WordCache(self._ids_of, seed)
        self._steps_of_word = _WordCache(self._steps_of, {})
        special_tokens = list(special_tokens)
        self._raw_special = _SpecialFinder([t for t in special_tokens if not t.normalized])
        self._normalized_special = _SpecialFinder(
            [t._replace(content=self.normalize(t.content)) for t in special_tokens if t.normalized]
        )

    def _ids_of(self, word: str) -> tuple[int, ...]:
        return tuple([index for index, _, _ in self.pieces(word)])

    def _steps_of(self, word: str) -> tuple[int, ...]:
        """The characters of a word in steps: +n for a token of n characters, -n for n that belong to none."""
        steps = []
        position = 0
        for _, start, end in self.pieces(word):
            if start > position:
                steps.append(position - start)
            steps.append(end - start)
            position = end
        if position < len(word):
            steps.append(position - len(word))
        return tuple(steps)

    def ids(self, text: str, special: bool = True) -> list[int]:
        """The ids of one text; `special=False` takes special tokens for ordinary text."""
        if special and self._has_special(text):
            return self.analyse(text).ids
        return list(chain.from_iterable(map(self._ids_of_word.__getitem__, self.segment(self.normalize(text)))))

    def batch_ids(self, texts: Sequence[str], special: bool = True) -> list[list[int]]:
        """`ids` of many texts."""
        return [self.ids(text, special) for text in texts]

    def _has_special(self, text: str) -> bool:
        if self._raw_special.search is not None and self._raw_special.search(text) is not None:
            return True
        find = self._normalized_special.search
        return find is not None and find(self.normalize(text)) is not None

    def batch_spans(self, texts: Sequence[str], special: bool = True) -> tuple[list[list[int]], list[list[Span]]]:
        """The ids and the spans of many texts."""
        all_ids: list[list[int]] = []
        all_spans: list[list[Span]] = []
        for first in range(0, len(texts), _CHUNK):
            ids, spans = self._chunk_spans(texts[first : first + _CHUNK], special)
            all_ids += ids
            all_spans += spans
        return all_ids, all_spans

    def _chunk_spans(self, texts: Sequence[str], special: bool) -> tuple[list[list[int]], list[list[Span]]]:
        ids_of_word, steps_of_word = self._ids_of_word.__getitem__, self._steps_of_word.__getitem__
        ids: list[list[int]] = []
        steps: list[int] = []
        counts: list[int] = []  # tokens of each text that is computed here
        lengths: list[int] = []  # characters of its normal form
        shifted: list[tuple[int, int, str]] = []  # its first and last token, and the text, where positions move
        apart: dict[int, list[Span]] = {}
        tokens = 0
        for number, text in enumerate(texts):
            if special and self._has_special(text):
                found = self.analyse(text)
                ids.append(found.ids)
                apart[number] = found.spans
                continue
            normal = self.normalize(text)
            words = self.segment(normal)
            text_ids = list(chain.from_iterable(map(ids_of_word, words)))
            steps.extend(chain.from_iterable(map(steps_of_word, words)))
            if not self.normalize.is_aligned(text, normal):
                shifted.append((tokens, tokens + len(text_ids), text))
            ids.append(text_ids)
            counts.append(len(text_ids))
            lengths.append(len(normal))
            tokens += len(text_ids)
        step = np.array(steps, dtype=np.int64)
        is_token = step > 0
        end = np.cumsum(np.abs(step))[is_token]
        base = np.cumsum(lengths) - lengths if lengths else np.zeros(0, dtype=np.int64)
        end -= np.repeat(base.astype(np.int64), counts)
        start = end - step[is_token]
        for first, last, text in shifted:
            source = np.array(self.normalize.sources(text), dtype=np.int64)
            start[first:last], end[first:last] = source[start[first:last]], source[end[first:last] - 1] + 1
        spans = _tuples(start, end)
        all_spans = []
        position = 0
        for number, text_ids in enumerate(ids):
            if number in apart:
                all_spans.append(apart[number])
                continue
            all_spans.append(spans[position : position + len(text_ids)])
            position += len(text_ids)
        return ids, all_spans

    def analyse(self, text: str, special: bool = True) -> Analysis:
        """Ids, spans and words of one text."""
        result = Analysis([], [], [])
        if not special:
            self._analyse_plain(text, 0, result)
            return result
        for start, end, token in self._raw_special.split(text):
            if token is not None:
                _append_word(result, [(token.id, start, end)])
            else:
                self._analyse_normalized(text[start:end], start, result)
        return result

    def _analyse_normalized(self, text: str, offset: int, result: Analysis) -> None:
        """`analyse` of a part without raw special tokens, that starts at `offset`."""
        if self._normalized_special.search is None:
            self._analyse_plain(text, offset, result)
            return
        source = self.normalize.sources(text)
        for start, end, token in self._normalized_special.split(self.normalize(text)):
            if start == end:
                continue
            first, last = source[start], source[end - 1] + 1
            if token is not None:
                _append_word(result, [(token.id, offset + first, offset + last)])
            else:
                self._analyse_plain(text[first:last], offset + first, result)

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

    def split(self, text: str) -> Iterable[tuple[int, int, SpecialToken | None]]:
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
