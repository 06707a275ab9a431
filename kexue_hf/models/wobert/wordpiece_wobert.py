"""Split one word of the segmenter into ids: the word itself if the vocabulary has it, else BERT's word pieces.

Differs from BERT in the first step only: a whole word in the vocabulary is one token, without `##`, whatever its
characters (https://kexue.fm/archives/7758). All other words are split as by a character BERT.
"""

import unicodedata
from collections.abc import Mapping

from .vocabulary_wobert import without_white_space

# bert4keras' limit (`word_maxlen`); BERT's own is 100.
MAX_WORD_LENGTH = 200


class WordPieces:
    """Split a normalised word into tokens.

    Args:
        vocabulary: token -> id; tokens with white space are never found.
        unk_id: the id of a word that cannot be spelt.
    """

    def __init__(self, vocabulary: Mapping[str, int], unk_id: int) -> None:
        self.vocabulary = without_white_space(vocabulary)
        self.unk_id = unk_id
        # No longer piece can match; the limit keeps the greedy search linear in the text.
        self._longest = max((len(token) for token in self.vocabulary), default=1)

    def __call__(self, word: str) -> list[tuple[int, int, int]]:
        """Return the tokens of `word` as (id, start, end) within it; none for a space or control character."""
        whole = self.vocabulary.get(word)
        if whole is not None:
            return [(whole, 0, len(word))]
        tokens: list[tuple[int, int, int]] = []
        chars: list[str] = []
        places: list[int] = []
        for place, char in enumerate(word):
            kind = _kind(char)
            if kind == "drop":
                continue
            if kind == "keep":
                chars.append(char)
                places.append(place)
                continue
            if chars:
                self._spell("".join(chars), places, tokens)
                chars, places = [], []
            if kind == "alone":
                self._spell(char, [place], tokens)
        if chars:
            self._spell("".join(chars), places, tokens)
        return tokens

    def _spell(self, word: str, places: list[int], tokens: list[tuple[int, int, int]]) -> None:
        """Append the word pieces of `word`, longest first from the left, or one [UNK] if it cannot be spelt."""
        length = len(word)
        pieces: list[tuple[int, int, int]] = []
        start = 0
        while start < length <= MAX_WORD_LENGTH:
            for end in range(min(length, start + self._longest), start, -1):
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                found = self.vocabulary.get(piece)
                if found is not None:
                    pieces.append((found, places[start], places[end - 1] + 1))
                    start = end
                    break
            else:
                break
        if start < length:
            pieces = [(self.unk_id, places[0], places[-1] + 1)]
        tokens += pieces


def _kind(char: str) -> str:
    """Return BERT's treatment of a character: "alone" (a separate word), "space", "drop" or "keep"."""
    code = ord(char)
    category = unicodedata.category(char)
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126 or category[0] == "P":
        return "alone"
    if is_cjk(code):
        return "alone"
    if char in " \n\r\t" or category == "Zs":
        return "space"
    if code == 0 or code == 0xFFFD or category in ("Cc", "Cf"):
        return "drop"
    # U+2028 and U+2029 remain, at which the original's str.split() also separates words.
    return "space" if char.isspace() else "keep"


def is_cjk(code: int) -> bool:
    """Return whether BERT treats a character (given by its code) as Chinese, and hence as a separate word."""
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )


__all__ = ["WordPieces", "is_cjk"]
