"""The bias that a head like BERT's has beside its decoder's, where it is of no use.

Only the decoder's bias is added to the scores. With tied embeddings the two are one tensor; without, the other gets no
gradient, and processes that train together would wait for it or have to search for it in every step.
"""

from typing import Any

from torch import nn


def freeze_unused_bias(model: nn.Module) -> None:
    """Leave the bias of `cls.predictions` out of the training, if it is not the decoder's."""
    head: Any = getattr(getattr(model, "cls", None), "predictions", None)
    bias = getattr(head, "bias", None)
    used = getattr(getattr(head, "decoder", None), "bias", None)
    if isinstance(bias, nn.Parameter) and used is not None and used is not bias:
        bias.requires_grad_(False)


__all__ = ["freeze_unused_bias"]
