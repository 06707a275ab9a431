"""Losses for two imbalanced classes, for `Trainer(compute_loss_func=...)`.

Each loss is the sum over the rows, divided by the number of rows in the whole batch (accumulated and distributed), as
counted by Trainer. Dividing by the sum of the class weights would give each part of the batch another divisor.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.errors import InputError


@dataclass(frozen=True)
class CrossEntropy:
    """Cross entropy of logits [batch, 2] with class weights."""

    weights: Sequence[float] = (1.0, 1.0)

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        weights = torch.tensor(self.weights, device=logits.device)
        loss = functional.cross_entropy(logits, labels, weight=weights, reduction="sum")
        return loss / _count(labels, num_items_in_batch)


@dataclass(frozen=True)
class Focal:
    """Weighted focal loss (arXiv 1708.02002): cross entropy times (1 - p)^gamma, p the label's probability."""

    weights: Sequence[float] = (1.0, 1.0)
    gamma: float = 2.0

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"].float()
        # p = sigmoid(margin). With gamma < 1, (1 - p)^gamma computed as a power has no derivative at p = 1, and
        # the gradient of a confident row would be NaN.
        margin = (logits[:, 1] - logits[:, 0]) * (2 * labels - 1)
        factor = torch.exp(self.gamma * functional.logsigmoid(-margin))
        weights = torch.tensor(self.weights, device=logits.device)[labels]
        return -(weights * factor * functional.logsigmoid(margin)).sum() / _count(labels, num_items_in_batch)


LOSSES: dict[str, Callable[[Sequence[float], float], Any]] = {
    "cross_entropy": lambda weights, gamma: CrossEntropy(weights),
    "focal": Focal,
}


def loss_of(name: str, weights: Sequence[float] = (1.0, 1.0), gamma: float = 2.0) -> Any:
    """Return the loss of a name: cross_entropy or focal.

    Args:
        weights: weights of class 0 and class 1, both above 0.
        gamma: exponent of the focal loss, 0 or more.

    Raises:
        InputError: the name is unknown, or a number is out of range.
    """
    if name not in LOSSES:
        raise InputError(f"the loss must be one of {', '.join(LOSSES)}, got {name!r}")
    if len(weights) != 2 or not all(0 < weight < float("inf") for weight in weights):
        raise InputError(f"class weights must be two numbers above 0, got {', '.join(map(str, weights))}")
    if not 0 <= gamma < float("inf"):
        raise InputError(f"the gamma of focal loss must be 0 or more, got {gamma}")
    return LOSSES[name](tuple(weights), gamma)


def balanced_weights(labels: Iterable[int]) -> tuple[float, float]:
    """Return weights of classes 0 and 1 such that both have the same total weight, and the rows a mean weight of 1.

    Raises:
        InputError: a class does not occur.
    """
    counts = Counter(labels)
    if not counts[0] or not counts[1]:
        raise InputError(f"balanced class weights need rows of both labels, got {counts[0]} of 0 and {counts[1]} of 1")
    rows = counts[0] + counts[1]
    return rows / (2 * counts[0]), rows / (2 * counts[1])


def _count(labels: torch.Tensor, num_items_in_batch: Any) -> Any:
    if num_items_in_batch is None:
        return len(labels)
    return torch.as_tensor(num_items_in_batch, device=labels.device)


__all__ = ["CrossEntropy", "Focal", "balanced_weights", "loss_of"]
