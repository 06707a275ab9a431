# Copied from losses_wobert.py: a file that travels to the Hub cannot import another model's.
"""The losses of all heads, the same under gradient accumulation and data parallelism as in one batch.

Given `num_items_in_batch` (which `Trainer` counts and passes) a loss is the sum over the items divided by that number,
else their mean. Computed in float32 (or more) whatever the logits are: a sum over a large batch overflows float16.
"""

from typing import Any

import torch
from torch.nn import functional


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Cross entropy of logits [..., classes] and labels [...]: the mean over the labels that are not -100, or their
    sum divided by `num_items_in_batch`, the number of such labels in the whole accumulated, distributed batch."""
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1).to(logits.device)
    # torch takes classes as int64 only; what is no integer at all it refuses by itself.
    labels = labels if labels.is_floating_point() else labels.long()
    reduction = "mean" if num_items_in_batch is None else "sum"
    return _divide(functional.cross_entropy(widen(logits), labels, reduction=reduction), num_items_in_batch)


def text_classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, config: Any, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """The loss of logits [batch, classes] that `config.problem_type` names, which is set after the first labels.

    Raises:
        ValueError: whole numbers for each class, without a problem type that allows several labels a text.
    """
    whole = not (labels.is_floating_point() or labels.dtype == torch.bool)
    one_label = config.num_labels > 1 and config.problem_type in (None, "single_label_classification")
    if one_label and whole and labels.shape == logits.shape:
        raise ValueError(
            f"expected labels [batch] of classes, got whole numbers {list(labels.shape)}, one for each class: for "
            "several labels a text set config.problem_type='multi_label_classification'"
        )
    if config.problem_type is None:
        if config.num_labels == 1:
            config.problem_type = "regression"
        elif labels.dtype in (torch.long, torch.int):
            config.problem_type = "single_label_classification"
        else:
            config.problem_type = "multi_label_classification"
    if config.problem_type == "single_label_classification":
        return cross_entropy(logits, labels, num_items_in_batch)
    loss_function = (
        functional.mse_loss if config.problem_type == "regression" else functional.binary_cross_entropy_with_logits
    )
    logits = widen(logits)
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = loss_function(logits, labels.to(logits.dtype).reshape(logits.shape), reduction=reduction)
    return _divide(loss, num_items_in_batch)


def span_loss(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    start_positions: torch.Tensor,
    end_positions: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """The mean of the two cross entropies of logits [batch, length] and positions [batch]. A position outside the text
    (or negative) means no loss."""
    length = start_logits.shape[1]
    losses = []
    for logits, positions in ((start_logits, start_positions), (end_logits, end_positions)):
        positions = positions.reshape(-1)
        positions = positions.masked_fill((positions < 0) | (positions >= length), -100)
        losses.append(cross_entropy(logits, positions, num_items_in_batch))
    return (losses[0] + losses[1]) / 2


def pretraining_loss(
    prediction_logits: torch.Tensor,
    seq_relationship_logits: torch.Tensor,
    labels: torch.Tensor | None,
    next_sentence_label: torch.Tensor | None,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor | None:
    """The sum of the masked-word and the next-sentence loss, or the one whose labels are given, or None.

    The next-sentence loss has no count of its own: it is weighted by this micro-batch's share of masked words.
    """
    losses = []
    if labels is not None:
        losses.append(cross_entropy(prediction_logits, labels, num_items_in_batch))
    if next_sentence_label is not None:
        next_sentence_loss = cross_entropy(seq_relationship_logits, next_sentence_label)
        if labels is not None and num_items_in_batch is not None:
            next_sentence_loss = next_sentence_loss * (labels.ne(-100).sum() / num_items_in_batch)
        losses.append(next_sentence_loss)
    return torch.stack(losses).sum() if losses else None


def widen(values: torch.Tensor) -> torch.Tensor:
    """In float32, if it was in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def with_loss(outputs: Any, loss: torch.Tensor) -> Any:
    """The outputs with their loss. Made anew: one set afterwards would come last in a tuple, where all expect it
    first."""
    return type(outputs)(**{**outputs, "loss": loss})


def _divide(loss: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor:
    return loss if num_items_in_batch is None else loss / torch.as_tensor(num_items_in_batch, device=loss.device)
