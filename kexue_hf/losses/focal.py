"""Focal loss (Lin et al., arXiv 1708.02002)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kexue_hf.losses.checks import check_number, checked_weights
from kexue_hf.losses.items import as_items, logits_of, number_of_items


def focal_loss(
    logits: torch.Tensor, labels: torch.Tensor, gamma: float = 2.0, weight: Sequence[float] | None = None
) -> torch.Tensor:
    """Return the sum of weight[label] * (1 - p)^gamma * -log p over the items, p the label's probability.

    Args:
        logits, labels: see `as_items`.
        gamma: 0 gives cross entropy.
        weight: one for each class; None for 1 each.
    """
    logits, labels = as_items(logits, labels)
    log_p, log_rest = log_probabilities(logits, labels)
    # A power of 1 - p itself has no slope at p = 1 for gamma < 1, and the gradient of a sure item would be NaN.
    losses = -torch.exp(gamma * log_rest) * log_p
    weights = checked_weights(weight, logits)
    return (losses if weights is None else losses * weights[labels]).sum()


def log_probabilities(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p and log(1 - p) of each label [items], both exact where p is close to 0 or to 1."""
    chosen = logits.gather(-1, labels[:, None]).squeeze(-1)
    others = logits.scatter(-1, labels[:, None], torch.finfo(logits.dtype).min).logsumexp(-1)
    lead = chosen - others
    return torch.nn.functional.logsigmoid(lead), torch.nn.functional.logsigmoid(-lead)


@dataclass(frozen=True)
class FocalLoss:
    """Focal loss for `Trainer(compute_loss_func=...)`: items that are right with confidence count less.

    Args:
        gamma: 0 or more.
        weight: one for each class, above 0; None for 1 each.
    """

    gamma: float = 2.0
    weight: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma, 0)
        if self.weight is not None:
            object.__setattr__(self, "weight", tuple(map(float, self.weight)))

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = focal_loss(logits_of(outputs), labels, self.gamma, self.weight)
        return loss / number_of_items(labels, num_items_in_batch)


__all__ = ["FocalLoss", "focal_loss", "log_probabilities"]
