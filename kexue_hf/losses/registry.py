"""Losses by name, for scripts: `--loss focal --loss_option gamma=1.5`."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.losses.class_prior import ClassPrior
from kexue_hf.losses.dice import DiceLoss
from kexue_hf.losses.focal import FocalLoss
from kexue_hf.losses.ldam import LdamLoss
from kexue_hf.losses.logit_adjusted import LogitAdjustedCrossEntropy
from kexue_hf.losses.multi_label import MultiLabelCrossEntropy
from kexue_hf.losses.smooth_f1 import SmoothF1CrossEntropy
from kexue_hf.losses.truncated import TruncatedCrossEntropy
from kexue_hf.losses.weighted import WeightedCrossEntropy

LOSSES: dict[str, type] = {
    "cross_entropy": WeightedCrossEntropy,
    "focal": FocalLoss,
    "truncated": TruncatedCrossEntropy,
    "dice": DiceLoss,
    "smooth_f1": SmoothF1CrossEntropy,
    "logit_adjusted": LogitAdjustedCrossEntropy,
    "ldam": LdamLoss,
    "multi_label": MultiLabelCrossEntropy,
}
_NAMED_WEIGHTS = ("inverse", "sqrt_inverse", "effective")


def make_loss(name: str, options: Iterable[str] = (), prior: ClassPrior | None = None) -> Any:
    """Return a loss by its name.

    Args:
        options: "key=value" each, of the loss's fields. `weight` is numbers with commas between, or `inverse`,
            `sqrt_inverse`, `effective`, which need the prior.
        prior: given to the losses that need one.

    Raises:
        InputError: there is no such loss or option, or a value is wrong (or does not suit the prior's number of
            classes); or the prior is missing.
    """
    if name not in LOSSES:
        raise InputError(f"the loss must be one of {', '.join(LOSSES)}, got {name!r}")
    fields = {field.name for field in dataclasses.fields(LOSSES[name])}
    values: dict[str, Any] = {}
    for option in options:
        key, sign, text = option.partition("=")
        if not sign or key not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise InputError(
                f"options of the loss {name} are key=value with one of these keys: {known}; got {option!r}"
            )
        values[key] = _value(key, text, prior)
    for key in {"weight", "prior"} & set(values):
        if prior is not None and len(values[key]) != len(prior.counts):
            raise InputError(f"{key} must be {len(prior.counts)} numbers, one for each class, got {len(values[key])}")
    if "prior" in fields and "prior" not in values:
        if prior is None:
            raise InputError(f"the loss {name} needs the counts of the classes (ClassPrior)")
        values["prior"] = prior
    try:
        return LOSSES[name](**values)
    except ValueError as error:
        raise InputError(f"the loss {name}: {error}") from None


def _value(key: str, text: str, prior: ClassPrior | None) -> Any:
    if key == "weight" and text in _NAMED_WEIGHTS:
        if prior is None:
            raise InputError(f"weight={text} needs the counts of the classes (ClassPrior)")
        return getattr(prior, text)()
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        named = f", or one of {', '.join(_NAMED_WEIGHTS)}" if key == "weight" else ""
        raise InputError(f"{key} must be a number, or numbers with commas between{named}, got {text!r}") from None
    if key not in ("weight", "prior") and len(numbers) != 1:
        raise InputError(f"{key} must be one number, got {text!r}")
    return numbers if key in ("weight", "prior") else numbers[0]


__all__ = ["LOSSES", "make_loss"]
