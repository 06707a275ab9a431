"""The vocabulary of a source: checked against the configuration, and what the tokenizer's configuration says of it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from kexue_hf.conversion.weight_table import WeightMap
from kexue_hf.errors import ConversionError
from kexue_hf.models.wobert import weight_map_wobert
from kexue_hf.models.wobert.vocabulary_wobert import (
    count_chinese_words,
    is_one_field,
    vocabulary_fingerprint,
    vocabulary_lines,
)

# So many rows without a token pass for rounding where no fingerprint says that the vocabulary is the right one.
MOST_PADDING = 127

_BERT = cast(WeightMap, weight_map_wobert)


@dataclass(frozen=True)
class SourceVocabulary:
    """Token -> id, the fingerprint by which a model knows it, its special tokens by their role, and its kind.

    `kind` is what its tokens are, "words", "characters" or, where these make no difference, "pieces": which tokenizer
    goes with it.
    """

    ids: dict[str, int]
    fingerprint: str
    special: dict[str, str | None]
    kind: str

    @property
    def has_words(self) -> bool:
        """Whether it is one of words."""
        return self.kind == "words"


def read_vocabulary(
    path: str | os.PathLike[str],
    size: int | None,
    authority: str = "the configuration says vocab_size",
    table: WeightMap = _BERT,
) -> SourceVocabulary:
    """Read a vocabulary that has to have `size` lines (None: any number), because `authority` says so.

    Args:
        table: of the family, which says which special tokens it has.

    Raises:
        ConversionError: it has another number of lines, is not UTF-8, or lacks a special token.
    """
    lines = read_lines(path, table)
    if size is not None and len(lines) != size:
        raise ConversionError(
            f"{path}: has {len(lines)} tokens, {authority} {size}; give the vocabulary that the "
            "weights were trained with (--vocab): with another one every word would get a wrong vector"
        )
    return source_vocabulary(path, {token: index for index, token in enumerate(lines)}, table=table)


def read_lines(path: str | os.PathLike[str], table: WeightMap = _BERT) -> list[str]:
    """Return the token of each line of a vocabulary file, as the family's original reads it.

    Raises:
        ConversionError: it cannot be read, or is not UTF-8.
    """
    try:
        return vocabulary_lines(path, first_field=table.ORIGINAL == _BERT.ORIGINAL)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{getattr(error, 'strerror', None) or error} ({path})") from None


def repeated_lines(lines: Iterable[str], table: WeightMap) -> list[str]:
    """Return a note on a vocabulary with equal lines, behind which bert4keras has other ids than line numbers."""
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        token = line.strip()  # To bert4keras all lines of white space are the same.
        if token in seen and table.ORIGINAL == _BERT.ORIGINAL:
            note = (
                f"lines {seen[token]} and {number} of the vocabulary are the same token, {token!r:.60}: here an id is "
                "the number of the line, as in Google's BERT, and the last of equal lines counts; bert4keras gives "
                "every token behind them a lower id, so that its outputs differ"
            )
            return [note]
        seen[token] = number
    return []


def source_vocabulary(
    path: str | os.PathLike[str], ids: dict[str, int], kind: str | None = None, table: WeightMap = _BERT
) -> SourceVocabulary:
    """A vocabulary of the family's kind; ConversionError if it lacks a special token (`path` is where it came from).

    Args:
        kind: "words" or "characters"; None where only the tokens tell. A Chinese word of two or more characters is in
            no character BERT's, but a user's words need not be Chinese alone ("T恤").
        table: of the family. One with a single tokenizer has a single kind.
    """
    missing = [token for token, needed in table.SPECIAL_TOKENS.values() if needed and token not in ids]
    if missing:
        raise ConversionError(
            f"{path}: lacks {', '.join(missing)}; expected the vocabulary of a {table.FAMILY}, one token a line"
        )
    special = {role: token if token in ids else None for role, (token, _) in table.SPECIAL_TOKENS.items()}
    if len(table.TOKENIZERS) == 1:
        (kind,) = table.TOKENIZERS
    kind = kind or ("words" if count_chinese_words(ids) else "characters")
    return SourceVocabulary(ids, vocabulary_fingerprint(sorted(ids, key=ids.__getitem__)), special, kind)


def language_of(vocabulary: SourceVocabulary) -> str | None:
    """What the tokens look like, "zh" or "en"; None where they look like neither."""
    if vocabulary.kind != "pieces":
        return "zh"
    tokens = [token for token in vocabulary.ids if token not in vocabulary.special.values()]
    if sum(any("\u4e00" <= char <= "\u9fff" for char in token) for token in tokens) * 5 > len(tokens):
        return "zh"
    return "en" if sum(map(str.isascii, tokens)) * 10 > 9 * len(tokens) else None


def filler(index: int, taken: set[str]) -> str:
    """Return a name for a row without a token, as BERT names its own, and enter it in `taken`."""
    while f"[unused{index}]" in taken:
        index += 1
    taken.add(f"[unused{index}]")
    return f"[unused{index}]"


def rows_of(ids: dict[str, int]) -> list[str]:
    """Return a token for each id from 0 to the highest; one that no token has gets a filler."""
    tokens, taken = {index: token for token, index in ids.items()}, set(ids)
    return [tokens[index] if index in tokens else filler(index, taken) for index in range(max(tokens, default=-1) + 1)]


def line_problem(token: str) -> str | None:
    """Why a token cannot be a line of `vocab.txt`, which would move the ids of all that follow; None if it can."""
    if "\n" in token or token.rstrip("\r") != token:
        return "has a line end in it"
    if not is_one_field(token):
        return "has white space in it"
    return "is no valid Unicode" if any("\ud800" <= char <= "\udfff" for char in token) else None
