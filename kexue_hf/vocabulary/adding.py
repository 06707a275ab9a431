"""Words for a model and its tokenizer that are in use: `add_words`.

What transformers offers for this (`add_tokens`, `resize_token_embeddings`) makes tokens that match anywhere in a text,
inside longer words too, and starts their vectors at random. Here a word becomes a word of the vocabulary, cut by the
segmenter, and its vector and its output bias start as the mean of its pieces' (https://kexue.fm/archives/7758).
"""

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kexue_hf.errors import InputError
from kexue_hf.vocabulary.means import group_means
from kexue_hf.vocabulary.pairing import check_pairing

if TYPE_CHECKING:
    import torch


def add_words(model: Any, tokenizer: Any, words: Iterable[str]) -> dict[str, int]:
    """Add words to the vocabulary of a word-based model and of its tokenizer, both in place.

    Each word becomes one token: the segmenter cuts it as one unit, the input embeddings and, where the model predicts
    words, the output weights and the bias get a row that is the mean (in float64) of the rows of the pieces which the
    tokenizer cut it into before. Ties stay ties, other rows stay as they are bit for bit, and both `save_pretrained`
    keep all of it. Do it before an optimizer is made: the parameters are new objects or have new shapes.

    Args:
        model: WoBERT, NEZHA, RoFormer, ... with any head or none; the model itself, not a wrapper that trains
            it in parallel.
        tokenizer: the `WoBertTokenizer` that belongs to it.
        words: new words; case does not matter if the tokenizer lower-cases.

    Returns:
        the words in their normal form with their ids.

    Raises:
        InputError: a word is empty, given twice, in the vocabulary already, or holds white space or a special token
            (names the words); tokenizer and model do not belong together; or the model is wrapped. Model and
            tokenizer are as before.
    """
    if not hasattr(tokenizer, "grow_vocabulary"):
        raise InputError(
            f"words are added to a WoBertTokenizer, got a {type(tokenizer).__name__}: a character model becomes one "
            "of words with kexue_hf.extend"
        )
    if not hasattr(model, "resize_token_embeddings"):
        raise InputError(
            f"words are added to a model of transformers, got a {type(model).__name__}: give the model itself "
            "(model.module)"
        )
    _check_belongs(model, tokenizer)
    grown = copy.copy(tokenizer)
    try:
        # On a copy first: nothing may have changed when something turns out to be wrong.
        new = dict(grown.grow_vocabulary(words))
    except ValueError as error:
        raise InputError(str(error)) from None
    if not new:
        return new
    pieces = tokenizer(list(new), add_special_tokens=False)["input_ids"]
    whole = grown(list(new), add_special_tokens=False)["input_ids"]
    odd = [word for word, old, now in zip(new, pieces, whole, strict=True) if not old or now != [new[word]]]
    if odd:
        raise InputError(f"these words cannot be cut as one: {', '.join(map(repr, odd[:10]))}")
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
            f"the tokenizer knows {len(tokenizer):,} tokens, the model's embedding has {rows:,} rows (after "
            "add_tokens, resize_token_embeddings first)"
        ]
    if problems:
        raise InputError(f"this tokenizer does not belong to this model: {'; '.join(problems)}")


def _add_rows(model: Any, ids: list[int], pieces: list[list[int]]) -> None:
    """Rows `ids`, each the mean of its pieces', for all that has a row for each token."""
    flat, lengths = [index for group in pieces for index in group], [len(group) for group in pieces]
    means = {name: _mean(values, flat, lengths) for name, values in _vocabulary_tensors(model).items()}
    rows = model.get_input_embeddings().weight.shape[0]
    # A matrix that is rounded up may have room already.
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    for name, values in _vocabulary_tensors(model).items():
        # To double, then to the type of the weights: rounded once.
        values.data[ids] = means[name].to(device=values.device, dtype=values.dtype)


def _vocabulary_tensors(model: Any) -> "dict[str, torch.Tensor]":
    """The parameters whose first dimension is the vocabulary; one that is tied appears once or as its own twin."""
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
