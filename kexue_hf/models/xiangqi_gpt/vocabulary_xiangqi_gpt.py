"""The two vocabularies of games of xiangqi, and the fingerprint by which a model recognises its vocabulary."""

import hashlib
from collections.abc import Iterable

_FILES, _RANKS = "abcdefghi", "0123456789"

# Name -> its tokens in the order of their ids. [PAD] also stands before the first move and after the last.
VOCABULARIES: dict[str, tuple[str, ...]] = {
    # Those of kexue.fm/archives/7877: a move has 4 ids.
    "characters": ("[PAD]", *_RANKS, *_FILES),
    # A move has 2 ids, from a0 to i9 rank by rank.
    "squares": ("[PAD]", *(file + rank for rank in _RANKS for file in _FILES)),
}


# Copied from vocabulary_tta.vocabulary_fingerprint
def vocabulary_fingerprint(tokens_in_id_order: Iterable[str]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the tokens, joined by line feeds, in the order of their ids.

    Two vocabularies have the same fingerprint exactly if every id means the same token.
    """
    digest = hashlib.sha256()
    for token in tokens_in_id_order:
        digest.update(token.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()[:16]


__all__ = ["VOCABULARIES", "vocabulary_fingerprint"]
