"""BERT's basic tokenizer and word pieces, written as plainly as possible, between [SOS] and [EOS].

Oracle: the rules of Google's BERT, which the official T-TA builds on; the golden `b0` holds what its own tokenizer
computes.
"""

import unicodedata

LONGEST_WORD = 200
SPECIAL = ["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]"]


def make_vocabulary() -> list[str]:
    """Specials in the official order, some words, pieces and characters."""
    words = ["the", "boy", "come", "home", "hello", "naive", "don", "...", "'"]
    characters = "的一是不了在人有我他今天很好!\"',.-:;?()[]+=，。？！abcdefghijklmnopqrstuvwxyz0123456789ßøæжяαωかア"
    pieces = [f"##{char}" for char in "abcdefghijklmnopqrstuvwxyz0123456789ßяωか"] + ["##ing", "##llo", "##的"]
    return list(dict.fromkeys([*SPECIAL, *words, *characters, *pieces]))


def is_chinese(char: str) -> bool:
    return any(
        first <= ord(char) <= last
        for first, last in (
            (0x4E00, 0x9FFF),
            (0x3400, 0x4DBF),
            (0x20000, 0x2A6DF),
            (0x2A700, 0x2B81F),
            (0xF900, 0xFAFF),
        )
    )


def is_punctuation(char: str) -> bool:
    return (char.isascii() and char.isprintable() and not char.isalnum() and char != " ") or unicodedata.category(
        char
    ).startswith("P")


def basic(text: str, lower: bool = True) -> list[str]:
    """Words: cleaned, lower-cased without accents, cut at white space, punctuation and Chinese characters."""
    cleaned = ""
    for char in text:
        if char in "\t\n\r" or unicodedata.category(char) == "Zs":
            cleaned += " "
        elif char not in "\0\ufffd" and unicodedata.category(char) not in ("Cc", "Cf"):
            cleaned += f" {char} " if is_chinese(char) else char
    words = []
    for word in cleaned.split():
        if lower:
            word = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn")
        spaced = "".join(f" {char} " if is_punctuation(char) else char for char in word)
        words += spaced.split()
    return words


def pieces(word: str, vocabulary: dict[str, int]) -> list[str]:
    """The longest piece first; [UNK] for a word that cannot be spelt or is too long."""
    if len(word) > LONGEST_WORD:
        return ["[UNK]"]
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        end = next((e for e in range(len(word), start, -1) if prefix + word[start:e] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        found.append(prefix + word[start:end])
        start = end
    return found


def encode(text: str, vocabulary: dict[str, int], lower: bool = True) -> list[int]:
    """Ids with [SOS] and [EOS]."""
    tokens = [piece for word in basic(text, lower) for piece in pieces(word, vocabulary)]
    return [vocabulary[token] for token in ("[SOS]", *tokens, "[EOS]")]
