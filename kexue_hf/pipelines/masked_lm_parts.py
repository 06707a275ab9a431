"""Split a masked language model into its trunk (ids to states) and its head (states to vocabulary scores).

The head is the larger part of a small model, so computing the scores of a few positions should not cost as much as
computing all of them. transformers has no common name for the head; the list below covers nearly all of its masked
language models. A name alone is not trusted: the pair is first compared with the whole model on a few tokens. A model
that cannot be split is used as a whole, with the same result but more slowly.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .finite_results import check_finite
from .model_facts import cached_fact
from .vocabulary_scores import scores_of

# The modules of each head, in the order of the computation.
_HEADS: tuple[tuple[str, ...], ...] = (
    ("cls",),  # BERT and similar models, RoFormer, WoBERT, T-TA, MobileBERT, DeBERTa
    ("cls.predictions",),  # NEZHA
    ("lm_head",),  # RoBERTa and similar models, MPNet, ESM
    ("predictions",),  # ALBERT
    ("generator_predictions", "generator_lm_head"),  # ELECTRA, ConvBERT
    ("head", "decoder"),  # ModernBERT
    ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),  # DistilBERT
)
Head = Callable[[torch.Tensor], torch.Tensor]


def trunk_and_head(model: nn.Module, sample: torch.Tensor) -> tuple[nn.Module, Head] | None:
    """Return the two parts of a masked language model, such that `head(trunk(input_ids, ...)[0])` are its logits.

    Args:
        model: a masked language model in evaluation mode.
        sample: a few ids [1, length] on its device. The parts are compared with the whole model on them, once per
            model.

    Returns:
        The trunk, and the head, which maps states [..., hidden] to scores [..., vocabulary]. None if the model cannot
        be split.

    Raises:
        ValueError: the model's scores of the sample are not finite.
    """
    # Caches names instead of modules, so that each call finds the current modules.
    names = cached_fact(
        model, "head", lambda: next((names for names in _HEADS if _agree(model, _parts(model, names), sample)), None)
    )
    return None if names is None else _parts(model, names)


def _parts(model: nn.Module, names: tuple[str, ...]) -> tuple[nn.Module, Head] | None:
    trunk = getattr(model, getattr(model, "base_model_prefix", ""), None)
    if not isinstance(trunk, nn.Module) or trunk is model:
        return None
    try:
        return trunk, _composed([operator.attrgetter(name)(model) for name in names])
    except AttributeError:
        return None


def _composed(parts: list[Any]) -> Head:
    def head(states: torch.Tensor) -> torch.Tensor:
        for part in parts:
            states = part(states)
        return states

    return head


@torch.inference_mode()
def _agree(model: nn.Module, parts: tuple[nn.Module, Head] | None, sample: torch.Tensor) -> bool:
    if parts is None:
        return False
    trunk, head = parts
    mask = torch.ones_like(sample)
    whole = scores_of(model(input_ids=sample, attention_mask=mask))
    if whole is None:
        return False
    whole = whole.float()
    # The tolerance below grows with the largest score: with an infinity, any head would pass.
    check_finite(whole, "the scores", next(model.parameters()).dtype)
    try:
        scores = head(trunk(input_ids=sample, attention_mask=mask)[0]).float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False  # a module of that name with other arguments
    # Half precision may round the same product differently; a wrong head differs by far more.
    return scores.shape == whole.shape and torch.allclose(
        scores, whole, rtol=0, atol=0.01 * float(whole.abs().max()) + 1e-6
    )


__all__ = ["Head", "trunk_and_head"]
