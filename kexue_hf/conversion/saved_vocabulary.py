"""The vocabulary of a source: checked against the configuration, and what the tokenizer's configuration says of it."""

import os
from dataclasses import dataclass
from typing import cast

from kexue_hf.conversion.weight_table import WeightMap
from kexue_hf.errors import ConversionError
from kexue_hf.models.wobert import weight_map_wobert
from kexue_hf.models.wobert.vocabulary_wobert import load_vocabulary, vocabulary_fingerprint

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
    try:
        ids = load_vocabulary(path)
    except OSError as error:
        raise ConversionError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConversionError(str(error)) from None
    lines = max(ids.values(), default=-1) + 1
    if size is not None and lines != size:
        raise ConversionError(
            f"{path}: has {lines} tokens, {authority} {size}; give the vocabulary that the "
            "weights were trained with (--vocab): with another one every word would get a wrong vector"
        )
    return source_vocabulary(path, ids, table=table)


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
    kind = kind or ("words" if any(map(_is_chinese_word, ids)) else "characters")
    return SourceVocabulary(ids, vocabulary_fingerprint(sorted(ids, key=ids.__getitem__)), special, kind)


def language_of(vocabulary: SourceVocabulary) -> str | None:
    """What the tokens look like, "zh" or "en"; None where they look like neither."""
    if vocabulary.kind != "pieces":
        return "zh"
    tokens = [token for token in vocabulary.ids if token not in vocabulary.special.values()]
    if sum(any("\u4e00" <= char <= "\u9fff" for char in token) for token in tokens) * 5 > len(tokens):
        return "zh"
    return "en" if sum(map(str.isascii, tokens)) * 10 > 9 * len(tokens) else None


def line_problem(token: str) -> str | None:
    """Why a token cannot be a line of `vocab.txt`, which would move the ids of all that follow; None if it can."""
    if "\n" in token or token.rstrip("\r") != token:
        return "has a line end in it"
    return "is no valid Unicode" if any("\ud800" <= char <= "\udfff" for char in token) else None


def _is_chinese_word(token: str) -> bool:
    return len(token) > 1 and all("\u4e00" <= char <= "\u9fff" for char in token)
