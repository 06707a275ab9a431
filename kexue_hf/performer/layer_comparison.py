"""Compare linear attention with softmax layer by layer, on the softmax model's queries, keys and values.

The result is the error of each layer's map in that layer alone, how peaked its softmax is, and which layers are close
enough to be linear.

`LINEAR_ERROR` is high because the residual connection hides much of an attention error. Measured on a sentence encoder
of six layers, on passages of 256 tokens: if the two layers below this error are linear, the pooled vectors have a
cosine of .99 with those of softmax; if the next best layer (error .44) is linear too, .98; if all six are, .90.
"""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention
from kexue_hf.models.performer_bert.favor_performer_bert import OBSERVER, RECORDER, Observer
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap, LowOrderMap

# Largest relative L2 error of the attention of a layer that "auto" makes linear.
LINEAR_ERROR = 0.4
# Pairs of positions per block.
_PAIRS = 1 << 24


class LayerComparison:
    """Statistics of a layer's attention; sums over real positions, float64, [heads] each.

    Args:
        maps: feature maps to compare with softmax, by names that the caller chooses.
    """

    def __init__(self, maps: Mapping[str, FeatureMap] | None = None) -> None:
        self.maps = dict(maps or {})
        self.positions = 0
        self._sums: dict[str, torch.Tensor] = {}
        self._scaling = 1.0

    @torch.no_grad()
    def add(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        real: torch.Tensor | None,
        scaling: float,
        causal: bool,
    ) -> None:
        """Add one batch; arguments as in `linear_attention`, with as many queries as keys."""
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        batch, heads, length, _ = query.shape
        if real is None:
            real = torch.ones(batch, length, dtype=torch.bool, device=query.device)
        self.positions += int(real.sum())
        self._scaling = scaling
        counted = real[:, None, :, None]
        for name, states in {"query": query, "key": key}.items():
            states = states.masked_fill(~counted, 0.0).double()
            self._count(f"{name} sum", states.sum((0, 2)))
            self._count(f"{name} squares", states.square().sum((0, 2, 3)))
        found = {
            name: linear_attention(query, key, value, feature_map, key_mask=real, scaling=scaling, causal=causal)
            for name, feature_map in self.maps.items()
        }
        values = value.masked_fill(~counted, 0.0)
        rows = max(1, _PAIRS // max(1, batch * heads * length))
        positions = torch.arange(length, device=query.device)
        for start in range(0, length, rows):
            part = slice(start, start + rows)
            allowed = real[:, None, None, :]
            if causal:
                allowed = allowed & (positions[None, :] <= positions[part, None])
            size = allowed.sum(-1, keepdim=True).clamp_min(1)
            # Padding rows are ignored; fully masked rows have zeros.
            counted_rows = counted[:, :, part]
            scores = (query[:, :, part] @ key.mT * scaling).masked_fill(~allowed, 0.0)
            mean = scores.sum(-1, keepdim=True) / size
            variance = (scores - mean).masked_fill(~allowed, 0.0).square().sum(-1, keepdim=True) / size
            weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1).masked_fill(~allowed, 0.0)
            entropy = torch.special.entr(weights).sum(-1, keepdim=True)
            self._add_rows("logit variance", variance, counted_rows)
            self._add_rows("attended", entropy.exp(), counted_rows)
            self._add_rows("share", entropy.exp() / size, counted_rows)
            exact = weights @ values
            self._add_rows("output", exact.square(), counted_rows)
            uniform = allowed.to(dtype).expand_as(weights) / size @ values
            self._add_rows("mean error", (uniform - exact).square(), counted_rows)
            for name, output in found.items():
                self._add_rows(f"error of {name}", (output[:, :, part] - exact).square(), counted_rows)

    def _add_rows(self, name: str, states: torch.Tensor, counted_rows: torch.Tensor) -> None:
        self._count(name, states.masked_fill(~counted_rows, 0.0).double().sum((0, 2, 3)))

    def _count(self, name: str, amount: torch.Tensor) -> None:
        self._sums[name] = self._sums[name] + amount if name in self._sums else amount

    def deviation(self, side: str) -> torch.Tensor:
        """Return the root mean square entry about the mean of "query" or "key", [heads].

        The unit is the one in which q . k is divided by the root of the number of entries.
        """
        sums = self._sums[f"{side} sum"]
        entries = sums.shape[-1]
        variance = self._sums[f"{side} squares"] / self.positions - (sums / self.positions).square().sum(-1)
        # Half of any unusual scaling is attributed to the queries, half to the keys.
        return (variance.clamp_min(0.0) / entries * self._scaling * entries**0.5).sqrt()

    def logit_deviation(self) -> torch.Tensor:
        """Return the standard deviation of a row's logits about the row's mean, [heads]; softmax ignores the mean."""
        return (self._sums["logit variance"] / self.positions).sqrt()

    def attended(self) -> torch.Tensor:
        """Return the number of keys a row attends to, exp of the entropy of its weights, [heads]."""
        return self._sums["attended"] / self.positions

    def share(self) -> torch.Tensor:
        """Return `attended` divided by the number of available keys; 1 is uniform attention."""
        return self._sums["share"] / self.positions

    def mean_error(self, each_head: bool = False) -> torch.Tensor:
        """Return the relative L2 error of uniform attention: of all heads together, or [heads]."""
        return self._relative("mean error", each_head)

    def error(self, name: str, each_head: bool = False) -> torch.Tensor:
        """Return the relative L2 error of the layer's attention with the named map, before its output projection."""
        return self._relative(f"error of {name}", each_head)

    def _relative(self, name: str, each_head: bool) -> torch.Tensor:
        error, size = self._sums[name], self._sums["output"]
        if not each_head:
            error, size = error.sum(), size.sum()
        return (error / size.clamp_min(torch.finfo(torch.float64).tiny)).sqrt()


@contextlib.contextmanager
def observed_softmax(look: Observer) -> Iterator[None]:
    """Within the block, make every layer with linear attention compute softmax and pass its inputs to `look`."""
    recorder = RECORDER.set(lambda *_: None)
    observer = OBSERVER.set(look)
    try:
        yield
    finally:
        OBSERVER.reset(observer)
        RECORDER.reset(recorder)


@torch.no_grad()
def compare_layers(
    model: Any, batches: Iterable[Mapping[str, Any]], maps: Mapping[nn.Module, FeatureMap]
) -> dict[nn.Module, LayerComparison]:
    """Compare each attention layer's map with softmax.

    Args:
        model: a model in evaluation mode whose layers use linear attention.
        batches: its inputs.
        maps: by attention module; other modules are ignored.
    """
    found = {module: LayerComparison({"map": feature_map}) for module, feature_map in maps.items()}

    def look(module: nn.Module, *shown: Any) -> None:
        if module in found:
            found[module].add(*shown)

    with observed_softmax(look):
        for batch in batches:
            model(**on_device(batch, model.device))
    return found


def on_device(batch: Mapping[str, Any], device: Any) -> dict[str, Any]:
    """Return a model's inputs with all tensors on the device."""
    return {name: states.to(device) if torch.is_tensor(states) else states for name, states in batch.items()}


def close_enough(error: float, mean_error: float, threshold: float = LINEAR_ERROR) -> bool:
    """Return whether a layer may be linear: within `threshold` of softmax, and closer than uniform attention."""
    return error <= threshold and error < mean_error


def mean_map(like: FeatureMap) -> LowOrderMap:
    """Return a map of uniform attention."""
    uniform = LowOrderMap(like.head_dim, 2, like.num_heads).to(like.key_mean.device)
    uniform.linear.zero_()
    uniform.quadratic.zero_()
    return uniform


def weight_sharing_copy(model: Any) -> Any:
    """Return a copy in evaluation mode that shares the model's weights, but not its maps, settings or modes."""
    own = {id(tensor) for part in model.modules() if isinstance(part, FeatureMap) for tensor in _tensors(part)}
    shared = {id(tensor): tensor for tensor in _tensors(model) if id(tensor) not in own}
    return copy.deepcopy(model, shared).eval()


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


__all__ = [
    "LINEAR_ERROR",
    "LayerComparison",
    "close_enough",
    "compare_layers",
    "mean_map",
    "observed_softmax",
    "on_device",
    "weight_sharing_copy",
]
