"""Bidirectional linear attention by the first and second order of the exponential; `LowOrderMap` gives the formula.

A row's output is the mean of the values plus the product of its query's features with the covariance of the keys'
features and the values: `KeyStatistics`, then `QueryOutputs`. Both process positions chunk by chunk and compute the
features again in the backward pass, so that nothing of their size is kept.

Inside, states and features are [batch * heads, features, positions], unlike elsewhere: the products of all pairs of
dimensions are then products of contiguous memory. Matrix products cost the same.
"""

from typing import Any

import torch

from .gradients_performer_bert import first_derivatives_only

# Below any logarithm of a weight, and finite: FLOOR - FLOOR is 0.
FLOOR = -1e30


def write_products(features: torch.Tensor, linear_dims: int, dims: int) -> None:
    """Fill the rows after the first `linear_dims` of [..., linear_dims + products, length] with products of two rows.

    The factors are the first `dims` rows, each pair once: row i times row i + offset, offset after offset.
    """
    entries, start = features[..., :linear_dims, :], linear_dims
    for offset in range(dims):
        stop = start + dims - offset
        torch.mul(entries[..., : dims - offset, :], entries[..., offset:dims, :], out=features[..., start:stop, :])
        start = stop


def through_products(features: torch.Tensor, gradient: torch.Tensor, linear_dims: int, dims: int) -> torch.Tensor:
    """Return the gradient that reaches the first `dims` rows through their products: [..., dims, length]."""
    entries = features[..., :linear_dims, :]
    output = torch.zeros_like(entries[..., :dims, :])
    start = linear_dims
    for offset in range(dims):
        stop = start + dims - offset
        products = gradient[..., start:stop, :]
        output[..., : dims - offset, :].addcmul_(products, entries[..., offset:dims, :])
        output[..., offset:dims, :].addcmul_(products, entries[..., : dims - offset, :])
        start = stop
    return output


def count_products(dims: int) -> int:
    return dims * (dims + 1) // 2


def _parts(length: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, length)) for start in range(0, length, chunk)]


def _rows(states: torch.Tensor, part: slice, dtype: torch.dtype, real: torch.Tensor | None = None) -> torch.Tensor:
    """Return a chunk as [batch * heads, chunk, dim] in a dtype, with zeros where it is not real."""
    chosen = states[:, :, part]
    if real is not None:
        chosen = chosen.masked_fill(~real[..., part, None], 0.0)
    return chosen.to(dtype).flatten(0, 1)


def _expand_rows(constant: torch.Tensor, batch: int, heads: int) -> torch.Tensor:
    """Expand a constant: [1 or heads, ...] -> [batch * heads, ...]"""
    return constant.expand(batch, heads, *constant.shape[1:]).flatten(0, 1)


def _reduce_rows(gradient: torch.Tensor, constant: torch.Tensor, batch: int, heads: int) -> torch.Tensor:
    """Reduce a gradient to the shape before `_expand_rows`: [batch * heads, ...] -> [1 or heads, ...]"""
    gradient = gradient.unflatten(0, (batch, heads)).sum(0)
    return gradient if len(constant) == len(gradient) else gradient.sum(0, keepdim=True)


class KeyStatistics(torch.autograd.Function):
    """Weighted statistics of all keys that the queries need.

    They are the mean of the values, the variances of the projected keys, and the covariances of the centred keys'
    features with the values.

    Args of `apply`:
        key, value: [batch, heads, keys, dim], floating point; at least one key.
        real: None, or boolean [batch, 1, keys]; keys that are not real have no weight, whatever they contain.
        projection, shift: [1 or heads, linear_dims, head_dim] and [1 or heads, 1, head_dim], in the dtype of the
            computation: y = (key - shift) . projection.
        tilt, curvature: [1 or heads, head_dim, 1] and [1 or heads, 1, linear_dims]: the logarithm of a key's weight is
            (key - shift) . tilt + y^2 . curvature.
        dims: number of dimensions of the second order.

    Returns:
        [batch, heads, 1, value dim], [batch, heads, linear_dims, 1] and [batch, heads, features, value dim].
    """

    @staticmethod
    def forward(
        ctx: Any,
        key: torch.Tensor,
        value: torch.Tensor,
        real: torch.Tensor | None,
        projection: torch.Tensor,
        shift: torch.Tensor,
        tilt: torch.Tensor,
        curvature: torch.Tensor,
        dims: int,
        chunk: int,
    ) -> Any:
        batch, heads, length, _ = key.shape
        dtype, linear_dims, each = projection.dtype, projection.shape[-2], batch * heads
        constants = [_expand_rows(constant, batch, heads) for constant in (projection, shift, tilt, curvature)]
        parts = _parts(length, chunk)
        projected, log_weights = [], []
        for part in parts:
            shifted = _rows(key, part, dtype, real) - constants[1]
            y = torch.bmm(constants[0], shifted.mT)
            # Not a matrix product with one column, which is slow.
            tilted = (shifted * constants[2].mT).sum(-1)[:, None]
            log_weights.append(tilted + torch.bmm(constants[3], y.square()))
            projected.append(y)
        weights = torch.cat(log_weights, dim=-1)
        if real is not None:
            weights.unflatten(0, (batch, heads)).masked_fill_(~real[:, :, None], -torch.inf)
        weights.sub_(weights.amax(-1, keepdim=True).clamp_min_(FLOOR)).exp_()
        total = weights.sum(-1, keepdim=True)
        weights.div_(total.masked_fill_(total == 0, 1.0))

        mean = weights.new_zeros(each, linear_dims, 1)
        value_mean = weights.new_zeros(each, 1, value.shape[-1])
        for part, y in zip(parts, projected, strict=True):
            mean.baddbmm_(y, weights[..., part].mT)
            value_mean.baddbmm_(weights[..., part], _rows(value, part, dtype, real))
        features = weights.new_empty(each, linear_dims + count_products(dims), min(chunk, length))
        spread, features_mean = torch.zeros_like(mean), weights.new_zeros(each, features.shape[1], 1)
        covariance = weights.new_zeros(each, features.shape[1], value.shape[-1])
        for part, y in zip(parts, projected, strict=True):
            weight, found = weights[..., part], features[..., : part.stop - part.start]
            centred = torch.sub(y, mean, out=found[:, :linear_dims])
            write_products(found, linear_dims, dims)
            spread.baddbmm_(centred.square(), weight.mT)
            features_mean.baddbmm_(found, weight.mT)
            covariance.baddbmm_(found, (_rows(value, part, dtype, real) - value_mean).mul_(weight.mT))
        ctx.save_for_backward(
            key, value, real, projection, shift, tilt, curvature, weights, mean, value_mean, spread, features_mean,
            covariance,
        )  # fmt: skip
        ctx.dims, ctx.chunk = dims, chunk
        return tuple(result.unflatten(0, (batch, heads)).clone() for result in (value_mean, spread, covariance))

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (
            key, value, real, projection, shift, tilt, curvature, weights, mean, value_mean, spread, features_mean,
            covariance,
        ) = ctx.saved_tensors  # fmt: skip
        batch, heads, length, _ = key.shape
        dtype, linear_dims, dims, chunk = projection.dtype, projection.shape[-2], ctx.dims, ctx.chunk
        needs = ctx.needs_input_grad
        constants = [_expand_rows(constant, batch, heads) for constant in (projection, shift, tilt, curvature)]
        to_value_mean, to_spread, to_covariance = (gradient.flatten(0, 1) for gradient in gradients)
        # The gradients of the means over all positions are known beforehand: sums over keys of terms linear in the
        # features are their mean or the covariance.
        to_value_mean = to_value_mean - features_mean.mT @ to_covariance
        to_mean = torch.zeros_like(mean)
        to_mean[:, :dims] -= through_products(covariance, to_covariance, linear_dims, dims).sum(-1, keepdim=True)
        all_weights = ((to_covariance * covariance).sum((-1, -2)) + (to_spread * spread).sum((-1, -2)))[:, None, None]

        to_key, to_value = (
            torch.empty_like(states) if needed else None
            for states, needed in zip((key, value), needs[:2], strict=True)
        )
        to_constants = [torch.zeros_like(constant) for constant in constants]
        features = weights.new_empty(len(weights), to_covariance.shape[1], min(chunk, length))
        for part in _parts(length, chunk):
            weight, found = weights[..., part], features[..., : part.stop - part.start]
            shifted = _rows(key, part, dtype, real) - constants[1]
            y = torch.bmm(constants[0], shifted.mT)
            centred = torch.sub(y, mean, out=found[:, :linear_dims])
            write_products(found, linear_dims, dims)
            if to_value is not None:
                to_rows = torch.bmm(found.mT, to_covariance).add_(to_value_mean).mul_(weight.mT)
                to_value[:, :, part] = to_rows.unflatten(0, (batch, heads))
            if not any((needs[0], *needs[3:7])):
                continue

            values = (_rows(value, part, dtype, real) - value_mean).mul_(weight.mT)
            inner = torch.bmm(to_covariance, values.mT)
            to_y, second = inner[:, :linear_dims], through_products(found, inner, linear_dims, dims)
            # By Euler, for products of degree two, half of entry times gradient equals product times gradient.
            to_weight = (centred * to_y).sum(-2, keepdim=True)
            to_weight += (centred[:, :dims] * second).sum(-2, keepdim=True) / 2
            to_weight += (values @ to_value_mean.mT).mT - all_weights * weight
            to_weight += weight * (to_spread.mT @ centred.square() + to_mean.mT @ centred)
            to_y.addcmul_(torch.addcmul(to_mean, centred, 2 * to_spread), weight)
            to_y[:, :dims].add_(second)
            to_y.addcmul_(y * (2 * constants[3].mT), to_weight)
            to_shifted = torch.bmm(to_y.mT, constants[0]).addcmul_(to_weight.mT, constants[2].mT)
            if to_key is not None:
                to_key[:, :, part] = to_shifted.unflatten(0, (batch, heads))
            if needs[3]:
                to_constants[0].baddbmm_(to_y, shifted)
            if needs[4]:
                to_constants[1].sub_(to_shifted.sum(-2, keepdim=True))
            if needs[5]:
                to_constants[2].baddbmm_(shifted.mT, to_weight.mT)
            if needs[6]:
                to_constants[3].baddbmm_(to_weight, y.square().mT)
        if real is not None:
            for gradient in (to_key, to_value):
                if gradient is not None:
                    gradient.masked_fill_(~real[..., None], 0.0)
        given = (projection, shift, tilt, curvature)
        return (
            to_key, to_value, None,
            *(
                _reduce_rows(gradient, constant, batch, heads) if needed else None
                for gradient, constant, needed in zip(to_constants, given, needs[3:7], strict=True)
            ),
            None, None,
        )  # fmt: skip


class QueryOutputs(torch.autograd.Function):
    """The outputs of all queries, from `KeyStatistics`.

    Args of `apply`:
        query: [batch, heads, queries, head_dim], floating point.
        projection, shift: as for the keys, x = (query - shift) . projection.
        value_mean: [batch, heads, 1, value dim].
        spread: [batch, heads, linear_dims, 1]: the orders are multiplied by 1 / (1 + x^2 . spread).
        covariance: [batch, heads, features, value dim], multiplied by the features.

    Returns:
        [batch, heads, queries, value dim], in the dtype of the computation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        projection: torch.Tensor,
        shift: torch.Tensor,
        value_mean: torch.Tensor,
        spread: torch.Tensor,
        covariance: torch.Tensor,
        dims: int,
        chunk: int,
    ) -> torch.Tensor:
        batch, heads, length, _ = query.shape
        linear_dims, each = projection.shape[-2], batch * heads
        constants = [_expand_rows(constant, batch, heads) for constant in (projection, shift)]
        flat = [states.flatten(0, 1) for states in (value_mean, spread, covariance)]
        output = covariance.new_empty(each, length, covariance.shape[-1])
        features = covariance.new_empty(each, covariance.shape[-2], min(chunk, length))
        for part in _parts(length, chunk):
            found = features[..., : part.stop - part.start]
            _, x = _write_projected(found, query, part, *constants)
            write_products(found, linear_dims, dims)
            damping = _damping(x, flat[1])
            torch.addcmul(flat[0], torch.bmm(found.mT, flat[2]), damping.mT, out=output[:, part])
        ctx.save_for_backward(query, projection, shift, spread, covariance)
        ctx.dims, ctx.chunk = dims, chunk
        return output.unflatten(0, (batch, heads))

    @staticmethod
    @first_derivatives_only
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, projection, shift, spread, covariance = ctx.saved_tensors
        batch, heads, length, _ = query.shape
        linear_dims, dims, chunk, needs = projection.shape[-2], ctx.dims, ctx.chunk, ctx.needs_input_grad
        constants = [_expand_rows(constant, batch, heads) for constant in (projection, shift)]
        spread, covariance = spread.flatten(0, 1), covariance.flatten(0, 1)
        to_query = torch.empty_like(query) if needs[0] else None
        to_spread, to_covariance = torch.zeros_like(spread), torch.zeros_like(covariance)
        to_value_mean = gradient.sum(-2, keepdim=True)
        to_constants = [torch.zeros_like(constant) for constant in constants]
        features = covariance.new_empty(batch * heads, covariance.shape[-2], min(chunk, length))
        for part in _parts(length, chunk):
            found = features[..., : part.stop - part.start]
            shifted, x = _write_projected(found, query, part, *constants)
            write_products(found, linear_dims, dims)
            damping = _damping(x, spread)
            above = gradient[:, :, part].flatten(0, 1) * damping.mT
            to_covariance.baddbmm_(found, above)
            inner = torch.bmm(covariance, above.mT)
            to_x, second = inner[:, :linear_dims], through_products(found, inner, linear_dims, dims)
            # As for the keys: product times gradient by Euler.
            changed = (x * to_x).sum(-2, keepdim=True) + (x[:, :dims] * second).sum(-2, keepdim=True) / 2
            to_damping = changed.mul_(damping).neg_()
            to_spread.baddbmm_(x.square(), to_damping.mT)
            to_x[:, :dims].add_(second)
            to_x.addcmul_(x * (2 * spread), to_damping)
            to_rows = torch.bmm(to_x.mT, constants[0])
            if to_query is not None:
                to_query[:, :, part] = to_rows.unflatten(0, (batch, heads))
            if needs[1]:
                to_constants[0].baddbmm_(to_x, shifted)
            if needs[2]:
                to_constants[1].sub_(to_rows.sum(-2, keepdim=True))
        return (
            to_query,
            *(
                _reduce_rows(found, constant, batch, heads) if needed else None
                for found, constant, needed in zip(to_constants, (projection, shift), needs[1:3], strict=True)
            ),
            to_value_mean,
            to_spread.unflatten(0, (batch, heads)), to_covariance.unflatten(0, (batch, heads)), None, None,
        )  # fmt: skip


def _write_projected(
    features: torch.Tensor, states: torch.Tensor, part: slice, projection: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift and project a chunk of states; the projection becomes the first rows of the features."""
    shifted = _rows(states, part, projection.dtype) - shift
    return shifted, torch.bmm(projection, shifted.mT, out=features[:, : projection.shape[-2]])


def _damping(x: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
    return torch.bmm(spread.mT, x.square()).add_(1.0).reciprocal_()
