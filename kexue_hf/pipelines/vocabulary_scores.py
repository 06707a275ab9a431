"""Check that a model is a masked language model: it scores the vocabulary at every token and sees both sides of it."""

from typing import Any

import torch
from torch import nn

from .model_facts import cached_fact


def scores_of(outputs: Any) -> torch.Tensor | None:
    """Return the vocabulary scores [batch, length, vocabulary] in outputs of a model; None if they lack them."""
    scores = getattr(outputs, "logits", None)
    found: torch.Tensor | None = getattr(outputs, "prediction_logits", None) if scores is None else scores
    return found


def check_masked_language_model(model: nn.Module, sample: torch.Tensor) -> None:
    """Raise ValueError unless the model scores each token given all others; computed once per model.

    Args:
        model: a model in evaluation mode.
        sample: a few ids [1, length] on its device.

    Raises:
        ValueError: the model does not score the vocabulary at every token (an encoder, a classifier), or it scores the
            next token.
    """
    problem = cached_fact(model, "masked_language_model", lambda: _problem(model, sample))
    if problem is not None:
        raise ValueError(
            f"expected a masked language model, as loaded by AutoModelForMaskedLM, got {type(model).__name__}, "
            f"{problem}"
        )


@torch.inference_mode()
def _problem(model: nn.Module, sample: torch.Tensor) -> str | None:
    name = type(model.get_base_model() if hasattr(model, "get_base_model") else model).__name__  # type: ignore[operator]  # of PEFT
    # XLM's and FlauBERT's "WithLMHeadModel" is a masked language model.
    if name.endswith("ForCausalLM") or (name.endswith("LMHeadModel") and not name.endswith("WithLMHeadModel")):
        return "which predicts the next token from those before it"
    width = max(2, sample.shape[1])
    sample = sample.expand(1, -1).repeat(1, width)[:, :width]
    scores = scores_of(model(input_ids=sample, attention_mask=torch.ones_like(sample)))
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", None)
    if scores is None or scores.shape[:2] != sample.shape or (vocabulary or scores.shape[2]) > scores.shape[2]:
        return "which does not score the vocabulary at every token"
    changed = sample.clone()
    changed[0, -1] = (changed[0, -1] + 1) % scores.shape[2]
    other = scores_of(model(input_ids=changed, attention_mask=torch.ones_like(sample)))
    if other is not None and torch.equal(scores[0, -2], other[0, -2]):
        return "whose scores at a token do not depend on the tokens after it"
    return None


__all__ = ["check_masked_language_model", "scores_of"]
