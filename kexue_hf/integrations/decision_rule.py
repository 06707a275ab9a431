"""`pipeline("text-classification")` predicts by the decision rule in the model's configuration."""

import functools
import importlib
from typing import Any

from kexue_hf.integrations.hooks import Losses
from kexue_hf.losses.decision_rule import DecisionRule


def apply_decision_rules(losses: Losses) -> None:
    """Have the text-classification pipeline add the rule's numbers to the logits before it computes scores."""
    pipeline_class = importlib.import_module("transformers.pipelines.text_classification").TextClassificationPipeline
    postprocess = pipeline_class.postprocess
    if getattr(postprocess, "applies_decision_rule", False):
        return

    @functools.wraps(postprocess)
    def postprocess_by_rule(self: Any, model_outputs: Any, *args: Any, **kwargs: Any) -> Any:
        config = self.model.config
        if getattr(config, "decision_rule", None) is not None:
            shift = DecisionRule.of(config).shift(config)
            chosen = kwargs.get("function_to_apply", args[0] if args else None)
            # Without a function the pipeline returns the model's logits, not a prediction.
            if shift is not None and str(getattr(chosen, "value", chosen)) != "none":
                logits = model_outputs["logits"].float()
                model_outputs = {**model_outputs, "logits": logits + logits.new_tensor(shift)}
        return postprocess(self, model_outputs, *args, **kwargs)

    postprocess_by_rule.applies_decision_rule = True  # type: ignore[attr-defined]  # a mark on the function
    pipeline_class.postprocess = postprocess_by_rule


__all__ = ["apply_decision_rules"]
