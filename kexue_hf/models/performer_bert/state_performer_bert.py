"""The past of a causal Performer BERT: sums in every layer, whose size does not depend on the length.

It replaces transformers' cache of keys and values, and `generate` reorders it for beam search. A token cannot be
removed from a sum, so generation methods that go back are refused. A forward pass works on a draft, which replaces the
state at the end: if it fails, the state stays as it was.
"""

import copy
from typing import Any

import torch

from .attention_performer_bert import LinearAttentionState
from .feature_maps_performer_bert import FeatureMap


class PerformerBertState:
    """The past of a batch of texts.

    Args:
        feature_maps: the maps of the layers, in order.
        scaling: scaling of the attention.
    """

    is_compileable = False
    is_croppable = False
    # `generate` passes only the new ids to this model, which it would not do for a linear cache.
    is_linear = (False,)

    def __init__(self, feature_maps: list[FeatureMap], scaling: float) -> None:
        self.layers = [LinearAttentionState(feature_map, scaling=scaling) for feature_map in feature_maps]
        self._length = 0
        # Real tokens of each row, [batch, 1]: the position of the next token.
        self._real: torch.Tensor | None = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens read, padding included."""
        return self._length

    def check(self, feature_maps: list[FeatureMap]) -> None:
        """Raise ValueError if the state belongs to a model with other feature maps than these, one per layer."""
        if len(self.layers) != len(feature_maps):
            raise ValueError(
                f"the state belongs to a model with {len(self.layers)} linear layers, this one has "
                f"{len(feature_maps)}: start with use_cache=True and without a past"
            )
        for number, (layer, found) in enumerate(zip(self.layers, feature_maps, strict=True)):
            if layer.feature_map is not found and repr(layer.feature_map) != repr(found):
                raise ValueError(
                    f"the state belongs to a model with other feature maps: in layer {number} {layer.feature_map!r}, "
                    f"expected {found!r}"
                )

    def positions(self, real: torch.Tensor) -> torch.Tensor:
        """Return the positions of the next tokens; `real` [batch, length] is False at padding.

        Raises:
            ValueError: the number of texts differs from before.
        """
        return (self._counts(real) - 1).clamp(min=0)

    def draft(self) -> "PerformerBertState":
        """Return a copy with the same past: sums are never changed, only replaced."""
        made = copy.copy(self)
        made.layers = [copy.copy(layer) for layer in self.layers]
        return made

    def commit(self, draft: "PerformerBertState", real: torch.Tensor) -> None:
        """Take over the tokens that a draft has read; `real` [batch, length] is False at padding."""
        counts = self._counts(real)
        self.layers = draft.layers
        self._length += real.shape[1]
        if real.shape[1]:
            self._real = counts[:, -1:]

    def __deepcopy__(self, memo: dict[int, Any]) -> "PerformerBertState":
        """Copy the sums; the feature maps remain the model's."""
        made = self.draft()
        memo[id(self)] = made
        for layer in made.layers:
            if layer.tensors is not None:
                layer.tensors = type(layer.tensors)(*(tensor.clone() for tensor in layer.tensors))
        return made

    def _counts(self, real: torch.Tensor) -> torch.Tensor:
        before = torch.zeros_like(real[:, :1], dtype=torch.long) if self._real is None else self._real
        if len(before) != len(real):
            raise ValueError(f"the state is of {len(before)} texts, got {len(real)}: start without a state")
        return before + real.long().cumsum(-1)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Select these rows of the batch."""
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
        """Refuse to remove tokens.

        Raises:
            ValueError: always.
        """
        raise ValueError("the state of linear attention is a sum, from which no token can be removed")


__all__ = ["PerformerBertState"]
