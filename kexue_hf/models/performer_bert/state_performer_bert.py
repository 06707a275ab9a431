"""What a causal Performer BERT keeps of a text: sums of a fixed size in every layer, whatever the length.

It takes the place of transformers' cache of keys and values, and `generate` reorders it for beam search. Nothing can
be taken out of a sum: ways to generate that go back are refused. A forward pass works on a draft, which replaces the
state at the end: one that fails on the way leaves the state as it was.
"""

import copy
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
    is_croppable = False
    # `generate` removes the past from the ids only where a layer's cache is not linear, and this model reads new ids.
    is_linear = (False,)

    def __init__(self, feature_maps: list[FeatureMap], scaling: float) -> None:
        self.layers = [LinearAttentionState(feature_map, scaling=scaling) for feature_map in feature_maps]
        self._length = 0
        # Real tokens of each row [batch, 1]: the position of the next one.
        self._real: torch.Tensor | None = None

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many tokens have been read, padding included."""
        return self._length

    def check(self, feature_maps: list[FeatureMap]) -> None:
        """Raise ValueError if the state is of a model with other feature maps than these, one a layer."""
        if len(self.layers) != len(feature_maps):
            raise ValueError(
                f"the state is of a model with {len(self.layers)} linear layers, this one has {len(feature_maps)}: "
                "begin with use_cache=True and no past"
            )
        for number, (layer, found) in enumerate(zip(self.layers, feature_maps, strict=True)):
            if layer.feature_map is not found and repr(layer.feature_map) != repr(found):
                raise ValueError(
                    f"the state is of a model with other feature maps: in layer {number} {layer.feature_map!r}, "
                    f"expected {found!r}"
                )

    def positions(self, real: torch.Tensor) -> torch.Tensor:
        """The positions of the next tokens, of which `real` [batch, length] are no padding.

        Raises:
            ValueError: another number of texts than before.
        """
        return (self._counts(real) - 1).clamp(min=0)

    def draft(self) -> "PerformerBertState":
        """A state of its own with the same past: sums are never changed, only replaced."""
        made = copy.copy(self)
        made.layers = [copy.copy(layer) for layer in self.layers]
        return made

    def commit(self, draft: "PerformerBertState", real: torch.Tensor) -> None:
        """Take over what a draft has read, tokens of which `real` [batch, length] are no padding."""
        counts = self._counts(real)
        self.layers = draft.layers
        self._length += real.shape[1]
        if real.shape[1]:
            self._real = counts[:, -1:]

    def __deepcopy__(self, memo: dict[int, Any]) -> "PerformerBertState":
        """With sums of its own; the feature maps are the model's."""
        made = self.draft()
        memo[id(self)] = made
        for layer in made.layers:
            if layer.tensors is not None:
                layer.tensors = type(layer.tensors)(*(tensor.clone() for tensor in layer.tensors))
        return made

    def _counts(self, real: torch.Tensor) -> torch.Tensor:
        before = torch.zeros_like(real[:, :1], dtype=torch.long) if self._real is None else self._real
        if len(before) != len(real):
            raise ValueError(f"the state is of {len(before)} texts, got {len(real)}")
        return before + real.long().cumsum(-1)

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
