"""From one word of the segmenter to ids: the word itself where the vocabulary has it, else BERT's word pieces.

Departs from BERT in the first step only: a whole word that is in the vocabulary is one token, without `##`, whatever
characters it is made of (https://kexue.fm/archives/7758). Any other word goes the way of a character BERT.
"""

import unicodedata
from collections.abc import Mapping

from .vocabulary_wobert import without_white_space

# bert4keras' limit (`word_maxlen`); BERT's own is 100.
MAX_WORD_LENGTH = 200


class WordPieces:
    """Splits a normalised word into tokens.

    Args:
        vocabulary: token -> id; a token with white space in it is never found.
        unk_id: the id of a word that cannot be spelt.
    """

    def __init__(self, vocabulary: Mapping[str, int], unk_id: int) -> None:
        self.vocabulary = without_white_space(vocabulary)
        self.unk_id = unk_id
        # No longer piece can match: keeps the greedy search linear in the text.
        self._longest = max((len(token) for token in self.vocabulary), default=1)

    def __call__(self, word: str) -> list[tuple[int, int, int]]:
        """The tokens of `word`: (id, start, end), positions within the word; none for a space or control character."""
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
        """Append the word pieces of `word`, longest first from the left; one [UNK] if it cannot be spelt."""
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
    """What BERT's tokenizer does with a character: "alone" (a word of its own), "space", "drop" or "keep"."""
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
    # U+2028 and U+2029 remain, where the original's str.split() parts words too.
    return "space" if char.isspace() else "keep"


def is_cjk(code: int) -> bool:
    """Whether BERT takes a character (given by its code) for Chinese, and hence for a word of its own."""
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2A6DF
        or 0x2A700 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )


__all__ = ["WordPieces", "is_cjk"]
