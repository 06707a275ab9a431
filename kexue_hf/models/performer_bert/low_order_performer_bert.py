"""Linear attention by the first and second order of the exponential; `LowOrderMap` gives the formula.

Bidirectional attention needs means and covariances (low_order_kernel_performer_bert.py); this module adds the causal
computation, chunk by chunk. Features of the second order exist for one chunk at a time, even in the backward pass.

Args of `low_order_step`: x and y, the shifted, scaled and projected queries and keys, [batch, heads, length, dims].
"""

from typing import Any, NamedTuple

import torch

from .exponential_performer_bert import decay, finite, lower_triangle, mark_nonfinite, running_tops
from .feature_maps_performer_bert import LowOrderMap
from .low_order_kernel_performer_bert import (
    FLOOR,
    KeyStatistics,
    QueryOutputs,
    count_products,
    through_products,
    write_products,
)


class Coefficients(NamedTuple):
    """Coefficients of a map, [1 or heads, 1, 1] each."""

    linear: torch.Tensor
    quadratic: torch.Tensor
    saturation: torch.Tensor


def coefficients_of(feature_map: LowOrderMap, dtype: torch.dtype) -> Coefficients:
    found = (feature_map.linear, feature_map.quadratic, feature_map.saturation)
    # Copies, because the map may change before the backward pass.
    return Coefficients(*(coefficient.to(dtype, copy=True)[:, None, None] for coefficient in found))


class _Features(torch.autograd.Function):
    """1, all entries, and all products of two of the first `dims`; squares are halved if `halved`.

    [..., length, n] -> [..., length, 1 + n + products].
    """

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
    if torch.compiler.is_compiling():
        # An exported graph has gradients on, which forbids writing into a tensor.
        products = [entries[..., : dims - offset] * entries[..., offset:dims] for offset in range(dims)]
        if halved and products:
            products[0] = products[0] * 0.5
        return torch.cat([torch.ones_like(entries[..., :1]), entries, *products], dim=-1)
    return _Features.apply(entries, dims, halved)


def _halves(like: torch.Tensor, dims: int) -> torch.Tensor:
    """Return the factors [products, 1] that make the features' products half a square: 1/2 for squares, else 1."""
    halves = like.new_ones(count_products(dims), 1)
    halves[:dims] = 0.5
    return halves


def low_order_bidirectional(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    feature_map: LowOrderMap,
    real: torch.Tensor | None,
    scaling: float,
    chunk: int,
) -> torch.Tensor:
    """Compute attention of all queries to all keys: [batch, heads, queries, value dim], float32 (float64 for float64).

    Args:
        query, key, value: [batch, heads, length, dim], floating point.
        real: None, or boolean [batch, 1, keys].
    """
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    if key.shape[-2] == 0:
        # Adds an empty sum, so that there is a gradient, of zeros.
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
    return QueryOutputs.apply(
        query, projections[0], shifts[0], value_mean, coefficients.saturation * spread, covariance, dims, chunk
    )


class LowOrderSums(NamedTuple):
    """Sums over the keys of the past in causal attention.

    `sums` [batch, heads, features, value dim] are of weighted features [1, y, products] times v; `moments` [batch,
    heads, 1, 1 + 2 linear_dims + dims^2] are of weighted [1, y, y^2, products of two of the first y]; `top` [batch,
    heads, 1] is the logarithm that both are scaled by.
    """

    sums: torch.Tensor
    moments: torch.Tensor
    top: torch.Tensor


def empty_low_order_sums(value: torch.Tensor, linear_dims: int, dims: int, dtype: torch.dtype) -> LowOrderSums:
    batch, heads, _, value_dim = value.shape
    features, moments = 1 + linear_dims + count_products(dims), 1 + 2 * linear_dims + dims**2
    return LowOrderSums(
        value.new_zeros(batch, heads, features, value_dim, dtype=dtype),
        value.new_zeros(batch, heads, 1, moments, dtype=dtype),
        value.new_full((batch, heads, 1), FLOOR, dtype=dtype),
    )


def _moments(weights: torch.Tensor, y: torch.Tensor, dims: int) -> torch.Tensor:
    """Return the `LowOrderSums.moments` of each chunk: weights [..., length, 1] -> [..., 1, moments]."""
    weighted = weights * y
    sums = [states.sum(-2, keepdim=True) for states in (weights, weighted, weighted * y)]
    products = weighted[..., :dims].mT @ y[..., :dims]
    return torch.cat([*sums, products.flatten(-2)[..., None, :]], dim=-1)


def _running_sums(past: torch.Tensor, grown: torch.Tensor, rescale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the sums before each chunk, and after all.

    `grown` [batch, heads, chunks, ...] is the increase by each chunk, after the earlier sums are rescaled.
    """
    found = []
    for more, factor in zip(grown.unbind(2), rescale.unbind(2), strict=True):
        found.append(past)
        past = torch.addcmul(more, past, factor)
    return torch.stack(found, dim=2), past


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
    """Compute causal attention of chunks to themselves and to the past; arguments and result as in `exponential_step`.

    Each row's keys are centred by the mean of all keys up to the row, which is subtracted from sums of polynomials of
    the uncentred keys. Later positions never change a row, not even by rounding.
    """
    each = value.shape[-2] // chunks
    x, y, value = (states.unflatten(-2, (chunks, each)) for states in (x, y, value))
    log_weight, real = (states.unflatten(-1, (chunks, each)) for states in (log_weight, real))
    linear_dims = y.shape[-1]
    top, before_top, last = running_tops(log_weight.detach().clamp_min(FLOOR), past.top)
    pairs = decay(log_weight, top)
    weights, rescale = (log_weight - last).exp()[..., None], (before_top - last).exp()[..., None]

    before, moments = _running_sums(past.moments, _moments(weights, y, dims), rescale)
    count, sum_y, sum_squares, sum_products = before.split([1, linear_dims, linear_dims, dims**2], dim=-1)

    # Sums over the keys that a row sees: of the weights, of y times x, and of the squares of both.
    carry = (before_top - top).exp()[..., None]
    total = torch.addcmul(pairs.sum(-1, keepdim=True), carry, count)
    total = total.masked_fill(total == 0, 1.0)
    head, head_y = x[..., :dims], y[..., :dims]
    centre = torch.addcmul(pairs @ finite(y, clean), carry, sum_y) * x
    x_mean, head_mean = (states.sum(-1, keepdim=True) / total for states in (centre, centre[..., :dims]))
    first, second = x @ y.mT, (head @ head_y.mT - head_mean).square()
    squared = x.square()
    # Later keys have a gradient of 0, which must not be multiplied by the infinite square of a large key.
    squares = squared @ finite(y.square(), clean).mT
    if not clean:
        seen = lower_triangle(real)
        first, second, squares = (terms.masked_fill(~seen, 0.0) for terms in (first, second, squares))
    spread = torch.addcmul((pairs * squares).sum(-1, keepdim=True), carry, squared @ sum_squares.mT) / total
    spread = (spread - (centre / total).square().sum(-1, keepdim=True)).clamp_min(0.0)

    past_second = (head @ sum_products.unflatten(-1, (dims, dims)).squeeze(-3) * head).sum(-1, keepdim=True)
    past_second = past_second - 2 * head_mean * (head @ sum_y[..., :dims].mT) + head_mean.square() * count
    variance = torch.addcmul((pairs * second).sum(-1, keepdim=True), carry, past_second) / total

    damping = 1 / (1 + coefficients.saturation[..., None] * spread)
    linear, quadratic = damping * coefficients.linear[..., None], damping * coefficients.quadratic[..., None]
    # 1 + linear (first - x_mean) + quadratic (second - variance) / 2
    now = torch.addcmul(1 - linear * x_mean - quadratic * variance / 2, linear, first)
    now = pairs * torch.addcmul(now, quadratic / 2, second)

    # The sums before each chunk, and the queries' outputs from them.
    constant = 1 - linear * x_mean + quadratic * (head_mean.square() - variance) / 2
    slope = linear * x - torch.nn.functional.pad(quadratic * head_mean * head, (0, linear_dims - dims))
    asked = _features(head, dims, halved=True)[..., 1 + dims :]
    kept, weighted = _features(y, dims).mT, weights * value
    sums, answers = past.sums, []
    for number in range(chunks):
        zeroth, linear_sums, products = sums.split([1, linear_dims, count_products(dims)], dim=-2)
        answer = torch.addcmul(slope[:, :, number] @ linear_sums, constant[:, :, number], zeroth)
        answers.append(torch.addcmul(answer, quadratic[:, :, number], asked[:, :, number] @ products))
        sums = torch.addcmul(kept[:, :, number] @ weighted[:, :, number], sums, rescale[:, :, number])

    output = torch.addcmul(now @ finite(value, clean), carry, torch.stack(answers, dim=2))
    output = mark_nonfinite(output / total, value, clean)
    # Non-finite keys have no finite log_weight, so they have already made `top` non-finite.
    return output.flatten(2, 3), LowOrderSums(sums, moments, last[:, :, -1])
