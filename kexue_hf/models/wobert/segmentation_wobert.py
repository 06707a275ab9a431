"""Cut Chinese text into words by jieba without HMM, in a private segmenter.

`rjieba` (Rust) is used if installed, else `jieba` (Python). Both hold the same dictionary and compute the same best
path. Their remaining differences (which characters count as Chinese, lone surrogates, the frequency of a user word)
are evened out here, so that the cuts are equal. Neither uses jieba's global state, and no cache file is read or
written: jieba keeps its cache in a directory that every user of the machine can write to.
"""

import functools
import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# jieba looks words up only within runs of these characters.
_WORD_CHARS = "\u4e00-\u9fd5a-zA-Z0-9+#&._%\\-"
_IN_RUN = re.compile(f"[{_WORD_CHARS}]+")
# rjieba extends these runs by the remaining CJK ideographs, and rejects lone surrogates.
_ONLY_RJIEBA = re.compile("[\ud800-\udfff\u3400-\u4dbf\u9fd6-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
# A noncharacter: in no run of either segmenter, and never in a text.
_STAND_IN = "\uffff"
# The frequency of a user word. The commonest word of jieba's dictionary has 318,825 of 60,101,967: a frequency above
# 318,825**2 / 60,101,967 = 1,691 beats every path of two or more words.
_USER_FREQUENCY = 2000

Cut = Callable[[str], list[str]]


class Segmenter:
    """Cut normalised text into words, which concatenate to the text.

    Args:
        user_words: words to cut as one unit. A word that jieba can look up gets a frequency with which it wins against
            its parts (in a sentence it still competes with overlapping words, as jieba's own user words do). A word
            with a character at which jieba always cuts, such as "·", is found before jieba runs.
        backend: `"rjieba"`, `"jieba"`, or None for the first of the two that is installed.

    Raises:
        ImportError: the backend is not installed, or neither is.
        ValueError: the backend is unknown.
    """

    def __init__(self, user_words: Iterable[str] = (), backend: str | None = None) -> None:
        user_words = list(user_words)
        looked_up = [word for word in user_words if _IN_RUN.fullmatch(word)]
        found_before = [word for word in user_words if not _IN_RUN.fullmatch(word)]
        self.backend, module = installed(backend)
        self._cut = (_rjieba_cut if self.backend == "rjieba" else _jieba_cut)(module, looked_up)
        # Longest first, because alternation takes the first match.
        found_before.sort(key=len, reverse=True)
        self._found_before = re.compile("|".join(map(re.escape, found_before))) if found_before else None

    def __call__(self, text: str) -> list[str]:
        if self._found_before is None:
            return self._cut(text)
        words: list[str] = []
        position = 0
        for match in self._found_before.finditer(text):
            if match.start() > position:
                words += self._cut(text[position : match.start()])
            words.append(match.group())
            position = match.end()
        if position < len(text):
            words += self._cut(text[position:])
        return words


def installed(backend: str | None) -> tuple[str, Any]:
    """Return the name and module of the requested segmenter, or of the first that can be imported."""
    if backend not in (None, "rjieba", "jieba"):
        raise ValueError(f"backend must be 'rjieba' or 'jieba', got {backend!r}")
    for name in ("rjieba", "jieba") if backend is None else (backend,):
        try:
            return name, importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError(
        "WoBertTokenizer cuts Chinese text into words and needs a segmenter, but "
        f"{backend or 'neither rjieba nor jieba'} is {'not ' if backend else ''}installed: "
        f"pip install {backend or 'rjieba (fast), or pip install jieba'}"
    )


def _add(words: Sequence[str], cut: Cut, add: Callable[[str], None]) -> None:
    """Make every word one unit: give words that are cut the user frequency, until none is cut."""
    added: set[str] = set()
    while cut_up := [word for word in words if word not in added and len(cut(word)) > 1]:
        # Repeated, because a new word may be part of one that was whole before.
        for word in cut_up:
            add(word)
        added.update(cut_up)


@functools.cache
def _shared_rjieba(rjieba: Any) -> Any:
    """Return the segmenter of all tokenizers without words of their own: reading its dictionary takes 0.1 s."""
    return rjieba.Jieba()


def _rjieba_cut(rjieba: Any, user_words: Sequence[str]) -> Cut:
    segmenter = rjieba.Jieba() if user_words else _shared_rjieba(rjieba)
    bare_cut: Callable[[str, bool], list[str]] = segmenter.cut
    uneven = _ONLY_RJIEBA.search

    def cut(text: str) -> list[str]:
        if uneven(text) is None:
            return bare_cut(text, False)
        words = []
        position = 0
        for word in bare_cut(_ONLY_RJIEBA.sub(_STAND_IN, text), False):
            words.append(text[position : position + len(word)])
            position += len(word)
        return words

    def add(word: str) -> None:
        segmenter.add_word(word, _USER_FREQUENCY, None)

    _add(user_words, cut, add)
    return cut


_jieba_dictionary: tuple[dict[str, int], int] | None = None


def _jieba_cut(jieba: Any, user_words: Sequence[str]) -> Cut:
    global _jieba_dictionary
    segmenter: Any = jieba.Tokenizer()
    # Not initialize(), which unmarshals a cache file from the shared temporary directory: anyone may have put it
    # there. Not its lock, which a fork could leave locked: at worst two threads read the dictionary twice.
    dictionary = _jieba_dictionary or segmenter.gen_pfdict(segmenter.get_dict_file())
    _jieba_dictionary = dictionary
    segmenter.FREQ, segmenter.total = dictionary
    segmenter.initialized = True
    if user_words:
        segmenter.FREQ = dict(segmenter.FREQ)

    def add(word: str) -> None:
        # Not jieba's add_word, which counts the old frequency twice.
        segmenter.total += _USER_FREQUENCY - segmenter.FREQ.get(word, 0)
        for end in range(1, len(word)):
            segmenter.FREQ.setdefault(word[:end], 0)
        segmenter.FREQ[word] = _USER_FREQUENCY

    def cut(text: str) -> list[str]:
        return list(segmenter.cut(text, HMM=False))

    _add(user_words, cut, add)
    return cut


__all__ = ["Segmenter", "installed"]
