"""Detect networks in which padding changes the states of real tokens.

Attention respects the mask. Convolutions (ConvBERT), embeddings of neighbouring tokens (MobileBERT) and Fourier
transforms (FNet) do not: the output for a text then depends on the length of the other texts in its batch. Such a
network needs batches of texts of equal length.
"""

from typing import Any

import torch
from torch import nn

from .model_facts import cached_fact


def padding_leaks(model: nn.Module, input_ids: torch.Tensor, **inputs: Any) -> bool:
    """Return whether the first output at real tokens depends on the padding; computed once per model.

    Args:
        model: an encoder, or a model with a head, in evaluation mode.
        input_ids: [batch, length] on the model's device; only a few of them are used.
        inputs: other required inputs, independent of the batch.
    """
    # The sample and its padding are no longer than the given rows, which the model is known to take.
    width = min(4, max(1, input_ids.shape[1] - 1))
    return cached_fact(model, "padding_leaks", lambda: _leaks(model, input_ids[:1, :width], inputs))


@torch.inference_mode()
def _leaks(model: nn.Module, sample: torch.Tensor, inputs: dict[str, Any]) -> bool:
    mask = torch.cat([torch.ones_like(sample), torch.zeros_like(sample[:, :1])], dim=1)

    def states(padding: int) -> Any:
        ids = torch.cat([sample, torch.full_like(sample[:, :1], padding)], dim=1)
        return model(input_ids=ids, attention_mask=mask, **inputs)[0][:, : sample.shape[1]]

    # Exact: with equal shapes, the sums are equal if padding has a weight of 0. A comparison with an unpadded row
    # would need a tolerance, which would hide a small leak in half precision.
    return not torch.equal(states(0), states(1))


__all__ = ["padding_leaks"]
