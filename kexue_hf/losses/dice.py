"""Dice loss over a batch, with the self-adjusting form of Li et al. (arXiv 1911.02855)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.losses.batch_sums import share_of_batch, sum_over_processes
from kexue_hf.losses.checks import check_number
from kexue_hf.losses.items import as_items, logits_of


def dice_loss(
    logits: torch.Tensor, labels: torch.Tensor, smooth: float = 1.0, alpha: float = 0.0
) -> tuple[torch.Tensor, int]:
    """Return 1 - the mean dice coefficient of the classes, and the number of items.

    The coefficient of a class is (2 sum w y + smooth) / (sum w + sum y + smooth), w = (1 - p)^alpha p, p its
    probability, y 1 where it is the label, summed over the items of all processes. Of two classes only class 1 counts,
    as in F1.

    Args:
        logits, labels: see `as_items`.
    """
    logits, labels = as_items(logits, labels)
    p = logits.softmax(-1)
    y = functional.one_hot(labels, logits.shape[-1]).to(p.dtype)
    if logits.shape[-1] == 2:
        p, y = p[:, 1:], y[:, 1:]
    weighted = p if alpha == 0 else (1 - p).clamp(min=torch.finfo(p.dtype).tiny) ** alpha * p
    sums = sum_over_processes(torch.stack([(weighted * y).sum(0), weighted.sum(0), y.sum(0)]))
    dice = (2 * sums[0] + smooth) / (sums[1] + sums[2] + smooth)
    return 1 - dice.mean(), len(labels)


@dataclass(frozen=True)
class DiceLoss:
    """Dice loss for `Trainer(compute_loss_func=...)`.

    The coefficient is computed from the items of all processes in one forward pass. With `gradient_accumulation_steps`
    the loss is the mean over the accumulated parts, weighted by their items, which differs from the loss of the whole
    batch. Use large batches, and accumulate little.

    With `average_tokens_across_devices=False`, each process's part of the gradient is multiplied by the mean number of
    labels of a process, divided by its own: the gradient of the whole batch if these numbers are equal. The logged
    value is the mean of the loss times the same factors.

    Args:
        smooth: added to both parts of the fraction; above 0, so that a class without items has a loss of 0.
        alpha: above 0, items that are right with confidence count less.
    """

    smooth: float = 1.0
    alpha: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.smooth < float("inf"):
            raise ValueError(f"smooth must be above 0, got {self.smooth}")
        check_number("alpha", self.alpha, 0)

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        loss, items = dice_loss(logits_of(outputs), labels, self.smooth, self.alpha)
        return share_of_batch(loss, labels, items, num_items_in_batch)


__all__ = ["DiceLoss", "dice_loss"]
