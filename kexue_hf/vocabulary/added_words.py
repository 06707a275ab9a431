"""Add words to a loaded model and its tokenizer: `add_words`.

The means of transformers (`add_tokens`, `resize_token_embeddings`) make tokens that match anywhere in a text, also
inside longer words, with random embeddings. Here the segmenter finds the new words, and their embeddings and output
biases are initialised to the mean over their word pieces (https://kexue.fm/archives/7758).
"""

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kexue_hf.errors import InputError
from kexue_hf.vocabulary.group_means import group_means
from kexue_hf.vocabulary.tokenizer_check import check_pairing

if TYPE_CHECKING:
    import torch


def add_words(model: Any, tokenizer: Any, words: Iterable[str]) -> dict[str, int]:
    """Add words to a word-based model and its tokenizer, both in place.

    Each word becomes one token. The input embeddings, the output weights and the output bias get a row that is the
    float64 mean of the rows of the word pieces into which the tokenizer split the word before. Tied weights stay tied,
    other rows stay equal bit for bit, and both `save_pretrained` methods save the result. Call this before you make
    the optimizer, because parameters are replaced or change their shapes.

    Args:
        model: WoBERT, NEZHA, RoFormer, ... with any head or none; not a wrapper such as DistributedDataParallel.
        tokenizer: the `WoBertTokenizer` of the model.
        words: the new words; case does not matter if the tokenizer lower-cases.

    Returns:
        the normalised words with their ids.

    Raises:
        InputError: a word is empty, repeated, in the vocabulary already, or holds white space or a special token (the
            message names the words); the tokenizer does not belong to the model; or the model is wrapped. Model and
            tokenizer are then unchanged.
    """
    if not hasattr(tokenizer, "grow_vocabulary"):
        raise InputError(
            f"expected a WoBertTokenizer, got a {type(tokenizer).__name__}: turn a character model into a "
            "word-based one with kexue_hf.extend"
        )
    if not hasattr(model, "resize_token_embeddings"):
        raise InputError(
            f"expected a transformers model, got a {type(model).__name__}: give the wrapped model (model.module)"
        )
    _check_belongs(model, tokenizer)
    grown = copy.copy(tokenizer)
    try:
        # Try a copy first, so that an error leaves the tokenizer unchanged.
        new = dict(grown.grow_vocabulary(words))
    except ValueError as error:
        raise InputError(str(error)) from None
    if not new:
        return new
    pieces = tokenizer(list(new), add_special_tokens=False)["input_ids"]
    whole = grown(list(new), add_special_tokens=False)["input_ids"]
    odd = [word for word, old, now in zip(new, pieces, whole, strict=True) if not old or now != [new[word]]]
    if odd:
        raise InputError(f"these words cannot become one token: {', '.join(map(repr, odd[:10]))}")
    _add_rows(model, list(new.values()), pieces)
    tokenizer.grow_vocabulary(new)
    if getattr(model.config, "vocab_fingerprint", None) is not None:
        model.config.vocab_fingerprint = tokenizer.vocab_fingerprint
    return new


def _check_belongs(model: Any, tokenizer: Any) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is raised below
        problems = check_pairing(model, tokenizer)
    rows = model.get_input_embeddings().weight.shape[0]
    if not problems and len(tokenizer) > rows:
        problems = [
            f"the tokenizer has {len(tokenizer):,} tokens, the model's embedding {rows:,} rows (after add_tokens, "
            "call resize_token_embeddings first)"
        ]
    if problems:
        raise InputError(f"this tokenizer does not belong to this model: {'; '.join(problems)}")


def _add_rows(model: Any, ids: list[int], pieces: list[list[int]]) -> None:
    """Set the rows `ids` of every vocabulary tensor to the means over their word pieces."""
    flat, lengths = [index for group in pieces for index in group], [len(group) for group in pieces]
    means = {name: _mean(values, flat, lengths) for name, values in _vocabulary_tensors(model).items()}
    rows = model.get_input_embeddings().weight.shape[0]
    # A padded matrix may have enough rows already.
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    for name, values in _vocabulary_tensors(model).items():
        # The mean is float64, so it is rounded only once.
        values.data[ids] = means[name].to(device=values.device, dtype=values.dtype)


def _vocabulary_tensors(model: Any) -> "dict[str, torch.Tensor]":
    """Return the parameters whose first dimension is the vocabulary. A tied output weight is not repeated."""
    tensors = {"input": model.get_input_embeddings().weight}
    output = model.get_output_embeddings()
    if output is not None:
        if output.weight is not tensors["input"]:
            tensors["output"] = output.weight
        if getattr(output, "bias", None) is not None:
            tensors["bias"] = output.bias
    return tensors


def _mean(values: "torch.Tensor", flat: list[int], lengths: list[int]) -> "torch.Tensor":
    import torch

    rows = values.detach()[flat].to(device="cpu", dtype=torch.float64)
    return torch.from_numpy(group_means(rows.numpy(), lengths))


__all__ = ["add_words"]
