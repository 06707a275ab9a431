"""A masked language model taken apart: the trunk (ids to states) and the head (states to scores of the vocabulary).

The head is the larger part of a small model, and whoever wants the scores of a few positions should not pay for those
of all. transformers has no common name for it; known are the ways below, which cover its masked language models but
for a handful. Nothing is believed on a name alone: before a pair is used, it is compared with the whole model on a few
tokens. A model that cannot be told apart is used as a whole: slower, never wrong.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

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
_known: "WeakKeyDictionary[nn.Module, tuple[nn.Module, Head] | None]" = WeakKeyDictionary()


def trunk_and_head(model: nn.Module, sample: torch.Tensor) -> tuple[nn.Module, Head] | None:
    """The two parts of a masked language model, such that `head(trunk(input_ids, ...)[0])` are its logits.

    Args:
        model: a masked language model in evaluation mode.
        sample: a few ids [1, length] on its device, on which the parts are compared with the whole, once a model.

    Returns:
        trunk and head; the head maps states [..., hidden] to scores [..., vocabulary]. None where the model's parts
        cannot be told apart.
    """
    if model not in _known:
        _known[model] = next((parts for parts in _candidates(model) if _agree(model, parts, sample)), None)
    return _known[model]


def _candidates(model: nn.Module) -> Iterator[tuple[nn.Module, Head]]:
    trunk = getattr(model, getattr(model, "base_model_prefix", ""), None)
    if isinstance(trunk, nn.Module) and trunk is not model:
        for names in _HEADS:
            try:
                parts = [operator.attrgetter(name)(model) for name in names]
            except AttributeError:
                continue
            yield trunk, _composed(parts)


def _composed(parts: list[Any]) -> Head:
    def head(states: torch.Tensor) -> torch.Tensor:
        for part in parts:
            states = part(states)
        return states

    return head


def _agree(model: nn.Module, parts: tuple[nn.Module, Head], sample: torch.Tensor) -> bool:
    trunk, head = parts
    mask = torch.ones_like(sample)
    whole = model(input_ids=sample, attention_mask=mask).logits.float()
    try:
        scores = head(trunk(input_ids=sample, attention_mask=mask)[0]).float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False  # Something of that name that is called in another way.
    # Half precision may round a lone product in another order; a wrong head is off by far more.
    return scores.shape == whole.shape and torch.allclose(
        scores, whole, rtol=0, atol=0.01 * float(whole.abs().max()) + 1e-6, equal_nan=True
    )


__all__ = ["Head", "trunk_and_head"]
