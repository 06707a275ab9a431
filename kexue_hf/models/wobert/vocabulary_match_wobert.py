# Copied from vocabulary_match.py
"""The verdict whether a vocabulary is the one that a model was trained with.

With another one every id is valid and every prediction is meaningless, and nothing else says so.
"""

from collections.abc import Sequence


def vocabulary_mismatch(size: int, found: Sequence[str], rows: int | None, expected: str | None) -> str | None:
    """Return why a vocabulary cannot be a model's, as a clause; None if it can.

    Args:
        size: number of tokens in the vocabulary.
        found: fingerprints of the vocabulary, such as with and without added tokens; empty if unknown.
        rows: rows of the model's embedding; None if unknown.
        expected: fingerprint that the model's configuration records; None if it records none.
    """
    if rows is not None and size > rows:
        return f"the tokenizer knows {size:,} tokens, the model's embedding has {rows:,} rows"
    if expected and found and expected not in found:
        return f"the model's vocabulary has the fingerprint {expected}, the tokenizer's has {found[0]}"
    return None


__all__ = ["vocabulary_mismatch"]
