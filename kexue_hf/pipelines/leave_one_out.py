"""log p(token i | all other tokens), for any masked language model.

A T-TA (arXiv 2004.08097) gives it at every position in one pass. Any other masked language model gives it at one
position a pass, the one that is masked: n copies of the sentence, each with another token masked (arXiv 1910.14659,
pseudo-log-likelihood). The copies go through in batches of a bounded number of tokens, cut to their real length, and
only the masked position's state goes through the vocabulary projection, which would otherwise be most of the work.

The two are not the same quantity with the same weights: a T-TA is trained to see no mask in its context.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from .evaluation_mode import evaluating
from .finite_results import check_finite
from .masked_lm_parts import Head, trunk_and_head
from .padding_leaks import padding_leaks
from .vocabulary_scores import check_masked_language_model, scores_of

METHODS = ("auto", "one_pass", "masking")
# Scores of the vocabulary made at a time: 16 MB as fp32, about what a processor's cache holds. A GPU wants more.
_SCORES_AT_ONCE, _SCORES_AT_ONCE_GPU = 1 << 22, 1 << 26
# log-probabilities [n, vocabulary] (fp32), rows [n], columns [n] -> whatever is wanted of them
Reduce = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]


def predicts_all_tokens_at_once(model: nn.Module) -> bool:
    """Whether `model(...).logits[:, i]` is a prediction of token i that has not seen token i: a T-TA."""
    return bool(getattr(model, "predicts_all_tokens_at_once", False))


def chosen_method(model: nn.Module, method: str = "auto") -> str:
    """`one_pass` or `masking`, whichever `method` means for this model.

    Raises:
        ValueError: no such method, or one pass through a model that sees the token it is to predict.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "auto":
        return "one_pass" if predicts_all_tokens_at_once(model) else "masking"
    if method == "one_pass" and not predicts_all_tokens_at_once(model):
        raise ValueError(
            f"{type(model).__name__} sees the token that it is to predict: its scores in one pass would mean nothing; "
            "use method masking"
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
    batch_tokens: int = 8192,
    scores_at_once: int | None = None,
) -> list[Any]:
    """Hand the log-probabilities of the whole vocabulary at the wanted positions to `reduce`, in chunks.

    Args:
        model: a masked language model on any device, in any precision. If it is in training mode, it is in evaluation
            mode meanwhile. Gradients are not computed.
        input_ids: [batch, length], on any device.
        attention_mask: [batch, length], 1 at real tokens; None if all are.
        positions: bool [batch, length], True where a prediction is wanted.
        reduce: called as reduce(log_probs [n, vocabulary] fp32, rows [n], columns [n]), all on one device, until every
            True entry was in one call; in which order is not promised. `log_probs` may be changed in place; it is an
            inference tensor.
        mask_token_id: of [MASK]; needed for masking only.
        token_type_ids: [batch, length], for models that have them.
        method: `one_pass`, `masking`, or `auto`: one pass if the model `predicts_all_tokens_at_once`.
        batch_tokens: at most so many tokens go through the model at a time (but always at least one row).
        scores_at_once: at most so many log-probabilities are made at a time (but always at least one position's); by
            default 4 million, on a GPU 64 million.

    Where padding would change a model's scores (`padding_leaks`), only rows of one length go through it together.

    Returns:
        What `reduce` returned, one entry a call.

    Raises:
        ValueError: a model that is no masked language model, shapes that do not fit, a wanted position that is
            padding, a method that the model does not have, no mask token to mask with, or scores that are not finite
            (NaN or infinite, as where float16 overflows).
    """
    chosen = chosen_method(model, method)
    if chosen == "masking" and mask_token_id is None:
        raise ValueError("masking needs the id of the mask token, and this tokenizer has none")
    device = next(model.parameters()).device
    attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    given = {"attention_mask": attention_mask, "positions": positions, "token_type_ids": token_type_ids}
    for name, tensor in given.items():
        if tensor is not None and tensor.shape != input_ids.shape:
            raise ValueError(f"{name} must be of input_ids' shape {list(input_ids.shape)}, got {list(tensor.shape)}")
    positions = positions.to(device=device, dtype=torch.bool)
    inputs = {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}
    if token_type_ids is not None:
        inputs["token_type_ids"] = token_type_ids.to(device)
    if (positions & inputs["attention_mask"].eq(0)).any():
        raise ValueError("positions must be real tokens, some are padding by attention_mask")
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
                del batch["attention_mask"]  # Attention is faster without one.
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


# A batch of inputs; which entries of its states are wanted (rows, columns in this batch); where these are in the
# caller's batch (rows, columns).
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
    # The longest first, and each batch is cut to its first row. Cut on the right only: there nobody's position moves.
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
    """Is there padding before a real token?"""
    return bool((_real_lengths(attention_mask) > attention_mask.ne(0).sum(dim=1).clamp(min=1)).any())


def _real_lengths(attention_mask: torch.Tensor) -> torch.Tensor:
    """Where each row's padding on the right begins, [batch]; 1 if all is padding."""
    numbers = torch.arange(1, attention_mask.shape[1] + 1, device=attention_mask.device)
    return (numbers * attention_mask.ne(0)).amax(dim=1).clamp(min=1)


def _states(
    model: nn.Module, parts: tuple[nn.Module, Head] | None, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, Head]:
    """What is selected from ([batch, length, ...]) and what makes scores of the selection."""
    if parts is None:
        scores = scores_of(model(**batch))
        assert scores is not None  # check_masked_language_model has looked
        return scores, nn.Identity()
    trunk, head = parts
    return trunk(**batch)[0], head


__all__ = ["METHODS", "Reduce", "chosen_method", "leave_one_out", "predicts_all_tokens_at_once"]
