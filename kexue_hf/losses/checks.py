"""Checks of the numbers that losses take, and their tensors."""

import math
from collections.abc import Sequence

import torch


def checked_weights(weight: Sequence[float] | None, logits: torch.Tensor) -> torch.Tensor | None:
    """Return class weights [classes] as a tensor like the logits [items, classes].

    Raises:
        ValueError: there is not one positive, finite number for each class.
    """
    if weight is None:
        return None
    if len(weight) != logits.shape[-1]:
        raise ValueError(f"weights must be {logits.shape[-1]}, one for each class, got {len(weight)}")
    if not all(0 < one < math.inf for one in weight):
        raise ValueError(f"class weights must be above 0 and finite, got {', '.join(map(str, weight))}")
    return torch.tensor(weight, dtype=logits.dtype, device=logits.device)


def log_prior(prior: Sequence[float], logits: torch.Tensor) -> torch.Tensor:
    """Return the log of class frequencies, which need not sum to 1, as a tensor like the logits [..., classes].

    Raises:
        ValueError: there is not one positive number for each class.
    """
    if len(prior) != logits.shape[-1]:
        raise ValueError(f"the prior must have {logits.shape[-1]} numbers, one for each class, got {len(prior)}")
    frequencies = torch.tensor(prior, dtype=torch.float64)
    return (frequencies / frequencies.sum()).log().to(logits.dtype).to(logits.device)


def checked_prior(prior: Sequence[float]) -> tuple[float, ...]:
    """Return class counts or frequencies as a tuple.

    Raises:
        ValueError: a class has none, so its logarithm is infinite.
    """
    found = tuple(map(float, getattr(prior, "counts", prior)))
    missing = [number for number, count in enumerate(found) if not 0 < count < math.inf]
    if missing or len(found) < 2:
        which = f"class {missing[0]} has {found[missing[0]]:g}" if missing else f"there are {len(found)} classes"
        raise ValueError(f"a prior needs a positive count or frequency for each of two or more classes, but {which}")
    return found


def check_number(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise ValueError if an option of a loss is not a number from `low` to `high`."""
    if not (low <= value <= high and math.isfinite(value)):
        expected = f"from {low:g} to {high:g}" if high < math.inf else f"{low:g} or more"
        raise ValueError(f"{name} must be {expected}, got {value}")


__all__ = ["check_number", "checked_prior", "checked_weights", "log_prior"]
