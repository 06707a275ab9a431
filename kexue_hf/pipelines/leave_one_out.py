"""Compute log p(token i | all other tokens) with any masked language model.

A T-TA (arXiv 2004.08097) predicts all positions in one pass. Any other masked language model predicts one position per
pass, the masked one: a sentence of n tokens becomes n copies, each with another token masked (pseudo-log-likelihood,
arXiv 1910.14659). The copies go through the model in batches with a bounded number of tokens, cut to their real
length. Only the state of the masked position goes through the vocabulary projection, which would otherwise be most of
the work.

The two methods do not compute the same quantity, even with equal weights: a T-TA is trained without masks in its
context.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from .evaluation_mode import evaluating
from .finite_results import check_finite
from .masked_lm_parts import Head, trunk_and_head
from .padding_leaks import padding_leaks
from .pass_size import tokens_per_pass
from .vocabulary_scores import check_masked_language_model, scores_of

METHODS = ("auto", "one_pass", "masking")
# 16 MB of scores in fp32, which fits into a CPU cache. A GPU needs more at a time to be busy.
_SCORES_AT_ONCE, _SCORES_AT_ONCE_GPU = 1 << 22, 1 << 26
# log-probabilities [n, vocabulary] (fp32), rows [n], columns [n] -> any result
Reduce = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]


def predicts_all_tokens_at_once(model: nn.Module) -> bool:
    """Return whether `model(...).logits[:, i]` predicts token i without seeing it, as in a T-TA."""
    return bool(getattr(model, "predicts_all_tokens_at_once", False))


def chosen_method(model: nn.Module, method: str = "auto") -> str:
    """Resolve `method` to `one_pass` or `masking` for this model.

    Raises:
        ValueError: the method is unknown, or it is `one_pass` and the model sees the token that it predicts.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "auto":
        return "one_pass" if predicts_all_tokens_at_once(model) else "masking"
    if method == "one_pass" and not predicts_all_tokens_at_once(model):
        raise ValueError(
            "method one_pass needs a model that does not see the token it predicts (T-TA), got "
            f"{type(model).__name__}: use method masking"
        )
    return method


@torch.inference_mode()
def leave_one_out(
    model: nn.Module,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None,
    positions: torch.Tensor,
    reduce: Reduce,
    *,
    mask_token_id: int | None = None,
    token_type_ids: torch.Tensor | None = None,
    method: str = "auto",
    batch_tokens: int | None = None,
    scores_at_once: int | None = None,
) -> list[Any]:
    """Call `reduce` with the log-probabilities of the whole vocabulary at the wanted positions, in chunks.

    If padding would change a model's scores (`padding_leaks`), a batch holds only rows of equal length.

    Args:
        model: a masked language model on any device, in any precision. It runs in evaluation mode, without gradients,
            and is then returned to its own mode.
        input_ids: [batch, length], on any device.
        attention_mask: [batch, length], 1 at real tokens; None if all tokens are real.
        positions: bool [batch, length], True at the positions to predict.
        reduce: called as reduce(log_probs [n, vocabulary] fp32, rows [n], columns [n]), with all tensors on one
            device. Each True position is in exactly one call, in no particular order. `log_probs` may be changed in
            place; it is an inference tensor.
        mask_token_id: the id of [MASK]; only masking needs it.
        token_type_ids: [batch, length], for models that have them.
        method: `one_pass`, `masking`, or `auto`: one pass if the model `predicts_all_tokens_at_once`.
        batch_tokens: maximum number of tokens per forward pass (but always at least one row); by default 1,024 on a
            CPU, 8,192 elsewhere.
        scores_at_once: maximum number of log-probabilities in memory (but always at least one position's); by default
            4 million, on a GPU 64 million.

    Returns:
        The results of `reduce`, one per call.

    Raises:
        ValueError: the model is not a masked language model or does not support the method, the shapes differ, a
            wanted position is padding, masking has no mask token, or scores are not finite (for example after an
            overflow in float16).
    """
    chosen = chosen_method(model, method)
    if chosen == "masking" and mask_token_id is None:
        raise ValueError("masking needs a tokenizer with a mask token, got one without")
    batch_tokens = tokens_per_pass(model, batch_tokens)
    device = next(model.parameters()).device
    attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    same_shape = {"attention_mask": attention_mask, "positions": positions, "token_type_ids": token_type_ids}
    for name, tensor in same_shape.items():
        if tensor is not None and tensor.shape != input_ids.shape:
            shape = list(input_ids.shape)
            raise ValueError(f"{name} must have the shape of input_ids {shape}, got {list(tensor.shape)}")
    positions = positions.to(device=device, dtype=torch.bool)
    inputs = {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}
    if token_type_ids is not None:
        inputs["token_type_ids"] = token_type_ids.to(device)
    if (positions & inputs["attention_mask"].eq(0)).any():
        raise ValueError("positions must be real tokens, got some where attention_mask is 0")
    results: list[Any] = []
    with evaluating(model):
        if not positions.any():
            return results
        sample = inputs["input_ids"][:1, :4]
        check_masked_language_model(model, sample)
        parts = trunk_and_head(model, sample)
        batches = _whole_rows if chosen == "one_pass" else _masked_copies
        equal = not inputs["attention_mask"].all() and padding_leaks(model, inputs["input_ids"])
        if equal and _holes(inputs["attention_mask"]):
            raise ValueError(f"{type(model).__name__} sees padding: pad its rows on the right only")
        for batch, wanted, rows, columns in batches(inputs, positions, batch_tokens, mask_token_id, equal):
            if batch["attention_mask"].all():
                del batch["attention_mask"]  # attention is faster without a mask
            states, head = _states(model, parts, batch)
            states = states[tuple(index.to(states.device) for index in wanted)]
            vocabulary = getattr(getattr(model, "config", None), "vocab_size", None) or states.shape[-1]
            if scores_at_once is None:
                scores_at_once = _SCORES_AT_ONCE if states.device.type == "cpu" else _SCORES_AT_ONCE_GPU
            step = max(1, scores_at_once // vocabulary)
            for start in range(0, len(states), step):
                part = slice(start, start + step)
                scores = head(states[part]).log_softmax(dim=-1, dtype=torch.float32)
                check_finite(scores, "the scores", states.dtype)
                results.append(reduce(scores, rows[part].to(scores.device), columns[part].to(scores.device)))
    return results


# Inputs; wanted (rows, columns) in these inputs; the same positions' rows and columns in the caller's batch.
_Batch = tuple[dict[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor]


def _whole_rows(
    inputs: dict[str, torch.Tensor], positions: torch.Tensor, batch_tokens: int, mask_token_id: int | None, equal: bool
) -> Iterator[_Batch]:
    lengths = _real_lengths(inputs["attention_mask"]) if equal else None
    for width in [positions.shape[1]] if lengths is None else lengths.unique().tolist():
        rows = torch.arange(len(positions), device=positions.device)
        rows = rows if lengths is None else rows[lengths == width]
        step = max(1, batch_tokens // width)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            inner, columns = positions[part].nonzero(as_tuple=True)
            if len(inner):
                batch = {name: tensor[part, :width] for name, tensor in inputs.items()}
                yield batch, (inner, columns), part[inner], columns


def _masked_copies(
    inputs: dict[str, torch.Tensor], positions: torch.Tensor, batch_tokens: int, mask_token_id: Any, equal: bool
) -> Iterator[_Batch]:
    rows, columns = positions.nonzero(as_tuple=True)
    # The longest first, and each batch is cut to its first row. A cut on the right moves no position.
    lengths = _real_lengths(inputs["attention_mask"])[rows]
    order = lengths.argsort(descending=True, stable=True)
    rows, columns, widths = rows[order], columns[order], lengths[order].tolist()
    start = 0
    while start < len(widths):
        width = widths[start]
        stop = min(len(widths), start + max(1, batch_tokens // width))
        while equal and widths[stop - 1] != width:
            stop -= 1
        part = slice(start, stop)
        start = stop
        copies = {name: tensor[rows[part], :width] for name, tensor in inputs.items()}
        inner = torch.arange(len(copies["input_ids"]), device=rows.device)
        copies["input_ids"].scatter_(1, columns[part, None], mask_token_id)
        yield copies, (inner, columns[part]), rows[part], columns[part]


def _holes(attention_mask: torch.Tensor) -> bool:
    """Return whether any row has padding before a real token."""
    return bool((_real_lengths(attention_mask) > attention_mask.ne(0).sum(dim=1).clamp(min=1)).any())


def _real_lengths(attention_mask: torch.Tensor) -> torch.Tensor:
    """Return the column where each row's right padding begins, [batch]; 1 if all is padding."""
    numbers = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
    return (numbers * attention_mask.ne(0)).amax(dim=1).clamp(min=1)


def _states(
    model: nn.Module, parts: tuple[nn.Module, Head] | None, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, Head]:
    """Return states [batch, length, ...] and the function that converts a selection of them to scores."""
    if parts is None:
        scores = scores_of(model(**batch))
        assert scores is not None  # by check_masked_language_model
        return scores, nn.Identity()
    trunk, head = parts
    return trunk(**batch)[0], head


__all__ = ["METHODS", "Reduce", "chosen_method", "leave_one_out", "predicts_all_tokens_at_once"]
