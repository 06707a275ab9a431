"""RoFormer's rotary positions (https://kexue.fm/archives/8265): features 2i and 2i + 1 form a pair.

At position p the pair is rotated by p 10000^(-2i/dim). The table depends on the configuration only and is not saved.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from .configuration_cln_matcher import ClnMatcherConfig


def rotation_table(length: int, dim: int) -> torch.Tensor:
    """Return the cosines and sines of positions 0, 1, ...: [2, length, dim], float32, each value twice in a row.

    They are computed in float64 and rounded once, to the same bits as the table in transformers' RoFormer checkpoints.
    """
    angles = np.arange(length)[:, None] / np.power(10000, np.arange(0, dim, 2) / dim)
    table = np.stack((np.cos(angles), np.sin(angles))).astype(np.float32)
    return torch.from_numpy(table.repeat(2, axis=-1))


def rotate(features: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Rotate all pairs of [batch, heads, length, dim]; cosines and sines are [batch or 1, 1, length, dim]."""
    # The table stays in float32 when a model is loaded in half precision.
    cosines, sines = cosines.to(features.dtype), sines.to(features.dtype)
    turned = torch.stack((-features[..., 1::2], features[..., ::2]), dim=-1).reshape_as(features)
    return features * cosines + turned * sines


class ClnMatcherRotations(nn.Module):
    """The rotation table for texts of up to `max_position_embeddings` tokens."""

    def __init__(self, config: ClnMatcherConfig) -> None:
        super().__init__()
        self.length = config.max_position_embeddings
        self.dim = config.hidden_size // config.num_attention_heads
        # Not saved: `_init_weights` rebuilds it after loading.
        self.table: torch.Tensor = nn.Buffer(rotation_table(self.length, self.dim), persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "ClnMatcherRotations":
        # Every move and cast of a module comes here: `to_empty` leaves no values, and float16 loses precision.
        super()._apply(fn, recurse)
        if not self.table.is_meta:
            self.table = rotation_table(self.length, self.dim).to(self.table)
        return self

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cosines and sines of positions [batch or 1, length]: [batch or 1, 1, length, dim] each."""
        cosines, sines = self.table[:, position_ids]
        return cosines[:, None], sines[:, None]
