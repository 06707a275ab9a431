"""Whether a tokenizer can be the model's own: with another one every answer is meaningless, and none says so."""

import warnings
from typing import Any


def check_tokenizer(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer that cannot be the model's, and warn of one that should not.

    Args:
        model: any model of transformers.
        tokenizer: the one that it is used with.

    Raises:
        ValueError: the tokenizer knows nothing but special tokens, as transformers makes one for a folder that has
            none; or more tokens than the model has embeddings.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ValueError(
            f"the tokenizer ({type(tokenizer).__name__}) knows no tokens but special ones: the folder that it was "
            "loaded from has no files of a tokenizer"
        )
    embeddings = getattr(model.get_input_embeddings(), "num_embeddings", None)
    if embeddings is not None and len(tokenizer) > embeddings:
        raise ValueError(
            f"the tokenizer knows {len(tokenizer):,} tokens, the model has embeddings of {embeddings:,}: load both "
            "from one folder"
        )
    expected = getattr(getattr(model, "config", None), "vocab_fingerprint", None)
    found = getattr(tokenizer, "vocab_fingerprint", expected)
    if expected and found != expected:
        warnings.warn(
            f"the model belongs to a vocabulary with the fingerprint {expected}, the tokenizer's has {found}: its "
            "answers will be meaningless; load both from one folder",
            stacklevel=3,
        )


__all__ = ["check_tokenizer"]
