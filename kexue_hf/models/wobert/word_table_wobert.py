"""Look up the ids of many words at once: the vocabulary's characters and short words in numpy arrays.

A dictionary takes one word at a time, and each word costs the hash of a string and three memory accesses that miss the
processor's cache, which the segmenter has just filled. Here a word of two to four characters is one integer, its
UTF-16 code units side by side, so comparisons are exact and do not rest on a hash. The table never changes, except
that each new character is learned once; threads share it without a lock.
"""

from collections.abc import Mapping

import numpy as np

# In place of an id: no token starts here; or unknown to the table, look it up elsewhere.
NONE, ASK = -1, -2
# Stands for every character from here on: never part of a short word, and never known.
_OTHER = 0xFFFE
# The longest word that fits in one integer.
_LONGEST = 4
# By word length: the filling of the unused characters. No code is 0xFFFF, so no two words are alike.
_FILLING = np.array([~0, ~0 << 16, ~0 << 32, ~0 << 48, 0, ~0]).astype(np.uint64)
_EMPTY = ~np.uint64(0)
# An odd number without pattern: multiplication by it mixes the upper bits of a key well (Knuth, TAOCP 3, 6.4).
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def codes_of(text: str) -> np.ndarray:
    """Return the code of each character as uint16, with room for the rest of a short word after the last one."""
    wide = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    codes = np.empty(len(wide) + _LONGEST - 1, "<u2")
    np.minimum(wide, _OTHER, out=codes[: len(wide)], casting="unsafe")
    codes[len(wide) :] = _OTHER
    return codes


class WordTable:
    """The ids of characters and of words of two to four characters.

    Args:
        vocabulary: token -> id.
        unk_id: the id of Chinese characters that the vocabulary lacks.
    """

    def __init__(self, vocabulary: Mapping[str, int], unk_id: int) -> None:
        # Code -> id. A Chinese character is always one token; other missing characters are learned later.
        self.characters = np.full(1 << 16, ASK, dtype=np.int32)
        self.characters[0x4E00:0xA000] = unk_id
        known = {ord(word): index for word, index in vocabulary.items() if len(word) == 1 and ord(word) < _OTHER}
        self.characters[list(known)] = list(known.values())
        words = [word for word in vocabulary if 1 < len(word) <= _LONGEST and max(word) < chr(_OTHER)]
        bits = (4 * len(words) + 1).bit_length()
        self._shift = np.uint64(64 - bits)
        self._last = (1 << bits) - 1
        self._keys = np.full(1 << bits, _EMPTY)
        self._ids = np.full(1 << bits, NONE, dtype=np.int32)
        length = np.array(list(map(len, words)), dtype=np.int64)
        key = _keys(codes_of("".join(words)), np.cumsum(length) - length, length)
        ids = np.array([vocabulary[word] for word in words], dtype=np.int32)
        slot = self._slots(key)
        while len(key):  # Of several keys for one slot the last one gets it, the others try the next slot.
            free = self._keys[slot] == _EMPTY
            self._keys[slot[free]] = key[free]
            placed = self._keys[slot] == key
            self._ids[slot[placed]] = ids[placed]
            key, ids, slot = key[~placed], ids[~placed], (slot[~placed] + 1) & self._last

    def _slots(self, key: np.ndarray) -> np.ndarray:
        return ((key * _MULTIPLIER) >> self._shift).view(np.int64)

    def find(self, codes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return the ids of words of two or more characters; NONE for one that is unknown or too long.

        Args:
            codes: the codes of their text, from `codes_of`.
            start, length: position and length of each word.
        """
        key = _keys(codes, start, length)
        slot = self._slots(key)
        there = self._keys[slot]
        ids = np.where(there == key, self._ids[slot], NONE)
        left = np.flatnonzero((there != key) & (there != _EMPTY))
        while len(left):
            slot[left] = at = (slot[left] + 1) & self._last
            there, wanted = self._keys[at], key[left]
            ids[left] = np.where(there == wanted, self._ids[at], NONE)
            left = left[(there != wanted) & (there != _EMPTY)]
        return ids

    def learn(self, codes: np.ndarray, ids: np.ndarray) -> None:
        """Store the ids (or NONE) of single characters that were ASK."""
        known = codes != _OTHER
        self.characters[codes[known]] = ids[known]


def _keys(codes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return one integer per word: equal for equal words, and for all words that are too long."""
    windows = np.ndarray(len(codes) - _LONGEST + 1, "<u8", codes, strides=(2,))
    return windows[start] | _FILLING[np.minimum(length, _LONGEST + 1)]


def all_chinese(codes: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return whether words consist of Chinese characters and are short enough for the table."""
    chinese = codes - np.uint16(0x4E00) < 0x5200
    result = length <= _LONGEST
    for place in range(_LONGEST):
        result &= chinese[start + np.minimum(place, length - 1)]
    return result


__all__ = ["ASK", "NONE", "WordTable", "all_chinese", "codes_of"]
