"""Attention in linear time: softmax(q k^T) v without ever forming q k^T, for any feature map.

    feature_map = create_feature_map("low_order", head_dim=64)
    output = linear_attention(query, key, value, feature_map, key_mask=real)

What a map is lies in feature_maps_performer_bert.py, how it is computed with in low_order_ and
exponential_performer_bert.py, what it ought to give in naive_performer_bert.py.

* Padding: a padded key is in no sum and in no maximum; whatever stands there, infinite or not, changes nothing. A row
  that may attend to nothing gives zeros.
* Causal: a row's numbers do not depend on later positions, not even by rounding. Generation keeps sums of a fixed
  size, `LinearAttentionState`, whatever the length.
* Precision: features, exponentials and sums are computed in float32 (float64 for float64), under autocast as well.
* What is not finite: a query reaches its own row; a key or value every row that may attend to it; neither reaches
  another row of the batch or another head.
"""

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from .exponential_performer_bert import BothWays, ExponentialSums, exponential_step, no_exponential_sums
from .feature_maps_performer_bert import ExponentialMap, FeatureMap, LowOrderMap
from .low_order_performer_bert import (
    LowOrderSums,
    coefficients_of,
    low_order_both_ways,
    low_order_step,
    no_low_order_sums,
    recomputed,
)

# Positions at a time. In causal attention all pairs of a chunk are formed.
CHUNK = 512
CAUSAL_CHUNK = 128
# Added to each random feature (of at most 1): the normaliser of a row is then never 0 by underflow.
EPSILON = 1e-6

# A compiler would unroll the loops over chunks: a graph that grows with the text, minutes of compiling, and another
# one for each length. What is around attention compiles.
_not_compiled = torch.compiler.disable(reason="loops over chunks would be unrolled")


@_not_compiled
def linear_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    feature_map: FeatureMap,
    *,
    key_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    causal: bool = False,
    epsilon: float = EPSILON,
    chunk: int | None = None,
) -> torch.Tensor:
    """Attention of queries to keys by a feature map.

    Args:
        query: [batch, heads, queries, head_dim], of a floating type.
        key, value: [batch, heads, keys, head_dim] and [batch, heads, keys, value dim].
        key_mask: boolean, [batch, keys], True where a key is real; all are, if None.
        scaling: what q . k is multiplied by; head_dim^-1/2 if None.
        causal: position i attends to the keys 0 ... i; as many queries as keys.
        epsilon: see `EPSILON`; low orders need none.
        chunk: positions at a time, `CHUNK` or `CAUSAL_CHUNK` if None.

    Returns:
        [batch, heads, queries, value dim], of the query's type.

    Raises:
        ValueError: shapes, sizes or a mask that do not fit.
    """
    scaling = _check(query, key, value, feature_map, key_mask, scaling, chunk)
    if causal:
        if query.shape[-2] != key.shape[-2]:
            raise ValueError(
                f"causal attention needs as many queries as keys, got {query.shape[-2]} and {key.shape[-2]}: keep "
                "what is past in a LinearAttentionState"
            )
        state = LinearAttentionState(feature_map, scaling=scaling, epsilon=epsilon, chunk=chunk or CAUSAL_CHUNK)
        return state.step(query, key, value, key_mask)
    with _full_precision(query):
        real = None if key_mask is None else key_mask[:, None]
        if isinstance(feature_map, LowOrderMap):
            output = low_order_both_ways(query, key, value, feature_map, real, scaling, chunk or CHUNK)
        else:
            parts = _prepare(query, key, value, feature_map, real, scaling, causal=False)
            output = BothWays.apply(
                parts.query, parts.key, parts.value, parts.log_weight, parts.key_count, *parts.map, epsilon,
                chunk or CHUNK,
            )  # fmt: skip
        return output.to(query.dtype)


class LinearAttentionState:
    """The past of causal attention: sums whose size does not depend on the length.

    `step` gives what `linear_attention(..., causal=True)` gives for the same positions of the whole sequence, for one
    token or for many: a prompt at once, then token after token.

    Attributes:
        tensors: the sums, None before the first step; the first dimension of each is the batch.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        *,
        scaling: float | None = None,
        epsilon: float = EPSILON,
        chunk: int = CAUSAL_CHUNK,
    ) -> None:
        self.feature_map, self.scaling, self.epsilon, self.chunk = feature_map, scaling, epsilon, chunk
        self.tensors: ExponentialSums | LowOrderSums | None = None

    @_not_compiled
    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Attention of the next positions to themselves and to all before; arguments as of `linear_attention`.

        Raises:
            ValueError: shapes that do not fit, or another batch, number of heads or value dim than before.
        """
        scaling = _check(query, key, value, self.feature_map, key_mask, self.scaling, self.chunk)
        if query.shape[-2] != key.shape[-2]:
            raise ValueError(
                f"a step needs as many queries as keys, got {query.shape[-2]} and {key.shape[-2]}: pass the new "
                "positions only"
            )
        with _full_precision(query):
            parts = _prepare(
                query, key, value, self.feature_map, None if key_mask is None else key_mask[:, None], scaling,
                causal=True,
            )  # fmt: skip
            past = self._past(parts)
            one = parts.real.to(parts.query.dtype)[..., None].expand(-1, value.shape[1], -1, -1)
            clean = _known_to_be_finite(parts)
            outputs = []
            for start in range(0, query.shape[-2], self.chunk):
                part = slice(start, start + self.chunk)
                inputs: tuple[Any, ...] = (
                    parts.query[:, :, part],
                    parts.key[:, :, part],
                    torch.cat([parts.value[:, :, part].to(one.dtype), one[:, :, part]], dim=-1),
                    parts.log_weight[:, :, part],
                    parts.real[..., part],
                    clean,
                )
                if isinstance(self.feature_map, LowOrderMap):
                    inputs += (self.feature_map.quadratic_dims, parts.map)
                    output, past = recomputed(low_order_step, past, *inputs)
                else:
                    output, past = recomputed(exponential_step, past, *inputs, parts.map, self.epsilon)
                outputs.append(output)
            self.tensors = past
            if not outputs:
                return torch.zeros_like(value, dtype=query.dtype)
            return torch.cat(outputs, dim=-2).to(query.dtype)

    def reorder(self, rows: torch.Tensor) -> None:
        """Take these rows of the batch, [new batch], as beam search asks for."""
        if self.tensors is not None:
            chosen = [tensor.index_select(0, rows.to(tensor.device)) for tensor in self.tensors]
            self.tensors = type(self.tensors)(*chosen)

    def detach(self) -> None:
        """Forget how the past came about: gradients do not go beyond here."""
        if self.tensors is not None:
            self.tensors = type(self.tensors)(*(tensor.detach() for tensor in self.tensors))

    def _past(self, parts: "_Parts") -> ExponentialSums | LowOrderSums:
        dtype = parts.query.dtype
        empty: ExponentialSums | LowOrderSums
        if isinstance(self.feature_map, LowOrderMap):
            sizes = (self.feature_map.linear_dims, self.feature_map.quadratic_dims)
            empty = no_low_order_sums(parts.value, *sizes, dtype)
        else:
            empty = no_exponential_sums(parts.value, parts.map[0].shape[-2], dtype)
        if self.tensors is None:
            return empty
        if self.tensors.sums.shape != empty.sums.shape:
            raise ValueError(
                "a step must have the batch, heads and value dim of those before, expected sums of shape "
                f"{list(self.tensors.sums.shape)}, got {list(empty.sums.shape)}"
            )
        return self.tensors


def _check(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    feature_map: FeatureMap,
    key_mask: torch.Tensor | None,
    scaling: float | None,
    chunk: int | None,
) -> float:
    """The scaling, after all that can be wrong has been looked at."""
    for name, states in {"query": query, "key": key, "value": value}.items():
        if states.dim() != 4 or not states.is_floating_point():
            raise ValueError(
                f"{name} must be a floating tensor [batch, heads, length, dim], got {states.dtype} of shape "
                f"{list(states.shape)}"
            )
    if query.shape[:2] != key.shape[:2] or key.shape[:3] != value.shape[:3]:
        raise ValueError(
            "query, key and value must agree in batch and heads, key and value in length, too; got shapes "
            f"{list(query.shape)}, {list(key.shape)} and {list(value.shape)}"
        )
    if not query.shape[-1] == key.shape[-1] == feature_map.head_dim:
        raise ValueError(
            f"the feature map is for a head_dim of {feature_map.head_dim}, got queries of {query.shape[-1]} and keys "
            f"of {key.shape[-1]}"
        )
    if feature_map.num_heads not in (1, query.shape[1]):
        raise ValueError(f"the feature map is for {feature_map.num_heads} heads, got {query.shape[1]}")
    if key_mask is not None:
        if key_mask.dim() > 2:
            raise ValueError(
                "linear attention forms no pairs, it takes no mask or bias of pairs: pass key_mask [batch, keys], "
                f"True where a key is real, instead of one of shape {list(key_mask.shape)}"
            )
        if key_mask.dtype != torch.bool or key_mask.shape != (key.shape[0], key.shape[2]):
            raise ValueError(
                f"key_mask must be boolean of shape {[key.shape[0], key.shape[2]]}, got {key_mask.dtype} of shape "
                f"{list(key_mask.shape)}"
            )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    scaling = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    if not 0 < scaling < math.inf:
        raise ValueError(f"scaling must be a positive number, got {scaling}")
    return scaling


def _full_precision(query: torch.Tensor) -> Any:
    kind = query.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def _known_to_be_finite(parts: "_Parts") -> bool:
    """Whether it is sure, and cheap to know, that no product of keys and values is infinite: one look at all, on the
    CPU. Elsewhere looking would wait for the device: there the answer is no."""
    if parts.value.device.type != "cpu":
        return False
    # (q . k)^2 is at most |q|^2 |k|^2; the factor leaves room for its coefficients.
    products = parts.query.detach().square().sum() * parts.key.detach().square().sum() * 1e4
    return bool((products + parts.value.detach().sum(dtype=products.dtype)).isfinite())


def _log_sums(key: torch.Tensor, directions: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The logarithm of the sum of a key's features, [batch, heads, keys]."""
    parts = [recomputed(_log_sum, part, directions, bias) for part in key.split(CHUNK, dim=-2)]
    return torch.cat(parts, dim=-1)


def _log_sum(key: torch.Tensor, directions: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return (key @ directions.mT + bias[:, None]).logsumexp(-1)


class _Parts(NamedTuple):
    """What the kernels take: padded keys and values are finite, queries and keys shifted (queries of an exponential
    map: by its biases); `map` is the rest of their arguments."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    log_weight: torch.Tensor
    real: torch.Tensor
    key_count: torch.Tensor
    map: Any


def _prepare(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    feature_map: FeatureMap,
    real: torch.Tensor | None,
    scaling: float,
    causal: bool,
) -> _Parts:
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    root = scaling**0.5
    query_mean, key_mean = (mean.to(dtype)[:, None] for mean in (feature_map.query_mean, feature_map.key_mean))
    if real is None:
        real = torch.ones(1, 1, 1, dtype=torch.bool, device=key.device).expand(key.shape[0], 1, key.shape[2])
    else:
        key, value = (states.masked_fill(~real[..., None], 0.0) for states in (key, value))
    count = real.sum(-1, dtype=dtype)[..., None, None]

    if isinstance(feature_map, LowOrderMap):
        query_projection, key_projection, curvature = (
            getattr(feature_map, name).to(dtype) for name in ("query_projection", "key_projection", "key_curvature")
        )
        shifted = key.to(dtype) - key_mean
        query = (query.to(dtype) - query_mean) @ (query_projection.mT * root)
        key = shifted @ (key_projection.mT * root)
        log_weight = scaling * (shifted * query_mean).sum(-1) + (key.square() * curvature[:, None]).sum(-1)
        rest: Any = coefficients_of(feature_map, dtype)
    elif isinstance(feature_map, ExponentialMap):
        if feature_map.centred and not causal:
            key_mean = key.sum(-2, keepdim=True, dtype=dtype) / count.clamp_min(1.0)
        key = key.to(dtype) - key_mean
        log_weight = scaling * (key * query_mean).sum(-1)
        if feature_map.gaussian:
            log_weight = log_weight - key.square().sum(-1) * (scaling / 2)
        weights = feature_map.weights(dtype)
        directions = weights.query * root
        query_bias = weights.query_bias - (directions @ query_mean.mT)[..., 0]
        query = query.to(dtype) if causal else query
        rest = (directions, weights.key * root, query_bias, weights.key_bias)
        if feature_map.normalised:
            # Padding is zeros here, and of no consequence.
            log_weight = -_log_sums(key, rest[1], weights.key_bias)
    else:
        raise ValueError(f"a feature map is a LowOrderMap or an ExponentialMap, got {type(feature_map).__name__}")
    log_weight = log_weight.masked_fill(~real, -torch.inf)
    return _Parts(query, key, value, log_weight, real, count, rest)
