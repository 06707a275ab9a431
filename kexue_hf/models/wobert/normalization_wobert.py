"""BERT's text clean-up as the original WoBERT applies it, character by character.

bert4keras lower-cases, decomposes (NFD) and drops combining marks (category Mn) over the whole text BEFORE it is cut
into words. Nearly every character is normalised the same wherever it stands, so the work is one `str.translate` with a
table that fills itself, and the alignment with the raw text comes for free. The few characters that depend on their
neighbours (a final sigma; marks that canonical ordering moves) are noticed when they first occur, and from then on the
texts that hold one take a careful path.
"""

import re
import unicodedata

# A character that may change: all but those of the ranges of ordinary Chinese text of which none does.
_may_change = re.compile(
    "[^\t\n\r -@\\[-~\u2010-\u2027\u3000-\u3029\u3030-\u303f\u4e00-\u9fff\uff00-\uff20\uff3b-\uffef]"
).search
# The same without the letters of the alphabet, of any width, which only become small.
_changes_otherwise = re.compile("[^\t\n\r -~\u2010-\u2027\u3000-\u3029\u3030-\u303f\u4e00-\u9fff\uff00-\uffef]").search
# Bound on the table: a text of every character there is must not fill the memory.
_TABLE_LIMIT = 1 << 16


class _Table(dict[int, str]):
    """Character code -> its normal form, computed on first sight; notices characters that need care."""

    def __init__(self) -> None:
        super().__init__()
        self.contextual: set[str] = set()
        self.expanding: set[str] = set()

    def __missing__(self, code: int) -> str:
        char = chr(code)
        decomposed = unicodedata.normalize("NFD", char.lower())
        normal = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
        if char == "Σ" or any(unicodedata.combining(c) for c in normal):
            self.contextual.add(char)
        if len(normal) > 1:
            self.expanding.add(char)
        if len(self) >= _TABLE_LIMIT:
            self.clear()
        self[code] = normal
        return normal


class Normalizer:
    """Lower-case, NFD, without combining marks; or nothing at all (`lower=False`, bert4keras' `do_lower_case`)."""

    def __init__(self, lower: bool = True) -> None:
        self.lower = lower
        self._table = _Table()

    def __call__(self, text: str) -> str:
        """The normal form of `text`, which may be shorter or longer than it."""
        if not self.lower or _may_change(text) is None:
            return text
        if _changes_otherwise(text) is None:
            return text.lower()
        normal = text.translate(self._table)
        contextual = self._table.contextual
        if contextual and not contextual.isdisjoint(text):
            return _normalize_in_context(text)[0]
        return normal

    def is_aligned(self, text: str, normal: str) -> bool:
        """Whether character i of `normal`, the normal form of `text`, comes from character i of `text` for all i."""
        if len(text) != len(normal):
            return False
        if not self.lower or _changes_otherwise(text) is None:
            return True
        # Of equal length, and yet shifted: something was dropped and something else grew. Or moved.
        table = self._table
        return (not table.expanding or table.expanding.isdisjoint(text)) and (
            not table.contextual or table.contextual.isdisjoint(text)
        )

    def sources(self, text: str) -> list[int]:
        """For each character of the normal form of `text`, the index in `text` that it comes from."""
        if not self.lower:
            return list(range(len(text)))
        table = self._table
        normal = [table[ord(char)] for char in text]
        if table.contextual and not table.contextual.isdisjoint(text):
            return _normalize_in_context(text)[1]
        return [index for index, form in enumerate(normal) for _ in form]


def _normalize_in_context(text: str) -> tuple[str, list[int]]:
    """The normal form of a whole text with the source index of each of its characters, by the definition."""
    lowered = text.lower()
    position = 0
    chars: list[tuple[int, str, int]] = []  # canonical combining class, character, source
    for index, char in enumerate(text):
        # Only the capital sigma has a lower case that depends on its neighbours, and it is of one character.
        width = 1 if char == "Σ" else len(char.lower())
        for part in unicodedata.normalize("NFD", lowered[position : position + width]):
            chars.append((unicodedata.combining(part), part, index))
        position += width
    start = 0
    while start < len(chars):  # canonical ordering: stable sort of every run of non-zero classes
        stop = start + 1
        if chars[start][0]:
            while stop < len(chars) and chars[stop][0]:
                stop += 1
            chars[start:stop] = sorted(chars[start:stop], key=lambda item: item[0])
        start = stop
    kept = [(part, index) for _, part, index in chars if unicodedata.category(part) != "Mn"]
    return "".join(part for part, _ in kept), [index for _, index in kept]


__all__ = ["Normalizer"]
