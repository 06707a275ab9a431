"""Cross entropy that ignores what is already right (kexue.fm/archives/4293)."""

from dataclasses import dataclass
from typing import Any

import torch

from kexue_hf.losses.checks import check_number
from kexue_hf.losses.focal import log_probabilities
from kexue_hf.losses.items import as_items, logits_of, number_of_items


def truncated_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, margin: float = 0.6, softness: float | None = None
) -> torch.Tensor:
    """Return the sum of lambda(p) * -log p over the items, p the label's probability.

    lambda is 1 up to p = `margin` and 0 above it: the post's 1 - [y>m][p>m] - [y<1-m][p<1-m]. With a softness K it is
    sigmoid((margin - p) / K), which the gradient passes through.

    Args:
        logits, labels: see `as_items`.
    """
    logits, labels = as_items(logits, labels)
    log_p, _ = log_probabilities(logits, labels)
    p = log_p.exp()
    weight = (p <= margin).to(p.dtype) if softness is None else torch.sigmoid((margin - p) / softness)
    return -(weight * log_p).sum()


@dataclass(frozen=True)
class TruncatedCrossEntropy:
    """Cross entropy without the items that are right already, for `Trainer(compute_loss_func=...)`.

    Train with cross entropy first: from random weights the rule keeps nearly every item.

    Args:
        margin: probability from which on an item is right, between 0 and 1; 0.6 in the post.
        softness: None for the hard rule; above 0, the width of the transition (0.1 is soft, 0.01 nearly hard).
    """

    margin: float = 0.6
    softness: float | None = None

    def __post_init__(self) -> None:
        check_number("margin", self.margin, 0, 1)
        if self.softness is not None and not 0 < self.softness < float("inf"):
            raise ValueError(f"softness must be above 0, or None for the hard rule, got {self.softness}")

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = truncated_cross_entropy(logits_of(outputs), labels, self.margin, self.softness)
        return loss / number_of_items(labels, num_items_in_batch)


__all__ = ["TruncatedCrossEntropy", "truncated_cross_entropy"]
