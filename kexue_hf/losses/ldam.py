"""Margins that grow with the rarity of a class (Cao et al., arXiv 1906.07413)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.losses.checks import check_number, checked_prior
from kexue_hf.losses.items import as_items, logits_of, number_of_items


def ldam_loss(
    logits: torch.Tensor, labels: torch.Tensor, prior: Sequence[float], max_margin: float = 0.5, scale: float = 30.0
) -> torch.Tensor:
    """Return the sum of -log softmax(scale * (f - margin of the label's class))[label] over the items.

    The margin of class c is `max_margin` * (n_min / n_c)^(1/4), n the counts.

    Args:
        logits, labels: see `as_items`.
        prior: counts or frequencies of the classes.
    """
    logits, labels = as_items(logits, labels)
    if len(prior) != logits.shape[-1]:
        raise ValueError(f"the prior must have {logits.shape[-1]} numbers, one for each class, got {len(prior)}")
    counts = torch.tensor(prior, dtype=logits.dtype, device=logits.device)
    margins = max_margin * (counts.min() / counts) ** 0.25
    lowered = logits - functional.one_hot(labels, logits.shape[-1]) * margins[labels, None]
    return functional.cross_entropy(scale * lowered, labels, reduction="sum")


@dataclass(frozen=True)
class LdamLoss:
    """Label-distribution-aware margin loss for `Trainer(compute_loss_func=...)`.

    Args:
        prior: `ClassPrior`, or counts or frequencies of the classes, all above 0.
        max_margin: margin of the rarest class.
        scale: 30 is the paper's, for logits that are cosines. Use 1 for an ordinary linear classifier.
    """

    prior: Sequence[float]
    max_margin: float = 0.5
    scale: float = 30.0

    def __post_init__(self) -> None:
        check_number("max_margin", self.max_margin, 0)
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale must be above 0, got {self.scale}")
        object.__setattr__(self, "prior", checked_prior(self.prior))

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = ldam_loss(logits_of(outputs), labels, self.prior, self.max_margin, self.scale)
        return loss / number_of_items(labels, num_items_in_batch)


__all__ = ["LdamLoss", "ldam_loss"]
