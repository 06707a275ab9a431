"""Reading a BERT `vocab.txt`, the fingerprint by which a model recognises its vocabulary, and what can be a word.

Apart from the tokenizer because the conversion needs both and must not import transformers.
"""

import hashlib
import os
from collections.abc import Iterable

# Bytes of a vocab.txt: the largest in use, of 250,000 tokens, have three million.
_LARGEST = 1 << 24


class VocabularyMismatchWarning(UserWarning):
    """A tokenizer and a model came together that were not made for each other."""


def load_vocabulary(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read a vocabulary file: one token a line, line number (from 0) = id.

    Only the line end is stripped and no line is skipped: the released WoBERT vocabulary has an empty line that counts
    as a token. Of a token that occurs twice the last id wins, as in bert4keras.

    Raises:
        ValueError: the file is not UTF-8 (names the line), no regular file, or too large for a vocabulary.
    """
    _check_file(path)
    vocabulary: dict[str, int] = {}
    with open(path, "rb") as file:
        for number, raw in enumerate(file):
            try:
                token = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number + 1}: not UTF-8 ({error.reason}); a vocabulary is text, one token a line"
                ) from None
            vocabulary[token.rstrip("\r\n")] = number
    return vocabulary


def _check_file(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for what would be read for ever: a pipe, a device, a sparse file of terabytes."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: expected a regular file of one token a line, and it is a folder, pipe or device")
    if os.path.exists(path) and os.path.getsize(path) > _LARGEST:
        raise ValueError(f"{path}: has {os.path.getsize(path):,} bytes, a vocabulary has {_LARGEST:,} at most")


def vocabulary_fingerprint(tokens_in_id_order: Iterable[str]) -> str:
    """SHA-256 (first 16 hex digits) of the tokens joined by line feeds, in the order of their ids.

    Two vocabularies have the same fingerprint exactly if every id means the same token.
    """
    digest = hashlib.sha256()
    for token in tokens_in_id_order:
        digest.update(token.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def word_problem(word: str, normal: str, tokens: Iterable[str] = ()) -> str | None:
    """Why a text can be no word of a user, a clause; None if it can.

    Args:
        word: as it came. normal: its normal form.
        tokens: special and added tokens, which are found before words are and can be in none.
    """
    if any(char.isspace() for char in word):
        return f"a user word must not hold white space, got {word!r:.60}: add its parts, or add_tokens it"
    if any("\ud800" <= char <= "\udfff" for char in word):
        return f"a user word must be valid Unicode, got {word!r:.60}, which has a lone surrogate"
    if not normal:
        return f"a user word must have a character left after normalisation, got {word!r:.60}"
    token = next((token for token in tokens if token and (token in word or token in normal)), None)
    if token:
        return f"a user word must not hold a special or added token, got {word!r:.60}, which has {token!r}"
    return None
