"""Reading a T-TA's `vocab.txt`, and the fingerprint by which a model recognises its vocabulary.

The rules are those of `vocabulary_wobert`; a model's files go to the Hub on their own, so each has its copy.
"""

import hashlib
import os
from collections.abc import Iterable

# Bytes of a vocab.txt: the largest in use, of 250,000 tokens, have three million.
_LARGEST = 1 << 24

# The ids that the official code has in its vocabulary; that of [MASK] is in its network too.
OFFICIAL_IDS = {"[PAD]": 0, "[EOS]": 1, "[UNK]": 2, "[SOS]": 3, "[MASK]": 4, "[CLS]": 5, "[SEP]": 6}


def load_vocabulary(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read a vocabulary file: one token a line, line number (from 0) = id; of a token that occurs twice the last wins.

    White space around a token and a byte order mark are dropped, as by the official code; no line is skipped, and one
    of white space stays as it is.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 (names the line), no regular file, or too large.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: expected a regular file of one token a line, and it is a folder, pipe or device")
    if os.path.exists(path) and os.path.getsize(path) > _LARGEST:
        raise ValueError(f"{path}: has {os.path.getsize(path):,} bytes, a vocabulary has {_LARGEST:,} at most")
    vocabulary: dict[str, int] = {}
    number = 0
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file):
                line = raw.decode("utf-8" if number else "utf-8-sig")
                vocabulary[line.strip() or line.rstrip("\r\n")] = number
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number + 1}: not UTF-8 ({error.reason}); a vocabulary is text, one token a line"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read the vocabulary {path}: {error.strerror or error}") from None
    return vocabulary


def vocabulary_fingerprint(tokens_in_id_order: Iterable[str]) -> str:
    """SHA-256 (first 16 hex digits) of the tokens joined by line feeds, in the order of their ids.

    Two vocabularies have the same fingerprint exactly if every id means the same token.
    """
    digest = hashlib.sha256()
    for token in tokens_in_id_order:
        digest.update(token.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()[:16]
