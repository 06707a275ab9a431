"""Protect parts of a text from correction: names, words, numbers. Changes within known words need stronger evidence.

A wrong character seldom forms a dictionary word with its neighbours; a right one usually does. `WORD_COSTS` are the
logarithms of how much rarer errors are within words of two, and of three or more, characters than outside of words.
They were estimated on SIGHAN's training set (research data) by benchmarks/correction_words.py.
"""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

_LONGEST = 100
# By the number of characters in the word; the last entry also applies to longer words.
WORD_COSTS = {1: 0.0, 2: 1.9, 3: 2.9}
_NUMERALS = re.compile("[〇零一二三四五六七八九十百千万亿两]{2,}")
Cut = Callable[[str], list[str]]


class Protection:
    """Which characters of a text never change, and the cost of changing the others.

    Args:
        words: texts that never change, wherever they occur: names, products, terms.
        known_words: whether changing a character within a word of jieba's dictionary costs `WORD_COSTS`. Without a
            segmenter (rjieba or jieba), the cost applies only to tokens of several characters.

    Raises:
        ValueError: a word is not a string, is empty, or is longer than 100 characters.
    """

    def __init__(self, words: Iterable[str] = (), known_words: bool = True) -> None:
        self._words: set[str] = set()
        # First character to the lengths of the words that begin with it.
        self._lengths: dict[str, set[int]] = {}
        for word in words:
            if not isinstance(word, str) or not 0 < len(word.strip()) <= _LONGEST:
                raise ValueError(f"a protected word must be a text of 1 to {_LONGEST} characters, got {word!r:.40}")
            self._words.add(word.strip())
            self._lengths.setdefault(word.strip()[0], set()).add(len(word.strip()))
        self.known_words = known_words
        self._cut = _segmenter() if known_words else None

    def never_changed(self, text: str) -> set[int]:
        """Return the character positions of protected words and of Chinese numerals."""
        found = {place for match in _NUMERALS.finditer(text) for place in range(*match.span())}
        for start, char in enumerate(text):
            for length in self._lengths.get(char, ()):
                if text[start : start + length] in self._words:
                    found.update(range(start, start + length))
        return found

    def costs(self, text: str) -> list[float]:
        """Return the cost of changing each character, as a natural logarithm; zeros without `known_words`."""
        words = self._cut(text) if self._cut is not None else []
        if "".join(words) != text:
            return [0.0] * len(text)
        return [word_cost(word) for word in words for _ in word]

    def token_cost(self, token: str) -> float:
        """Return the cost of changing a token: a token of several characters is a word that the vocabulary knows."""
        return word_cost(token) if self.known_words else 0.0


def word_cost(word: str) -> float:
    """Return the cost of a change within a word."""
    return WORD_COSTS[min(len(word), max(WORD_COSTS))]


def _segmenter() -> Cut | None:
    """Return a function that cuts a text by jieba's dictionary only; None without a segmenter."""
    try:
        import rjieba

        segmenter = _shared_rjieba(rjieba)
        return lambda text: list(segmenter.cut(text, False))
    except ImportError:
        pass
    try:
        import jieba
    except ImportError:
        return None
    return lambda text: list(jieba.cut(text, HMM=False))


@functools.cache
def _shared_rjieba(rjieba: Any) -> Any:
    """Return one segmenter for all correctors: reading its dictionary takes 0.1 s."""
    return rjieba.Jieba()


__all__ = ["WORD_COSTS", "Protection", "word_cost"]
