"""Linear attention by the first and second order of the exponential: see `LowOrderMap` for what is computed.

A row's output is the mean of the values plus the product of its query's features with the covariance of the keys'
features and the values. Features of the second order exist for one chunk at a time, in the backward pass as well.

Args of all functions: x and y, queries and keys that are shifted, scaled and projected, [batch, heads, length, dims];
`coefficients`, of the map's `linear`, `quadratic` and `saturation`, [1 or heads, 1, 1] each.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from .exponential_performer_bert import FLOOR, finite, lower_triangle, spoil


class Coefficients(NamedTuple):
    linear: torch.Tensor
    quadratic: torch.Tensor
    saturation: torch.Tensor


def recomputed(function: Callable, *inputs: Any) -> Any:
    """The function's result; what it computes on the way is not kept for the backward pass but computed again."""
    if torch.is_grad_enabled():
        return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return function(*inputs)


class _Features(torch.autograd.Function):
    """All entries, and all products of two of the first `dims`, each pair once: [..., n] -> [..., n + products].

    Entry i times entry i + offset, offset after offset: the backward pass is then made of products alone, too.
    """

    @staticmethod
    def forward(ctx: Any, entries: torch.Tensor, dims: int) -> torch.Tensor:
        ctx.save_for_backward(entries)
        ctx.dims = dims
        start = entries.shape[-1]
        output = entries.new_empty(*entries.shape[:-1], start + dims * (dims + 1) // 2)
        output[..., :start] = entries
        for offset in range(dims):
            stop = start + dims - offset
            torch.mul(entries[..., : dims - offset], entries[..., offset:dims], out=output[..., start:stop])
            start = stop
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (entries,) = ctx.saved_tensors
        dims, start = ctx.dims, entries.shape[-1]
        output = gradient[..., :start].clone()
        for offset in range(dims):
            stop = start + dims - offset
            products = gradient[..., start:stop]
            output[..., : dims - offset].addcmul_(products, entries[..., offset:dims])
            output[..., offset:dims].addcmul_(products, entries[..., : dims - offset])
            start = stop
        return output, None


def _features(entries: torch.Tensor, dims: int) -> torch.Tensor:
    return _Features.apply(entries, dims)


def _halves(like: torch.Tensor, dims: int) -> torch.Tensor:
    """By what products of queries' and keys' features make half a square: [products, 1], 1/2 for the squares."""
    halves = like.new_ones(dims * (dims + 1) // 2, 1)
    halves[:dims] = 0.5
    return halves


def _damping(x: torch.Tensor, spread: torch.Tensor, coefficients: Coefficients) -> torch.Tensor:
    # spread: the keys' variance in each dimension.
    return 1 / (1 + coefficients.saturation * (x.square() * spread).sum(-1, keepdim=True))


def _covariance(y: torch.Tensor, weights: torch.Tensor, value: torch.Tensor, mean: torch.Tensor, dims: int) -> Any:
    return _features(y, dims).mT @ (weights * (value.to(y.dtype) - mean))


def _read(
    x: torch.Tensor,
    spread: torch.Tensor,
    covariance: torch.Tensor,
    mean: torch.Tensor,
    dims: int,
    coefficients: Coefficients,
) -> torch.Tensor:
    return mean + _damping(x, spread, coefficients) * (_features(x, dims) @ covariance)


def low_order_both_ways(
    x: torch.Tensor,
    y: torch.Tensor,
    value: torch.Tensor,
    log_weight: torch.Tensor,
    dims: int,
    coefficients: Coefficients,
    chunk: int,
) -> torch.Tensor:
    """Attention of all queries to all keys: [batch, heads, queries, value dim] of the type of x.

    Args:
        value: [batch, heads, keys, value dim]; padded keys and values are finite.
        log_weight: [batch, heads, keys]; -inf where a key is padding.
        dims: the dimensions of the second order.
    """
    if y.shape[-2] == 0:
        return x.new_zeros(*x.shape[:-1], value.shape[-1])
    weights = (log_weight - log_weight.detach().amax(-1, keepdim=True).clamp_min(FLOOR)).exp()[..., None]
    total = weights.sum(-2, keepdim=True)
    weights = weights / total.masked_fill(total == 0, 1.0)
    y = y - (weights * y).sum(-2, keepdim=True)
    spread = (weights * y.square()).sum(-2, keepdim=True)
    mean = weights.mT @ value.to(y.dtype)
    covariance = x.new_zeros(())
    for start in range(0, y.shape[-2], chunk):
        part = slice(start, start + chunk)
        covariance = covariance + recomputed(
            _covariance, y[:, :, part], weights[:, :, part], value[:, :, part], mean, dims
        )
    linear, quadratic = covariance.split([y.shape[-1], dims * (dims + 1) // 2], dim=-2)
    covariance = torch.cat(
        [coefficients.linear * linear, coefficients.quadratic * _halves(y, dims) * quadratic], dim=-2
    )
    outputs = [
        recomputed(_read, x[:, :, start : start + chunk], spread, covariance, mean, dims, coefficients)
        for start in range(0, max(1, x.shape[-2]), chunk)
    ]
    return torch.cat(outputs, dim=-2)


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
    top = torch.maximum(own.cummax(-1).values, past.top)
    linear_dims = y.shape[-1]
    past_or_now = lower_triangle(real)
    pairs = (log_weight[..., None, :] - top[..., None]).masked_fill(~past_or_now, -torch.inf).exp()
    carry = (past.top - top).exp()[..., None]

    # Sums over the keys that a row sees, of the weights, of weighted y and of weighted y^2.
    total = pairs.sum(-1, keepdim=True) + carry * past.sums[..., :1, -1:]
    total = total.masked_fill(total == 0, 1.0)
    past_y = past.sums[..., 1 : 1 + linear_dims, -1][..., None, :]
    mean = (pairs @ finite(y, clean) + carry * past_y) / total
    spread = ((pairs @ finite(y.square(), clean) + carry * past.squares) / total - mean.square()).clamp_min(0.0)

    x_mean = (x * mean).sum(-1, keepdim=True)
    head, head_mean = x[..., :dims], (x * mean)[..., :dims].sum(-1, keepdim=True)
    first = x @ y.mT - x_mean
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
    now = pairs * (1 + linear * first + quadratic * (squares - variance) / 2)
    constant = 1 - linear * x_mean + quadratic * (head_mean.square() - variance) / 2
    slope = linear * x - torch.nn.functional.pad(quadratic * head_mean * head, (0, linear_dims - dims))
    lower = torch.cat([constant, slope], dim=-1) @ past.sums[..., : 1 + linear_dims, :-1]
    output = now @ finite(value[..., :-1], clean) + carry * (lower + quadratic * products[..., :-1])
    output = spoil(output / total, value[..., :-1], clean)
    # Keys that are not finite have no finite log_weight, and have spoilt `top`.

    last = top[..., -1:]
    rescale = (past.top - last).exp()[..., None]
    weights = (log_weight - last).exp()[..., None]
    weighted = weights * value
    grown = torch.cat([weighted.sum(-2, keepdim=True), _features(y, dims).mT @ weighted], dim=-2)
    sums = past.sums * rescale + grown
    moments = past.squares * rescale + (weights * y.square()).sum(-2, keepdim=True)
    return output, LowOrderSums(sums, moments, last)
