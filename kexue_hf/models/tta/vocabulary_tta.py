"""Read a T-TA's `vocab.txt`, and compute the fingerprint by which a model recognises its vocabulary.

The rules are those of `vocabulary_wobert`; each model's files go to the Hub separately, so each has its copy.
"""

import hashlib
import os
from collections.abc import Iterable

# Size limit of a vocab.txt in bytes: the largest in use, with 250,000 tokens, have three million.
_MAX_BYTES = 1 << 24

# Ids in the official code's vocabulary; its network also hard-codes the id of [MASK].
OFFICIAL_IDS = {"[PAD]": 0, "[EOS]": 1, "[UNK]": 2, "[SOS]": 3, "[MASK]": 4, "[CLS]": 5, "[SEP]": 6}


def load_vocabulary(path: str | os.PathLike[str]) -> dict[str, int]:
    """Read a vocabulary file: one token per line, the line number (from 0) is the id; the last duplicate wins.

    White space around a token and a byte order mark are dropped, as in the official code. No line is skipped; a line
    of white space stays as it is.

    Raises:
        ValueError: the file cannot be read, is not UTF-8 (the error names the line), not a regular file, or too large.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: expected a regular file with one token per line, got a folder, pipe or device")
    if os.path.exists(path) and os.path.getsize(path) > _MAX_BYTES:
        raise ValueError(f"{path}: {os.path.getsize(path):,} bytes, expected {_MAX_BYTES:,} at most for a vocabulary")
    vocabulary: dict[str, int] = {}
    number = 0
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file):
                line = raw.decode("utf-8" if number else "utf-8-sig")
                vocabulary[line.strip() or line.rstrip("\r\n")] = number
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number + 1}: not UTF-8 ({error.reason}); a vocabulary is text with one token per line"
        ) from None
    except OSError as error:
        raise ValueError(f"cannot read the vocabulary {path}: {error.strerror or error}") from None
    return vocabulary


def vocabulary_fingerprint(tokens_in_id_order: Iterable[str]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the tokens, joined by line feeds, in the order of their ids.

    Two vocabularies have the same fingerprint exactly if every id means the same token.
    """
    digest = hashlib.sha256()
    for token in tokens_in_id_order:
        digest.update(token.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()[:16]
