"""Linear attention by the first and second order of the exponential: see `LowOrderMap` for what is computed.

Both ways it is a matter of means and covariances (covariance_performer_bert.py); here is what a causal mask makes of
it, chunk by chunk. Features of the second order exist for one chunk at a time, in the backward pass as well.

Args of `low_order_step`: x and y, queries and keys that are shifted, scaled and projected, [batch, heads, length,
dims].
"""

from typing import Any, NamedTuple

import torch

from .covariance_performer_bert import FLOOR, Answers, KeyStatistics, count_products, through_products, write_products
from .exponential_performer_bert import finite, lower_triangle, spoil
from .feature_maps_performer_bert import LowOrderMap


class Coefficients(NamedTuple):
    """Of a map, [1 or heads, 1, 1] each."""

    linear: torch.Tensor
    quadratic: torch.Tensor
    saturation: torch.Tensor


def coefficients_of(feature_map: LowOrderMap, dtype: torch.dtype) -> Coefficients:
    found = (feature_map.linear, feature_map.quadratic, feature_map.saturation)
    # Copies: the map may change before the backward pass.
    return Coefficients(*(coefficient.to(dtype, copy=True)[:, None, None] for coefficient in found))


class _Features(torch.autograd.Function):
    """All entries, and all products of two of the first `dims`: [..., length, n] -> [..., length, n + products]."""

    @staticmethod
    def forward(ctx: Any, entries: torch.Tensor, dims: int) -> torch.Tensor:
        ctx.save_for_backward(entries)
        ctx.dims = dims
        *sizes, length, start = entries.shape
        output = entries.new_empty(*sizes, start + count_products(dims), length)
        output[..., :start, :] = entries.mT
        write_products(output, start, dims)
        return output.mT

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (entries,) = ctx.saved_tensors
        dims, start = ctx.dims, entries.shape[-1]
        output = gradient[..., :start].mT.clone()
        output[..., :dims, :] += through_products(entries.mT, gradient.mT, start, dims)
        return output.mT, None


def _features(entries: torch.Tensor, dims: int) -> torch.Tensor:
    return _Features.apply(entries, dims)


def _halves(like: torch.Tensor, dims: int) -> torch.Tensor:
    """By what products of queries' and keys' features make half a square: [products, 1], 1/2 for the squares."""
    halves = like.new_ones(count_products(dims), 1)
    halves[:dims] = 0.5
    return halves


def _damping(x: torch.Tensor, spread: torch.Tensor, coefficients: Coefficients) -> torch.Tensor:
    # spread: the keys' variance in each dimension.
    return 1 / (1 + coefficients.saturation * (x.square() * spread).sum(-1, keepdim=True))


def low_order_both_ways(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    feature_map: LowOrderMap,
    real: torch.Tensor | None,
    scaling: float,
    chunk: int,
) -> torch.Tensor:
    """Attention of all queries to all keys: [batch, heads, queries, value dim] of float32, or float64 for float64.

    Args:
        query, key, value: [batch, heads, length, dim], of any floating type.
        real: None, or boolean [batch, 1, keys].
    """
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    if key.shape[-2] == 0:
        # Nothing of it, so that there is a gradient, of zeros.
        return query.new_zeros(*query.shape[:-1], value.shape[-1], dtype=dtype) + query[..., :0].sum()
    projections = [getattr(feature_map, f"{side}_projection").to(dtype) * scaling**0.5 for side in ("query", "key")]
    shifts = [getattr(feature_map, f"{side}_mean").to(dtype)[:, None] for side in ("query", "key")]
    curvature = feature_map.key_curvature.to(dtype)[:, None]
    coefficients = coefficients_of(feature_map, dtype)
    dims = feature_map.quadratic_dims
    value_mean, spread, covariance = KeyStatistics.apply(
        key, value, real, projections[1], shifts[1], shifts[0].mT * scaling, curvature, dims, chunk
    )
    first, second = covariance.split([feature_map.linear_dims, count_products(dims)], dim=-2)
    covariance = torch.cat(
        [coefficients.linear * first, coefficients.quadratic * _halves(second, dims) * second], dim=-2
    )
    return Answers.apply(
        query, projections[0], shifts[0], value_mean, coefficients.saturation * spread, covariance, dims, chunk
    )


class LowOrderSums(NamedTuple):
    """What causal attention keeps of the past: with [v, 1] in place of v, the sums over keys of weighted features
    [1, y, products] times v [batch, heads, features, value dim + 1], the sums of weighted y^2 [batch, heads, 1, dims],
    and the logarithm that both are scaled by [batch, heads, 1]."""

    sums: torch.Tensor
    squares: torch.Tensor
    top: torch.Tensor


def no_low_order_sums(value: torch.Tensor, linear_dims: int, dims: int, dtype: torch.dtype) -> LowOrderSums:
    batch, heads, _, value_dim = value.shape
    features = 1 + linear_dims + dims * (dims + 1) // 2
    return LowOrderSums(
        value.new_zeros(batch, heads, features, value_dim + 1, dtype=dtype),
        value.new_zeros(batch, heads, 1, linear_dims, dtype=dtype),
        value.new_full((batch, heads, 1), FLOOR, dtype=dtype),
    )


def low_order_step(
    past: LowOrderSums,
    x: torch.Tensor,
    y: torch.Tensor,
    value: torch.Tensor,
    log_weight: torch.Tensor,
    real: torch.Tensor,
    clean: bool,
    dims: int,
    coefficients: Coefficients,
) -> tuple[torch.Tensor, LowOrderSums]:
    """Causal attention of one chunk to itself and to the past; arguments and result as of `exponential_step`.

    Each row's keys are centred by their own mean, that of all keys up to the row: it is subtracted from sums of
    polynomials of the keys as they are. No number of a row depends on what comes later, not even by rounding.
    """
    own = log_weight.detach().clamp_min(FLOOR)
    # A constant to the gradient.
    before_top = past.top.detach()
    top = torch.maximum(own.cummax(-1).values, before_top)
    linear_dims = y.shape[-1]
    past_or_now = lower_triangle(real)
    # What is above 0 is of the future, and `tril` takes it away: the exponential of -inf would take longer.
    pairs = (log_weight[..., None, :] - top[..., None]).clamp_max(0.0).exp().tril()
    carry = (before_top - top).exp()[..., None]

    # Sums over the keys that a row sees, of the weights, of weighted y and of weighted y^2.
    total = pairs.sum(-1, keepdim=True) + carry * past.sums[..., :1, -1:]
    total = total.masked_fill(total == 0, 1.0)
    past_y = past.sums[..., 1 : 1 + linear_dims, -1][..., None, :]
    moments = pairs @ finite(torch.cat([y, y.square()], dim=-1), clean)
    moments = (moments + carry * torch.cat([past_y, past.squares], dim=-1)) / total
    mean, squares = moments.split([linear_dims, linear_dims], dim=-1)
    spread = (squares - mean.square()).clamp_min(0.0)

    x_mean = (x * mean).sum(-1, keepdim=True)
    head, head_mean = x[..., :dims], (x * mean)[..., :dims].sum(-1, keepdim=True)
    first = x @ y.mT
    squares = (head @ y[..., :dims].mT - head_mean).square()
    if not clean:
        first, squares = (terms.masked_fill(~past_or_now, 0.0) for terms in (first, squares))
    # What queries find in the past: sums over keys of half of u^2, and of u, times [v, 1].
    products = _features(head, dims)[..., dims:] @ (_halves(y, dims) * past.sums[..., 1 + linear_dims :, :])
    past_squares = 2 * products[..., -1:] - 2 * head_mean * (head @ past.sums[..., 1 : 1 + dims, -1:])
    past_squares = past_squares + head_mean.square() * past.sums[..., :1, -1:]
    variance = ((pairs * squares).sum(-1, keepdim=True) + carry * past_squares) / total

    damping = _damping(x, spread, coefficients)
    linear, quadratic = damping * coefficients.linear, damping * coefficients.quadratic
    # 1 + linear (first - x_mean) + quadratic (squares - variance) / 2
    now = torch.addcmul(1 - linear * x_mean - quadratic * variance / 2, linear, first)
    now = pairs * torch.addcmul(now, quadratic / 2, squares)
    constant = 1 - linear * x_mean + quadratic * (head_mean.square() - variance) / 2
    slope = linear * x - torch.nn.functional.pad(quadratic * head_mean * head, (0, linear_dims - dims))
    lower = torch.cat([constant, slope], dim=-1) @ past.sums[..., : 1 + linear_dims, :-1]
    output = now @ finite(value[..., :-1], clean) + carry * (lower + quadratic * products[..., :-1])
    output = spoil(output / total, value[..., :-1], clean)
    # Keys that are not finite have no finite log_weight, and have spoilt `top`.

    last = top[..., -1:]
    rescale = (before_top - last).exp()[..., None]
    weights = (log_weight - last).exp()[..., None]
    weighted = weights * value
    grown = torch.cat([weighted.sum(-2, keepdim=True), _features(y, dims).mT @ weighted], dim=-2)
    sums = torch.addcmul(grown, past.sums, rescale)
    moments = past.squares * rescale + (weights * y.square()).sum(-2, keepdim=True)
    return output, LowOrderSums(sums, moments, last)
