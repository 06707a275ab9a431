"""Logit adjustment (kexue.fm/archives/7615; Menon et al., arXiv 2007.07314)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.losses.checks import check_number, checked_prior, log_prior
from kexue_hf.losses.items import as_items, logits_of, number_of_items


def logit_adjusted_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, prior: Sequence[float], tau: float = 1.0
) -> torch.Tensor:
    """Return the sum of -log softmax(f + tau log prior)[label] over the items.

    Args:
        logits, labels: see `as_items`.
        prior: counts or frequencies of the classes.
        tau: strength; 0 gives cross entropy.
    """
    logits, labels = as_items(logits, labels)
    return functional.cross_entropy(logits + tau * log_prior(prior, logits), labels, reduction="sum")


@dataclass(frozen=True)
class LogitAdjustedCrossEntropy:
    """Cross entropy of logits that the prior is added to, for `Trainer(compute_loss_func=...)`.

    The network learns what is beyond the prior. argmax f then maximises balanced accuracy, argmax (f + tau log prior)
    overall accuracy: set `config.decision_rule` to say which one `pipeline` computes.

    Args:
        prior: `ClassPrior`, or counts or frequencies of the classes, all above 0.
        tau: strength; 1 in the post.
    """

    prior: Sequence[float]
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_number("tau", self.tau, 0)
        object.__setattr__(self, "prior", checked_prior(self.prior))

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        loss = logit_adjusted_cross_entropy(logits_of(outputs), labels, self.prior, self.tau)
        return loss / number_of_items(labels, num_items_in_batch)

    def initialize_bias(self, model: Any) -> None:
        """Write tau log prior into the bias of a model's classifier, for training with plain cross entropy instead.

        The two are the same network at the start, and the bias can be taken away again to predict.

        Raises:
            ValueError: the model has no linear classifier with a bias for each class.
        """
        head = classifier_of(model, len(self.prior))
        with torch.no_grad():
            head.bias.copy_(self.tau * log_prior(self.prior, head.bias[None]))


def classifier_of(model: Any, classes: int) -> torch.nn.Linear:
    """Return the last linear layer of a model with as many outputs as there are classes, and a bias.

    Raises:
        ValueError: the model has no such layer.
    """
    found = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == classes and module.bias is not None
    ]
    if not found:
        raise ValueError(f"{type(model).__name__} has no linear layer with a bias for each of {classes} classes")
    return found[-1]


__all__ = ["LogitAdjustedCrossEntropy", "classifier_of", "logit_adjusted_cross_entropy"]
