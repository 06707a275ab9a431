"""Attention in linear time: softmax(q k^T) v without ever forming q k^T, for any feature map.

    feature_map = create_feature_map("low_order", head_dim=64)
    output = linear_attention(query, key, value, feature_map, key_mask=real)

feature_maps_performer_bert.py holds the maps, low_order_ and exponential_performer_bert.py the kernels.

* Padding: a padded key enters no sum and no maximum; its contents, infinite or not, change nothing. A row that may
  attend to nothing outputs zeros if its query is finite.
* Causal: the contents of later positions, and their mask, never change a row, not even by rounding. Their number may,
  because products of other shapes round differently; so may chunks and steps. Generation keeps sums of a fixed size,
  `LinearAttentionState`, whatever the length.
* Precision: features, exponentials and sums are computed in float32 (float64 for float64), even under autocast and in
  the backward pass.
* Gradients: for queries, keys, values and the map's parameters. Second derivatives are correct in causal attention and
  raise an error in attention to all keys.
* Epsilon: `EPSILON` is added to each random feature (at most 1). It pulls rows toward the mean of the values, more
  with larger norms and more keys: with 256 features, 64 dimensions, and queries and keys of standard deviation 1, by
  .2 % at 192 positions and 1 to 2 % at 8,192; of 1.5, by up to 20 %. Gradients treat subtracted maxima as constants.
  Without epsilon that is exact; with it, gradients agree with finite differences to about 1 % up to a standard
  deviation of 1; at 2.5, single gradients do not agree at all.
* Non-finite numbers: a query affects its own row; a key or value affects every row that may attend to it; neither
  affects another row of the batch or another head.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .exponential_performer_bert import (
    BidirectionalExponential,
    ExponentialSums,
    empty_exponential_sums,
    exponential_step,
    is_exporting,
)
from .feature_maps_performer_bert import ExponentialMap, FeatureMap, LowOrderMap
from .gradients_performer_bert import full_precision, recomputed
from .low_order_performer_bert import (
    LowOrderSums,
    coefficients_of,
    empty_low_order_sums,
    low_order_bidirectional,
    low_order_step,
)
from .traced_performer_bert import traced_exponential, traced_low_orders

# Positions per chunk. On a CPU, features must stay in its cache: fewer for maps that need more than matrix products.
# Elsewhere large chunks, to save calls.
CHUNK = 512
EXPONENTIAL_CHUNK = 256
CHUNK_ELSEWHERE = 4096
# Causal attention forms all pairs of a chunk. Several chunks are processed together, up to this many rows over all
# heads: fewer and larger operations.
CAUSAL_CHUNK = 64
CAUSAL_ROWS = 3072
# Added to each random feature, so that the normaliser of a row never underflows to 0: see above.
EPSILON = 1e-6

# A compiler would unroll the loops over chunks; traced_performer_bert.py serves it in attention to all keys. In causal
# attention a compiled model has a graph break, and an exported one forms all pairs.
_not_compiled = torch.compiler.disable


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
    """Compute attention of queries to keys by a feature map.

    Args:
        query: [batch, heads, queries, head_dim], floating point.
        key, value: [batch, heads, keys, head_dim] and [batch, heads, keys, value dim].
        key_mask: boolean, [batch, keys], True where a key is real; None if all are.
        scaling: factor of q . k; None for head_dim^-1/2.
        causal: position i attends to the keys 0 ... i; requires as many queries as keys.
        epsilon: 0 or more, see `EPSILON`; low orders need none.
        chunk: positions per chunk; by default `CHUNK` or `EXPONENTIAL_CHUNK` on a CPU, `CHUNK_ELSEWHERE` elsewhere,
            `CAUSAL_CHUNK` in causal attention.

    Returns:
        [batch, heads, queries, value dim], in the query's dtype.

    Compiled and exported programs serve any batch size and length. In causal attention, compiled models have a graph
    break here, and exported ones form all pairs.

    Raises:
        ValueError: shapes, sizes or a mask do not fit.
        RuntimeError: in the backward pass, if second derivatives of attention to all keys are requested.
    """
    scaling = _check(query, key, value, feature_map, key_mask, scaling, chunk, epsilon)
    if causal:
        if query.shape[-2] != key.shape[-2]:
            raise ValueError(
                f"causal attention needs as many queries as keys, got {query.shape[-2]} and {key.shape[-2]}: keep the "
                "past in a LinearAttentionState"
            )
        state = LinearAttentionState(feature_map, scaling=scaling, epsilon=epsilon, chunk=chunk or CAUSAL_CHUNK)
        return state.step(query, key, value, key_mask)
    if torch.compiler.is_compiling():
        return feature_map(_traced, query, key, value, key_mask, scaling, epsilon)
    if chunk is None:
        of_kind = CHUNK if isinstance(feature_map, LowOrderMap) else EXPONENTIAL_CHUNK
        chunk = of_kind if query.device.type == "cpu" else CHUNK_ELSEWHERE
    return feature_map(_bidirectional, query, key, value, key_mask, scaling, epsilon, chunk)


def _bidirectional(
    feature_map: FeatureMap,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_mask: torch.Tensor | None,
    scaling: float,
    epsilon: float,
    chunk: int,
) -> torch.Tensor:
    with full_precision(query.device):
        real = None if key_mask is None else key_mask[:, None]
        if isinstance(feature_map, LowOrderMap):
            output = low_order_bidirectional(query, key, value, feature_map, real, scaling, chunk)
        else:
            prepare = _Preparation(feature_map, query.dtype, scaling)
            parts = prepare(query, key, value, real, causal=False)
            output = BidirectionalExponential.apply(
                parts.query, parts.key, parts.value, parts.log_weight, parts.key_count, *prepare.map, epsilon,
                chunk,
            )  # fmt: skip
        return output.to(query.dtype)


def _traced(
    feature_map: FeatureMap,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    key_mask: torch.Tensor | None,
    scaling: float,
    epsilon: float,
) -> torch.Tensor:
    with full_precision(query.device):
        prepare = _Preparation(feature_map, query.dtype, scaling)
        parts = prepare(query, key, value, None if key_mask is None else key_mask[:, None], causal=False)
        if isinstance(feature_map, LowOrderMap):
            output = traced_low_orders(
                parts.query, parts.key, parts.value.to(prepare.dtype), parts.log_weight, parts.real,
                feature_map.quadratic_dims, prepare.map,
            )  # fmt: skip
        else:
            output = traced_exponential(
                parts.query, parts.key, parts.value, parts.log_weight, parts.key_count, prepare.map, epsilon
            )
        return output.to(query.dtype)


@_not_compiled
def _run_uncompiled(feature_map: FeatureMap, *inputs: Any) -> torch.Tensor:
    found: torch.Tensor = feature_map(*inputs)
    return found


class LinearAttentionState:
    """The past of causal attention: sums whose size does not depend on the length.

    `step` returns what `linear_attention(..., causal=True)` returns for the same positions of the whole sequence, for
    one token or many: a whole prompt, then token after token.

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

    def step(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute attention of the next positions to themselves and to all before; arguments as in `linear_attention`.

        Raises:
            ValueError: shapes do not fit, or batch, number of heads or value dim differ from the previous steps.
        """
        scaling = _check(query, key, value, self.feature_map, key_mask, self.scaling, self.chunk, self.epsilon)
        if query.shape[-2] != key.shape[-2]:
            raise ValueError(
                f"a step needs as many queries as keys, got {query.shape[-2]} and {key.shape[-2]}: pass the new "
                "positions only"
            )
        if not query.shape[-2]:
            # An empty output that still has a gradient.
            return value.to(query.dtype) + (query.sum() + key.sum())
        if is_exporting():
            return self.feature_map(self._step, query, key, value, key_mask, scaling, query.shape[-2])
        return _run_uncompiled(self.feature_map, self._step, query, key, value, key_mask, scaling, self.chunk)

    def _step(
        self,
        feature_map: FeatureMap,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_mask: torch.Tensor | None,
        scaling: float,
        chunk: int,
    ) -> torch.Tensor:
        with full_precision(query.device):
            prepare = _Preparation(feature_map, query.dtype, scaling)
            outputs = []
            exporting = is_exporting()
            sizes = [chunk] if exporting else _chunk_sizes(key.shape[-2], chunk, key.shape[0] * key.shape[1])
            # Not slices: the gradient of each slice would have the size of the whole.
            queries, keys, values = (
                [states] if exporting else states.split(sizes, dim=-2) for states in (query, key, value)
            )
            masks = (
                [None] * len(sizes)
                if key_mask is None
                else ([key_mask[:, None]] if exporting else key_mask[:, None].split(sizes, dim=-1))
            )
            past = self._past(value, prepare)
            for asked, kept, given, real in zip(queries, keys, values, masks, strict=True):
                parts = prepare(asked, kept, given, real, causal=True)
                arguments: tuple[Any, ...] = (
                    parts.query, parts.key, parts.value.to(prepare.dtype), parts.log_weight, parts.real,
                    _certainly_finite(parts), 1 if exporting else max(1, asked.shape[-2] // chunk),
                )  # fmt: skip
                if isinstance(feature_map, LowOrderMap):
                    arguments += (feature_map.quadratic_dims, prepare.map)
                    output, past = recomputed(low_order_step, past, *arguments)
                else:
                    output, past = recomputed(exponential_step, past, *arguments, prepare.map, self.epsilon)
                outputs.append(output)
            self.tensors = past
            return torch.cat(outputs, dim=-2).to(query.dtype)

    def reorder(self, rows: torch.Tensor) -> None:
        """Select these rows of the batch, [new batch], as beam search requires."""
        if self.tensors is not None:
            chosen = [tensor.index_select(0, rows.to(tensor.device)) for tensor in self.tensors]
            self.tensors = type(self.tensors)(*chosen)

    def detach(self) -> None:
        """Detach the past: gradients stop here."""
        if self.tensors is not None:
            self.tensors = type(self.tensors)(*(tensor.detach() for tensor in self.tensors))

    def _past(self, value: torch.Tensor, prepare: "_Preparation") -> ExponentialSums | LowOrderSums:
        empty: ExponentialSums | LowOrderSums
        if isinstance(self.feature_map, LowOrderMap):
            sizes = (self.feature_map.linear_dims, self.feature_map.quadratic_dims)
            empty = empty_low_order_sums(value, *sizes, prepare.dtype)
        else:
            empty = empty_exponential_sums(value, prepare.map[1].shape[-2], prepare.dtype)
        if self.tensors is None:
            return empty
        if self.tensors.sums.shape != empty.sums.shape:
            raise ValueError(
                "a step must have the batch, heads and value dim of the previous ones, expected sums of shape "
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
    epsilon: float,
) -> float:
    """Check the arguments of attention and return the scaling."""
    for name, states in {"query": query, "key": key, "value": value}.items():
        if states.dim() != 4 or not states.is_floating_point():
            raise ValueError(
                f"{name} must be a floating tensor [batch, heads, length, dim], got {states.dtype} of shape "
                f"{list(states.shape)}"
            )
    if query.shape[:2] != key.shape[:2] or key.shape[:3] != value.shape[:3]:
        raise ValueError(
            "query, key and value must agree in batch and heads, and key and value in length; got shapes "
            f"{list(query.shape)}, {list(key.shape)} and {list(value.shape)}"
        )
    if not query.shape[-1] == key.shape[-1] == feature_map.head_dim:
        raise ValueError(
            f"the feature map is for a head_dim of {feature_map.head_dim}, got queries of {query.shape[-1]} and keys "
            f"of {key.shape[-1]}"
        )
    # Not `in`: a compiled program would treat a dynamic number of heads as a different number.
    if feature_map.num_heads != 1 and query.shape[1] != feature_map.num_heads:
        raise ValueError(f"the feature map is for {feature_map.num_heads} heads, got {query.shape[1]}")
    if key_mask is not None:
        if key_mask.dim() > 2:
            raise ValueError(
                "linear attention forms no pairs, so it takes no mask or bias of pairs: pass key_mask [batch, keys], "
                f"True where a key is real, instead of one of shape {list(key_mask.shape)}"
            )
        if key_mask.dtype != torch.bool or key_mask.shape != (key.shape[0], key.shape[2]):
            raise ValueError(
                f"key_mask must be boolean of shape {[key.shape[0], key.shape[2]]}, got {key_mask.dtype} of shape "
                f"{list(key_mask.shape)}"
            )
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon must be a finite number of at least 0, got {epsilon}")
    scaling = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    if not 0 < scaling < math.inf:
        raise ValueError(f"scaling must be a positive number, got {scaling}")
    return scaling


def _chunk_sizes(length: int, chunk: int, heads: int) -> list[int]:
    """Return the numbers of positions to process together: several whole chunks, or less than one."""
    together = max(1, CAUSAL_ROWS // (chunk * max(1, heads))) * chunk
    whole, rest = divmod(length, together)
    return [together] * whole + [size for size in (rest - rest % chunk, rest % chunk) if size]


def _certainly_finite(parts: "_Parts") -> bool:
    """Return whether all products of keys and values are certainly finite, checked only on a CPU.

    Elsewhere the check would wait for the device, and an exported graph must serve other numbers too: both return
    False.
    """
    if parts.value.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    # (q . k)^2 is at most |q|^2 |k|^2; the factor leaves room for the coefficients.
    norms = [torch.linalg.vector_norm(states.detach()) for states in (parts.query, parts.key)]
    products = norms[0].square() * norms[1].square() * 1e4
    return bool((products + parts.value.detach().sum(dtype=products.dtype)).isfinite())


def _split_positions(key: torch.Tensor) -> Sequence[torch.Tensor]:
    """Split positions into chunks; a compiled program takes all at once, because a split would fix their number."""
    return (key,) if torch.compiler.is_compiling() else key.split(CHUNK, dim=-2)


def _log_sums(key: torch.Tensor, directions: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the sum of a key's features, [batch, heads, keys]."""
    parts = [recomputed(_log_sum, part, directions, bias) for part in _split_positions(key)]
    return torch.cat(parts, dim=-1)


def _log_sum(key: torch.Tensor, directions: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return (key @ directions.mT + bias[:, None]).logsumexp(-1)


def _log_weight(key: torch.Tensor, tilt: torch.Tensor, width: float) -> torch.Tensor:
    found = (key * tilt).sum(-1)
    return found - key.square().sum(-1) * (width / 2) if width else found


class _Parts(NamedTuple):
    """The kernels' inputs: padded keys and values are finite, queries and keys are shifted.

    (Queries of an exponential map are shifted by its biases.)
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    log_weight: torch.Tensor
    real: torch.Tensor
    key_count: torch.Tensor


class _Preparation:
    """Computes `_Parts`. `map` holds the kernels' other arguments, `dtype` is the type of the computation."""

    def __init__(self, feature_map: FeatureMap, dtype: torch.dtype, scaling: float) -> None:
        self.feature_map, self.scaling = feature_map, scaling
        self.dtype = dtype = torch.float64 if dtype == torch.float64 else torch.float32
        root = scaling**0.5
        self.query_mean, self.key_mean = (
            mean.to(dtype)[:, None] for mean in (feature_map.query_mean, feature_map.key_mean)
        )
        self.tilt = self.query_mean * scaling
        self.map: Any
        if isinstance(feature_map, LowOrderMap):
            projections = (feature_map.query_projection, feature_map.key_projection)
            self.projections = [projection.to(dtype).mT * root for projection in projections]
            self.curvature = feature_map.key_curvature.to(dtype)[:, None]
            self.map = coefficients_of(feature_map, dtype)
        elif isinstance(feature_map, ExponentialMap):
            weights = feature_map.weights(dtype)
            directions = weights.query * root
            query_bias = weights.query_bias - (directions * self.query_mean).sum(-1)
            self.map = (directions, weights.key * root, query_bias, weights.key_bias)
        else:
            raise ValueError(f"feature_map must be a LowOrderMap or ExponentialMap, got {type(feature_map).__name__}")

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, real: torch.Tensor | None, causal: bool
    ) -> _Parts:
        feature_map, dtype = self.feature_map, self.dtype
        if real is None:
            real = torch.ones(1, 1, 1, dtype=torch.bool, device=key.device).expand(key.shape[0], 1, key.shape[2])
        else:
            key, value = (states.masked_fill(~real[..., None], 0.0) for states in (key, value))
        count = real.sum(-1, dtype=dtype)[..., None, None]
        key_mean = self.key_mean
        if isinstance(feature_map, LowOrderMap):
            shifted = key.to(dtype) - key_mean
            query = recomputed(torch.matmul, query.to(dtype) - self.query_mean, self.projections[0])
            key = recomputed(torch.matmul, shifted, self.projections[1])
            log_weight = (shifted * self.tilt).sum(-1) + (key.square() * self.curvature).sum(-1)
        else:
            if feature_map.centred and not causal:
                key_mean = key.sum(-2, keepdim=True, dtype=dtype) / count.clamp_min(1.0)
            key = key.to(dtype) - key_mean
            query = query.to(dtype) if causal else query
            if isinstance(feature_map, ExponentialMap) and feature_map.normalised:
                # Padding is zeros here and does not count.
                log_weight = -_log_sums(key, self.map[1], self.map[3])
            else:
                gaussian = isinstance(feature_map, ExponentialMap) and feature_map.gaussian
                parts = [
                    recomputed(_log_weight, part, self.tilt, self.scaling if gaussian else 0.0)
                    for part in _split_positions(key)
                ]
                log_weight = torch.cat(parts, dim=-1)
        return _Parts(query, key, value, log_weight.masked_fill(~real, -torch.inf), real, count)
