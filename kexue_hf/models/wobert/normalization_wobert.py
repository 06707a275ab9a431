"""BERT's text clean-up as the original WoBERT applies it, character by character.

bert4keras lower-cases, decomposes (NFD) and drops combining marks (category Mn) in the whole text BEFORE it is cut
into words. Nearly every character has the same normal form in any context, so one `str.translate` with a table that
fills itself does the work and keeps the alignment with the raw text. The few characters that depend on their
neighbours (a final sigma; marks that canonical ordering moves) are detected on first sight; texts that contain one
then take a slower, exact path.
"""

import re
import unicodedata

# A character that may change: any outside these ranges of ordinary Chinese text, which never change.
_may_change = re.compile(
    "[^\t\n\r -@\\[-~\u2010-\u2027\u3000-\u3029\u3030-\u303f\u4e00-\u9fff\uff00-\uff20\uff3b-\uffef]"
).search
# The same without Latin letters of any width, which only become lower-case.
_changes_otherwise = re.compile("[^\t\n\r -~\u2010-\u2027\u3000-\u3029\u3030-\u303f\u4e00-\u9fff\uff00-\uffef]").search
# Size limit of the table: a text with every Unicode character must not fill the memory.
_TABLE_LIMIT = 1 << 16


class _Table(dict[int, str]):
    """Character code -> its normal form, computed on first sight; records characters that need care."""

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
    """Lower-case, decompose (NFD) and drop combining marks; with `lower=False` (bert4keras' option), do nothing."""

    def __init__(self, lower: bool = True) -> None:
        self.lower = lower
        self._table = _Table()

    def __call__(self, text: str) -> str:
        """Return the normal form of `text`, which may be shorter or longer."""
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
        """Return whether each character i of `normal`, the normal form of `text`, comes from character i of `text`."""
        if len(text) != len(normal):
            return False
        if not self.lower or _changes_otherwise(text) is None:
            return True
        # The lengths may be equal although something was dropped and something else expanded, or characters moved.
        table = self._table
        return (not table.expanding or table.expanding.isdisjoint(text)) and (
            not table.contextual or table.contextual.isdisjoint(text)
        )

    def sources(self, text: str) -> list[int]:
        """Return, for each character of the normal form of `text`, the index in `text` that it comes from."""
        if not self.lower:
            return list(range(len(text)))
        table = self._table
        normal = [table[ord(char)] for char in text]
        if table.contextual and not table.contextual.isdisjoint(text):
            return _normalize_in_context(text)[1]
        return [index for index, form in enumerate(normal) for _ in form]


def _normalize_in_context(text: str) -> tuple[str, list[int]]:
    """Return the normal form of a whole text and the source index of each of its characters, by the definition."""
    lowered = text.lower()
    position = 0
    chars: list[tuple[int, str, int]] = []  # canonical combining class, character, source
    for index, char in enumerate(text):
        # Only the capital sigma has a lower case that depends on its neighbours, and that is one character.
        width = 1 if char == "Σ" else len(char.lower())
        for part in unicodedata.normalize("NFD", lowered[position : position + width]):
            chars.append((unicodedata.combining(part), part, index))
        position += width
    start = 0
    while start < len(chars):  # canonical ordering: a stable sort of every run of non-zero classes
        stop = start + 1
        if chars[start][0]:
            while stop < len(chars) and chars[stop][0]:
                stop += 1
            chars[start:stop] = sorted(chars[start:stop], key=lambda item: item[0])
        start = stop
    kept = [(part, index) for _, part, index in chars if unicodedata.category(part) != "Mn"]
    return "".join(part for part, _ in kept), [index for _, index in kept]


__all__ = ["Normalizer"]
