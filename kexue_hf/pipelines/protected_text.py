"""What correction leaves alone: protected names and words, numbers; and what it takes apart on strong evidence only.

A wrong character seldom makes a word of the dictionary with its neighbours, a right one mostly does. `WORD_COSTS` are
the logarithms of how much rarer errors are within words of two and of three and more characters than outside of words,
counted on SIGHAN's training rows (data for research) by benchmarks/correction_words.py.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

# By the number of a word's characters; the last entry holds for longer words too.
_LONGEST = 100
WORD_COSTS = {1: 0.0, 2: 1.9, 3: 2.9}
_NUMERALS = re.compile("[〇零一二三四五六七八九十百千万亿两]{2,}")
Cut = Callable[[str], list[str]]


class Protection:
    """Which characters of a text are never changed, and what changing the others costs.

    Args:
        words: texts that stay as they are, wherever they stand: names, products, terms.
        known_words: whether characters within words of jieba's dictionary cost `WORD_COSTS`; without a segmenter
            (rjieba or jieba) only tokens of several characters do.

    Raises:
        ValueError: a word is no string, empty, or longer than 100 characters.
    """

    def __init__(self, words: Iterable[str] = (), known_words: bool = True) -> None:
        self._words: set[str] = set()
        # The lengths of the words that begin with a character.
        self._lengths: dict[str, set[int]] = {}
        for word in words:
            if not isinstance(word, str) or not 0 < len(word.strip()) <= _LONGEST:
                raise ValueError(f"a protected word must be a text of 1 to {_LONGEST} characters, got {word!r:.40}")
            self._words.add(word.strip())
            self._lengths.setdefault(word.strip()[0], set()).add(len(word.strip()))
        self.known_words = known_words
        self._cut = _segmenter() if known_words else None

    def never_changed(self, text: str) -> set[int]:
        """The places of protected words and of numbers in Chinese numerals."""
        found = {place for match in _NUMERALS.finditer(text) for place in range(*match.span())}
        for start, char in enumerate(text):
            for length in self._lengths.get(char, ()):
                if text[start : start + length] in self._words:
                    found.update(range(start, start + length))
        return found

    def costs(self, text: str) -> list[float]:
        """What changing each character costs, as a natural logarithm; zeros without `known_words`."""
        words = self._cut(text) if self._cut is not None else []
        if "".join(words) != text:
            return [0.0] * len(text)
        return [word_cost(word) for word in words for _ in word]

    def token_cost(self, token: str) -> float:
        """What changing a token costs, by itself: one of several characters is a word that the vocabulary knows."""
        return word_cost(token) if self.known_words else 0.0


def word_cost(word: str) -> float:
    """The cost of a change within a word."""
    return WORD_COSTS[min(len(word), max(WORD_COSTS))]


def _segmenter() -> Cut | None:
    """jieba's dictionary without guessed words, by what is installed."""
    try:
        import rjieba

        segmenter: Any = rjieba.Jieba()
        return lambda text: list(segmenter.cut(text, False))
    except ImportError:
        pass
    try:
        import jieba
    except ImportError:
        return None
    return lambda text: list(jieba.cut(text, HMM=False))


__all__ = ["WORD_COSTS", "Protection", "word_cost"]
