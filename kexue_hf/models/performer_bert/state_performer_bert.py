"""What a causal Performer BERT keeps of a text: sums of a fixed size in every layer, whatever the length.

It goes where transformers' models have their cache of keys and values (`past_key_values`), and `generate` reorders it
for beam search. Nothing can be taken out of a sum: ways to generate that go back are refused.
"""

from typing import Any

import torch

from .attention_performer_bert import LinearAttentionState
from .feature_maps_performer_bert import FeatureMap


class PerformerBertState:
    """The past of a batch of texts.

    Args:
        feature_maps: those of the layers, in their order.
        scaling: of the attention.
    """

    is_compileable = False

    def __init__(self, feature_maps: list[FeatureMap], scaling: float) -> None:
        self.layers = [LinearAttentionState(feature_map, scaling=scaling) for feature_map in feature_maps]
        self._length = 0
        # Real tokens of each row [batch, 1]: the position of the next one.
        self._real: torch.Tensor | None = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens have been read, padding included."""
        return self._length

    def positions(self, real: torch.Tensor) -> torch.Tensor:
        """The positions of the next tokens, of which `real` [batch, length] are no padding; they then count as read.

        Raises:
            ValueError: another number of texts than before.
        """
        before = torch.zeros_like(real[:, :1], dtype=torch.long) if self._real is None else self._real
        if len(before) != len(real):
            raise ValueError(f"the state is of {len(before)} texts, got {len(real)}")
        counts = before + real.long().cumsum(-1)
        self._real, self._length = counts[:, -1:], self._length + real.shape[1]
        return (counts - 1).clamp(min=0)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Take these rows of the batch."""
        for layer in self.layers:
            layer.reorder(beam_idx)
        if self._real is not None:
            self._real = self._real.index_select(0, beam_idx.to(self._real.device))

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row of the batch."""
        if self._real is not None:
            rows = torch.arange(len(self._real), device=self._real.device)
            self.reorder_cache(rows.repeat_interleave(repeats))

    def crop(self, *_: Any) -> None:
        """Not possible.

        Raises:
            ValueError: always.
        """
        raise ValueError("the state of linear attention is a sum, no token can be taken out of it again")


__all__ = ["PerformerBertState"]
