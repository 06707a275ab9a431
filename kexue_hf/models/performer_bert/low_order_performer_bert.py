"""Linear attention by the first and second order of the exponential: see `LowOrderMap` for what is computed.

Both ways it is a matter of means and covariances (covariance_performer_bert.py); here is what a causal mask makes of
it, chunk by chunk. Features of the second order exist for one chunk at a time, in the backward pass as well.

Args of `low_order_step`: x and y, queries and keys that are shifted, scaled and projected, [batch, heads, length,
dims].
"""

from typing import Any, NamedTuple

import torch

from .covariance_performer_bert import FLOOR, Answers, KeyStatistics, count_products, through_products, write_products
from .exponential_performer_bert import decay, finite, lower_triangle, running_tops, spoil
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
    """1, all entries, and all products of two of the first `dims`, halves of squares if `halved`: [..., length, n] ->
    [..., length, 1 + n + products]."""

    @staticmethod
    def forward(ctx: Any, entries: torch.Tensor, dims: int, halved: bool) -> torch.Tensor:
        ctx.save_for_backward(entries)
        ctx.dims, ctx.halved = dims, halved
        *sizes, length, start = entries.shape
        output = entries.new_empty(*sizes, 1 + start + count_products(dims), length)
        output[..., 0, :] = 1.0
        output[..., 1 : 1 + start, :] = entries.mT
        write_products(output[..., 1:, :], start, dims)
        if halved:
            output[..., 1 + start : 1 + start + dims, :] *= 0.5
        return output.mT

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (entries,) = ctx.saved_tensors
        dims, start = ctx.dims, entries.shape[-1]
        above = gradient[..., 1:].mT
        if ctx.halved:
            above = torch.cat([above[..., :start, :], _halves(above, dims) * above[..., start:, :]], dim=-2)
        output = above[..., :start, :].clone()
        output[..., :dims, :] += through_products(entries.mT, above, start, dims)
        return output.mT, None, None


def _features(entries: torch.Tensor, dims: int, halved: bool = False) -> torch.Tensor:
    return _Features.apply(entries, dims, halved)


def _halves(like: torch.Tensor, dims: int) -> torch.Tensor:
    """By what products of queries' and keys' features make half a square: [products, 1], 1/2 for the squares."""
    halves = like.new_ones(count_products(dims), 1)
    halves[:dims] = 0.5
    return halves


def _damping(x: torch.Tensor, spread: torch.Tensor, coefficients: Coefficients) -> torch.Tensor:
    # spread: the keys' variance in each dimension.
    return 1 / (1 + coefficients.saturation[..., None] * (x.square() * spread).sum(-1, keepdim=True))


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
    chunks: int,
    dims: int,
    coefficients: Coefficients,
) -> tuple[torch.Tensor, LowOrderSums]:
    """Causal attention of chunks to themselves and to the past; arguments and result as of `exponential_step`.

    Each row's keys are centred by their own mean, that of all keys up to the row: it is subtracted from sums of
    polynomials of the keys as they are. No number of a row depends on what comes later, not even by rounding.
    """
    each = value.shape[-2] // chunks
    x, y, value = (states.unflatten(-2, (chunks, each)) for states in (x, y, value))
    log_weight, real = (states.unflatten(-1, (chunks, each)) for states in (log_weight, real))
    linear_dims = y.shape[-1]
    top, before_top, last = running_tops(log_weight.detach().clamp_min(FLOOR), past.top)
    pairs = decay(log_weight, top)
    carry = (before_top - top).exp()[..., None]

    # The sums before each chunk, and what queries find in those of the second order: sums over keys of half of u^2,
    # and of u, times [v, 1].
    asked = _features(x[..., :dims], dims, halved=True)[..., 1 + dims :]
    kept = _features(y, dims).mT
    weights = (log_weight - last).exp()[..., None]
    weighted, rescale = weights * value, (before_top - last).exp()[..., None]
    grown_squares = (weights * y.square()).sum(-2, keepdim=True)
    sums, squares = past.sums, past.squares
    all_products, all_sums, all_squares = [], [], []
    for number in range(chunks):
        all_products.append(asked[:, :, number] @ sums[..., 1 + linear_dims :, :])
        all_sums.append(sums[..., : 1 + linear_dims, :])
        all_squares.append(squares)
        sums = torch.addcmul(kept[:, :, number] @ weighted[:, :, number], sums, rescale[:, :, number])
        squares = torch.addcmul(grown_squares[:, :, number], squares, rescale[:, :, number])
    products, past_sums, past_squares = (torch.stack(parts, dim=2) for parts in (all_products, all_sums, all_squares))

    # Sums over the keys that a row sees, of the weights, of weighted y and of weighted y^2.
    total = pairs.sum(-1, keepdim=True) + carry * past_sums[..., :1, -1:]
    total = total.masked_fill(total == 0, 1.0)
    moments = pairs @ finite(torch.cat([y, y.square()], dim=-1), clean)
    past_moments = torch.cat([past_sums[..., 1:, -1][..., None, :], past_squares], dim=-1)
    moments = torch.addcmul(moments, carry, past_moments) / total
    mean, squared = moments.split([linear_dims, linear_dims], dim=-1)
    spread = torch.addcmul(squared, mean, mean, value=-1).clamp_min(0.0)

    centre = x * mean
    x_mean, head, head_mean = centre.sum(-1, keepdim=True), x[..., :dims], centre[..., :dims].sum(-1, keepdim=True)
    first = x @ y.mT
    second = (head @ y[..., :dims].mT - head_mean).square()
    if not clean:
        seen = lower_triangle(real)
        first, second = (terms.masked_fill(~seen, 0.0) for terms in (first, second))
    past_second = 2 * products[..., -1:] - 2 * head_mean * (head @ past_sums[..., 1 : 1 + dims, -1:])
    past_second = past_second + head_mean.square() * past_sums[..., :1, -1:]
    variance = ((pairs * second).sum(-1, keepdim=True) + carry * past_second) / total

    damping = _damping(x, spread, coefficients)
    linear, quadratic = damping * coefficients.linear[..., None], damping * coefficients.quadratic[..., None]
    # 1 + linear (first - x_mean) + quadratic (second - variance) / 2
    now = torch.addcmul(1 - linear * x_mean - quadratic * variance / 2, linear, first)
    now = pairs * torch.addcmul(now, quadratic / 2, second)
    constant = 1 - linear * x_mean + quadratic * (head_mean.square() - variance) / 2
    slope = linear * x - torch.nn.functional.pad(quadratic * head_mean * head, (0, linear_dims - dims))
    before = torch.cat([constant, slope], dim=-1) @ past_sums[..., :-1]
    before = torch.addcmul(before, quadratic, products[..., :-1])
    output = torch.addcmul(now @ finite(value[..., :-1], clean), carry, before)
    output = spoil(output / total, value[..., :-1], clean)
    # Keys that are not finite have no finite log_weight, and have spoilt `top`.
    return output.flatten(2, 3), LowOrderSums(sums, squares, last[:, :, -1])
