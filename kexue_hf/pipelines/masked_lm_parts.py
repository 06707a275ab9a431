"""A masked language model taken apart: the trunk (ids to states) and the head (states to scores of the vocabulary).

The head is the larger part of a small model, and whoever wants the scores of a few positions should not pay for those
of all. transformers has no common name for it; known are the ways below, which cover its masked language models but
for a handful. Nothing is believed on a name alone: before a pair is used, it is compared with the whole model on a few
tokens. A model that cannot be told apart is used as a whole: slower, with the same result.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .finite_results import check_finite
from .model_facts import remembered
from .vocabulary_scores import scores_of

# The modules of a head, in the order in which states go through them.
_HEADS: tuple[tuple[str, ...], ...] = (
    ("cls",),  # BERT and its like, RoFormer, WoBERT, T-TA, MobileBERT, DeBERTa
    ("cls.predictions",),  # NEZHA
    ("lm_head",),  # RoBERTa and its like, MPNet, ESM
    ("predictions",),  # ALBERT
    ("generator_predictions", "generator_lm_head"),  # ELECTRA, ConvBERT
    ("head", "decoder"),  # ModernBERT
    ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),  # DistilBERT
)
Head = Callable[[torch.Tensor], torch.Tensor]


def trunk_and_head(model: nn.Module, sample: torch.Tensor) -> tuple[nn.Module, Head] | None:
    """The two parts of a masked language model, such that `head(trunk(input_ids, ...)[0])` are its logits.

    Args:
        model: a masked language model in evaluation mode.
        sample: a few ids [1, length] on its device, on which the parts are compared with the whole, once a model.

    Returns:
        trunk and head; the head maps states [..., hidden] to scores [..., vocabulary]. None where the model's parts
        cannot be told apart.

    Raises:
        ValueError: the model's scores of the sample are not finite.
    """
    # Names are remembered, and not modules: what is found under them is looked up at each call.
    names = remembered(
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
    # Beside infinities any head would do, for ever.
    check_finite(whole, "the scores", next(model.parameters()).dtype)
    try:
        scores = head(trunk(input_ids=sample, attention_mask=mask)[0]).float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False  # Something of that name that is called in another way.
    # Half precision may round a lone product in another order; a wrong head is off by far more.
    return scores.shape == whole.shape and torch.allclose(
        scores, whole, rtol=0, atol=0.01 * float(whole.abs().max()) + 1e-6
    )


__all__ = ["Head", "trunk_and_head"]
