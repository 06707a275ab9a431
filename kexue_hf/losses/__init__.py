"""Losses for `Trainer(compute_loss_func=...)`, one a file, and the class prior that some of them need.

Each is a frozen dataclass that is called with `(outputs, labels, num_items_in_batch)`, over a plain function of logits
and labels. The names load on first use.
"""

import importlib
from typing import Any

_LOCATIONS = {
    "ClassPrior": "class_prior",
    "DecisionRule": "decision_rule",
    "DiceLoss": "dice",
    "FocalLoss": "focal",
    "LdamLoss": "ldam",
    "LogitAdjustedCrossEntropy": "logit_adjusted",
    "MultiLabelCrossEntropy": "multi_label",
    "SmoothF1CrossEntropy": "smooth_f1",
    "TruncatedCrossEntropy": "truncated",
    "WeightedCrossEntropy": "weighted",
    "make_loss": "registry",
}

__all__ = sorted(_LOCATIONS)


def __getattr__(name: str) -> Any:
    if name not in _LOCATIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_LOCATIONS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
