"""How a classifier's logits become a prediction: kept in its configuration, applied by `pipeline`.

A model that was trained with logit adjustment predicts for balanced accuracy by argmax f, and for overall accuracy by
argmax (f + tau log prior) (kexue.fm/archives/7615). Which one was meant belongs to the model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.losses.class_prior import ClassPrior

RULES = ("argmax", "prior_adjusted", "thresholds")


@dataclass(frozen=True)
class DecisionRule:
    """Numbers that are added to the logits before the largest one is taken.

    Args:
        rule: "argmax" adds nothing; "prior_adjusted" adds `tau` log prior, the prior being the configuration's
            `class_prior`; "thresholds" takes the class whose probability exceeds its threshold by the largest factor
            (with a sigmoid per label: a label counts from its threshold on).
        tau: strength of the prior.
        thresholds: one for each label, between 0 and 1.
    """

    rule: str = "argmax"
    tau: float = 1.0
    thresholds: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise InputError(f"the decision rule must be one of {', '.join(RULES)}, got {self.rule!r}")
        if not math.isfinite(self.tau):
            raise InputError(f"tau must be a finite number, got {self.tau}")
        if (self.rule == "thresholds") != (self.thresholds is not None):
            raise InputError("thresholds are needed for the rule 'thresholds', and for no other")
        if self.thresholds is not None:
            object.__setattr__(self, "thresholds", tuple(map(float, self.thresholds)))
            if not all(0 < one < 1 for one in self.thresholds or ()):
                raise InputError(f"thresholds must be between 0 and 1, got {list(self.thresholds or ())}")

    @classmethod
    def of(cls, config: Any) -> "DecisionRule":
        """Return the rule in a model's configuration; argmax if it has none.

        Raises:
            InputError: the configuration's rule is damaged.
        """
        found = getattr(config, "decision_rule", None)
        if found is None:
            return cls()
        if not isinstance(found, dict) or not set(found) <= {"rule", "tau", "thresholds"}:
            raise InputError(f"decision_rule must have the keys rule, tau and thresholds, got {found!r}")
        return cls(**found)

    def store(self, config: Any) -> None:
        """Write the rule into a model's configuration, which saves it with the model."""
        self.shift(config)
        config.decision_rule = {"rule": self.rule}
        if self.rule == "prior_adjusted":
            config.decision_rule["tau"] = self.tau
        if self.thresholds is not None:
            config.decision_rule["thresholds"] = list(self.thresholds)

    def shift(self, config: Any) -> tuple[float, ...] | None:
        """Return what is added to the logits, one number for each; None if nothing is.

        Raises:
            InputError: the configuration lacks a prior that the rule needs, or has not as many labels as the rule.
        """
        labels = int(config.num_labels)
        sigmoid = labels == 1 or getattr(config, "problem_type", None) == "multi_label_classification"
        if self.rule == "argmax":
            return None
        if self.rule == "thresholds":
            given = tuple(self.thresholds or ())
            if len(given) != labels:
                raise InputError(f"the model has {labels} labels, the decision rule {len(given)} thresholds")
            return tuple(math.log(1 / t - 1) if sigmoid else -math.log(t) for t in given)
        prior = ClassPrior.of(config).prior
        if not all(prior):
            raise InputError(f"class {prior.index(0)} has no example, so the prior cannot be added to its logit")
        if labels == 1 and len(prior) == 2:
            return (self.tau * math.log(prior[1] / prior[0]),)
        if sigmoid or len(prior) != labels:
            raise InputError(f"the prior has {len(prior)} classes, which does not suit a model of {labels} labels")
        return tuple(self.tau * math.log(one) for one in prior)


def card_section(config: Any) -> str:
    """Return the section of a model card on the configuration's decision rule; empty for argmax."""
    rule = getattr(config, "decision_rule", None)
    if not isinstance(rule, dict) or rule.get("rule", "argmax") == "argmax":
        return ""
    settings = "".join(f", {name} {value}" for name, value in rule.items() if name != "rule")
    return (
        "\n## Decision rule\n\n"
        f"Predicts by `decision_rule` in `config.json` ({rule.get('rule')}{settings}) in "
        '`pipeline("text-classification")` where kexue_hf is imported. Without kexue_hf, the pipeline uses the logits '
        "as they are: the plain argmax.\n"
    )


__all__ = ["RULES", "DecisionRule", "card_section"]
