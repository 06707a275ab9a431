"""Read a BERT `vocab.txt`, compute the fingerprint by which a model recognises its vocabulary, and check words.

Separate from the tokenizer because the conversion needs this module without importing transformers.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

_MARK = b"\xef\xbb\xbf"

# Size limit of a vocab.txt in bytes: the largest in use, with 250,000 tokens, have three million.
_MAX_BYTES = 1 << 24


class VocabularyMismatchWarning(UserWarning):
    """A tokenizer and a model that were not made for each other are used together."""


def load_vocabulary(path: str | os.PathLike[str], first_field: bool = True) -> dict[str, int]:
    """Read a vocabulary file: one token per line, the line number (from 0) is the id.

    No line is skipped: the released WoBERT vocabulary has an empty line that counts as a token. Of a duplicate token
    the last line counts, as in Google's BERT; bert4keras numbers the distinct tokens instead, which gives all tokens
    after a duplicate lower ids. Arguments and errors are those of `vocabulary_lines`.
    """
    return {token: number for number, token in enumerate(vocabulary_lines(path, first_field))}


def vocabulary_lines(path: str | os.PathLike[str], first_field: bool = True) -> list[str]:
    """Return the token of each line of a vocabulary file, without a byte order mark.

    Args:
        first_field: whether to take the text before the first white space, as bert4keras does, or only strip the line,
            as Google's BERT does. A line of white space stays as it is; no text leads to it.

    Raises:
        ValueError: the file is not UTF-8 (the error names the line), not a regular file, or too large.
    """
    _check_file(path)
    tokens: list[str] = []
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.removeprefix(_MARK if number == 1 else b"").decode("utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: not UTF-8 ({error.reason}); a vocabulary is text with one token per line"
                ) from None
            token = line.strip()
            if first_field and token:
                token = token.split(maxsplit=1)[0]
            tokens.append(token or line.rstrip("\r\n"))
    return tokens


def is_one_field(token: str) -> bool:
    """Return whether a token can be a line of a vocabulary file: no white space, or only that and no line end."""
    return token.split() == [token] or (not token.strip() and token.rstrip("\r\n") == token and "\n" not in token)


def without_white_space(vocabulary: Mapping[str, int]) -> Mapping[str, int]:
    """Return the tokens that a text can lead to: white space separates words and is part of none."""
    text = "".join(vocabulary)
    if text.split() == [text]:
        return vocabulary
    return {token: index for token, index in vocabulary.items() if not any(map(str.isspace, token))}


def _check_file(path: str | os.PathLike[str]) -> None:
    """Raise ValueError for a file that cannot be read to its end: a pipe, a device, a sparse file of terabytes."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: expected a regular file with one token per line, got a folder, pipe or device")
    if os.path.exists(path) and os.path.getsize(path) > _MAX_BYTES:
        raise ValueError(f"{path}: {os.path.getsize(path):,} bytes, expected {_MAX_BYTES:,} at most for a vocabulary")


def vocabulary_fingerprint(tokens_in_id_order: Iterable[str]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the tokens, joined by line feeds, in the order of their ids.

    Two vocabularies have the same fingerprint exactly if every id means the same token.
    """
    digest = hashlib.sha256()
    for token in tokens_in_id_order:
        digest.update(token.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()[:16]


def count_chinese_words(tokens: Iterable[str]) -> int:
    """Count the Chinese words of two or more characters, of which a character vocabulary has none."""
    return sum(len(token) > 1 and all("\u4e00" <= char <= "\u9fff" for char in token) for token in tokens)


def word_problem(word: str, normal: str, tokens: Iterable[str] = ()) -> str | None:
    """Return why a text cannot be a user word, or None if it can.

    Args:
        word: as given. normal: its normal form.
        tokens: special and added tokens; they are found before words are, so no word can contain one.
    """
    if any(char.isspace() for char in word):
        return f"a user word must not hold white space, got {word!r:.60}: add its parts, or use add_tokens"
    if any("\ud800" <= char <= "\udfff" for char in word):
        return f"a user word must be valid Unicode, got {word!r:.60}, which has a lone surrogate"
    if not normal:
        return f"a user word must have a character left after normalisation, got {word!r:.60}"
    token = next((token for token in tokens if token and (token in word or token in normal)), None)
    if token:
        return f"a user word must not hold a special or added token, got {word!r:.60}, which has {token!r}"
    return None


def given_vocabulary(vocab_file: Any, vocab: Any) -> dict[str, int]:
    """Return the vocabulary of a tokenizer's arguments, a file or the tokens themselves: token -> id.

    Raises:
        ValueError: neither or both are given, it cannot be read, or it is not a list of tokens.
    """
    if (vocab_file is None) == (vocab is None):
        raise ValueError(
            "WoBertTokenizer needs a vocabulary: either vocab_file=, the path of a vocab.txt, or vocab=, "
            + ("and not both" if vocab is not None else "but the folder or the call has neither")
        )
    if vocab_file is not None:
        try:
            return load_vocabulary(vocab_file)
        except OSError as error:
            raise ValueError(f"cannot read the vocabulary {vocab_file}: {error.strerror or error}") from error
    if isinstance(vocab, Mapping):
        vocabulary = dict(vocab)
        ids = set(vocabulary.values())
        if len(ids) < len(vocabulary) or not all(type(index) is int and index >= 0 for index in ids):
            raise ValueError("vocab= as a dict must map every token to a distinct id, an integer from 0 on")
    else:
        vocabulary = {token: index for index, token in enumerate(vocab)}
    for token in vocabulary:
        if not isinstance(token, str):
            raise ValueError(f"a token must be a string, got {token!r} of type {type(token).__name__}")
    return vocabulary


def check_special_tokens(vocabulary: Mapping[str, int], special: Mapping[str, Any], added: Iterable[Any]) -> None:
    """Raise ValueError for special tokens without an id: transformers would give them ids beyond the embeddings."""
    added_tokens = {*map(str, added)}
    for role, token in special.items():
        if token is not None and str(token) not in vocabulary and str(token) not in added_tokens:
            use = "the token for unknown text" if role == "unk_token" else f"its {role}"
            raise ValueError(
                f"the vocabulary of {len(vocabulary):,} tokens has no {str(token)!r}, {use}: is it a BERT vocab.txt? "
                f"Pass {role}= if it has another name, {role}=None if it has none"
            )
