"""Check that a tokenizer belongs to a model before the two compute anything."""

import warnings
from typing import Any

from .vocabulary_match import vocabulary_mismatch


def check_tokenizer(model: Any, tokenizer: Any, strict: bool = False) -> None:
    """Refuse a tokenizer that cannot be the model's, and warn about one that should not be.

    Args:
        model: any model of transformers.
        tokenizer: the tokenizer that it is used with.
        strict: refuse instead of warning.

    Raises:
        ValueError: the tokenizer has only special tokens, as transformers builds one for a folder without tokenizer
            files; or it has more tokens than the model has embeddings; or `strict`, and the vocabularies differ.
    """
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ValueError(
            f"the tokenizer ({type(tokenizer).__name__}) knows only special tokens: the folder that it was loaded "
            "from has no tokenizer files"
        )
    rows = getattr(model.get_input_embeddings(), "num_embeddings", None)
    expected = getattr(getattr(model, "config", None), "vocab_fingerprint", None)
    own = getattr(tokenizer, "vocab_fingerprint", None)
    problem = vocabulary_mismatch(len(tokenizer), [own] if own else [], rows, expected)
    if problem is None:
        return
    if strict or (rows is not None and len(tokenizer) > rows):
        raise ValueError(f"{problem}: load both from one folder")
    warnings.warn(
        f"this tokenizer does not belong to this model, whose results will be meaningless: {problem}; load both from "
        "one folder",
        stacklevel=3,
    )


__all__ = ["check_tokenizer"]
