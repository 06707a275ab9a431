"""The vocabulary of a source: checked against the configuration, and what the tokenizer's configuration says of it."""

import os
from dataclasses import dataclass

from kexue_hf.errors import ConversionError
from kexue_hf.models.wobert.vocabulary_wobert import load_vocabulary, vocabulary_fingerprint

# So many rows without a token pass for rounding where no fingerprint says that the vocabulary is the right one.
MOST_PADDING = 127

_NEEDED = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
_WELCOME = {"mask_token": "[MASK]"}


@dataclass(frozen=True)
class SourceVocabulary:
    """Token -> id, the fingerprint by which a model knows it, its special tokens by their role, and its kind.

    `kind` is what its tokens are, "words" or "characters": which tokenizer goes with it.
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
    path: str | os.PathLike[str], size: int | None, authority: str = "the configuration says vocab_size"
) -> SourceVocabulary:
    """Read a vocabulary that has to have `size` lines (None: any number), because `authority` says so.

    Raises:
        ConversionError: it has another number of lines, is not UTF-8, or lacks a special token.
    """
    try:
        ids = load_vocabulary(path)
    except (OSError, ValueError) as error:
        raise ConversionError(f"{getattr(error, 'strerror', None) or error} ({path})") from None
    lines = max(ids.values(), default=-1) + 1
    if size is not None and lines != size:
        raise ConversionError(
            f"{path}: has {lines} tokens, {authority} {size}; give the vocabulary that the "
            "weights were trained with (--vocab): with another one every word would get a wrong vector"
        )
    return source_vocabulary(path, ids)


def source_vocabulary(path: str | os.PathLike[str], ids: dict[str, int], kind: str | None = None) -> SourceVocabulary:
    """A vocabulary of BERT's kind; ConversionError if it lacks a special token (`path` is where it came from).

    Args:
        kind: "words" or "characters"; None where only the tokens tell. A Chinese word of two or more characters is in
            no character BERT's, but a user's words need not be Chinese alone ("T恤").
    """
    missing = [token for token in _NEEDED.values() if token not in ids]
    if missing:
        raise ConversionError(f"{path}: lacks {', '.join(missing)}; expected a BERT vocabulary, one token a line")
    special = {role: token if token in ids else None for role, token in (_NEEDED | _WELCOME).items()}
    kind = kind or ("words" if any(map(_is_chinese_word, ids)) else "characters")
    return SourceVocabulary(ids, vocabulary_fingerprint(sorted(ids, key=ids.__getitem__)), special, kind)


def line_problem(token: str) -> str | None:
    """Why a token cannot be a line of `vocab.txt`, which would move the ids of all that follow; None if it can."""
    if "\n" in token or token.rstrip("\r") != token:
        return "has a line end in it"
    return "is no valid Unicode" if any("\ud800" <= char <= "\udfff" for char in token) else None


def _is_chinese_word(token: str) -> bool:
    return len(token) > 1 and all("\u4e00" <= char <= "\u9fff" for char in token)
