"""Does a network let padding into the states of a text's tokens?

Attention leaves out what the mask says. Convolutions (ConvBERT), neighbours' embeddings (MobileBERT) and Fourier
transforms (FNet) do not: what such a network says of a text depends on how much longer the others of its batch are.
Whoever asks it puts texts of one length together.
"""

from typing import Any

import torch
from torch import nn

from .model_facts import remembered


def padding_leaks(model: nn.Module, input_ids: torch.Tensor, **inputs: Any) -> bool:
    """Whether the first output at real tokens depends on what stands in the padding; tried once.

    Args:
        model: an encoder, or a model with a head, in evaluation mode.
        input_ids: [batch, length] on its device; a few of them are used.
        inputs: what else the model asks for, whatever the batch.
    """
    # With the padding, no longer than what is given: a model takes only so much.
    width = min(4, max(1, input_ids.shape[1] - 1))
    return remembered(model, "padding_leaks", lambda: _leaks(model, input_ids[:1, :width], inputs))


@torch.inference_mode()
def _leaks(model: nn.Module, sample: torch.Tensor, inputs: dict[str, Any]) -> bool:
    mask = torch.cat([torch.ones_like(sample), torch.zeros_like(sample[:, :1])], dim=1)

    def states(padding: int) -> Any:
        ids = torch.cat([sample, torch.full_like(sample[:, :1], padding)], dim=1)
        return model(input_ids=ids, attention_mask=mask, **inputs)[0][:, : sample.shape[1]]

    # To the last bit: the shapes are the same, and so are the sums, if what is left out has a weight of 0. Against a
    # row without padding, rounding would hide a small leak in half precision.
    return not torch.equal(states(0), states(1))


__all__ = ["padding_leaks"]
