# Functions copied from losses_wobert.py
"""Losses of the heads, equal under gradient accumulation, data parallelism and in one batch.

Given `num_items_in_batch` (which `Trainer` counts and passes), a loss is the sum over the items divided by that
number; otherwise it is their mean. The computation is in float32 or wider: a sum over a large batch overflows float16.
"""

from typing import Any

import torch
from torch.nn import functional


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Return the cross entropy of logits [..., classes] and labels [...], ignoring the label -100.

    The result is the mean over the remaining labels, or their sum divided by `num_items_in_batch`, the number of such
    labels in the whole accumulated, distributed batch.
    """
    logits, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1).to(logits.device)
    # torch accepts classes as int64 only, and rejects floating-point labels itself.
    labels = labels if labels.is_floating_point() else labels.long()
    reduction = "mean" if num_items_in_batch is None else "sum"
    return _divide(functional.cross_entropy(widen(logits), labels, reduction=reduction), num_items_in_batch)


def text_classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, config: Any, num_items_in_batch: torch.Tensor | int | None = None
) -> torch.Tensor:
    """Return the loss of logits [batch, classes] that `config.problem_type` names.

    If the problem type is None, it is set from these labels.

    Raises:
        ValueError: the labels are integers for each class, but the problem type allows one label per text.
    """
    whole = not (labels.is_floating_point() or labels.dtype == torch.bool)
    one_label = config.num_labels > 1 and config.problem_type in (None, "single_label_classification")
    if one_label and whole and labels.shape == logits.shape:
        raise ValueError(
            f"expected labels [batch] of classes, got integers {list(labels.shape)}, one for each class: for "
            "several labels per text set config.problem_type='multi_label_classification'"
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


def widen(values: torch.Tensor) -> torch.Tensor:
    """Convert half precision to float32."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _divide(loss: torch.Tensor, num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor:
    return loss if num_items_in_batch is None else loss / torch.as_tensor(num_items_in_batch, device=loss.device)
