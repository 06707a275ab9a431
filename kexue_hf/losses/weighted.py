"""Cross entropy with a weight for each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.losses.checks import checked_weights
from kexue_hf.losses.items import as_items, logits_of, number_of_items


def weighted_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, weight: Sequence[float] | None = None
) -> torch.Tensor:
    """Return the sum of weight[label] * -log p[label] over the items.

    Args:
        logits, labels: see `as_items`.
        weight: one for each class; None for 1 each.
    """
    logits, labels = as_items(logits, labels)
    return functional.cross_entropy(logits, labels, weight=checked_weights(weight, logits), reduction="sum")


@dataclass(frozen=True)
class WeightedCrossEntropy:
    """Cross entropy with a weight for each class, for `Trainer(compute_loss_func=...)`.

    The sum is divided by the number of items, which is counted over the whole accumulated batch, not by the sum of
    their weights, which is not.

    Args:
        weight: one for each class, above 0; for several labels per item, of absent and present labels. None: 1 each.
            `ClassPrior` computes weights from counts.
    """

    weight: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.weight is not None:
            object.__setattr__(self, "weight", tuple(map(float, self.weight)))

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = weighted_cross_entropy(logits_of(outputs), labels, self.weight)
        return loss / number_of_items(labels, num_items_in_batch)


__all__ = ["WeightedCrossEntropy", "weighted_cross_entropy"]
