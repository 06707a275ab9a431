"""Linear attention to all keys without a loop, for compiled and exported programs.

A compiler would unroll the kernels' loops over chunks into a graph that grows with the text and serves one length.
Here all positions are processed at once: batch and length stay dynamic, and gradients are those of torch's own
operations. It needs more memory than the kernels, for the features of all positions.
"""

import torch

from .low_order_kernel_performer_bert import FLOOR
from .low_order_performer_bert import Coefficients


def traced_low_orders(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    log_weight: torch.Tensor,
    real: torch.Tensor,
    quadratic_dims: int,
    coefficients: Coefficients,
) -> torch.Tensor:
    """Return the same as `low_order_bidirectional`, [batch, heads, queries, value dim].

    Args:
        query, key: shifted and projected, [batch, heads, length, linear_dims].
        value: [batch, heads, keys, value dim]; padded keys and values are finite.
        log_weight: [batch, heads, keys], -inf for padding.
        real: boolean, [batch, 1, keys].
    """
    top = log_weight.detach().amax(-1, keepdim=True).clamp_min(FLOOR)
    weights = (log_weight - top).exp().masked_fill(~real, 0.0)
    weights = (weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(value.dtype).tiny))[..., None]
    value_mean = (weights * value).sum(-2, keepdim=True)
    values = weights * (value - value_mean)
    centred = key - (weights * key).sum(-2, keepdim=True)
    spread = (weights * centred.square()).sum(-2, keepdim=True)
    damping = 1 / (1 + coefficients.saturation * (query.square() * spread).sum(-1, keepdim=True))
    head, head_key = query[..., :quadratic_dims], centred[..., :quadratic_dims]
    pairs, key_pairs = (_squared(states) for states in (head, head_key))
    orders = coefficients.linear * (query @ (centred.mT @ values))
    orders = orders + coefficients.quadratic / 2 * (pairs @ (key_pairs.mT @ values))
    return value_mean + damping * orders


def _squared(states: torch.Tensor) -> torch.Tensor:
    """Return all products of two entries: [..., dims] -> [..., dims^2]."""
    return (states[..., :, None] * states[..., None, :]).flatten(-2)


def traced_exponential(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    log_weight: torch.Tensor,
    count: torch.Tensor,
    directions: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    epsilon: float,
) -> torch.Tensor:
    """Return the same as `BidirectionalExponential`, [batch, heads, queries, value dim], from the same arguments."""
    query_directions, key_directions, query_bias, key_bias = directions
    dtype = query_directions.dtype
    value = value.to(dtype)
    logits = key.to(dtype) @ key_directions.mT + key_bias[:, None] + log_weight[..., None]
    top = logits.detach().amax((-2, -1), keepdim=True).clamp_min(FLOOR)
    found = (logits - top).exp()
    sums = found.mT @ value + epsilon * value.sum(-2, keepdim=True)
    total = found.sum(-2)[..., None] + epsilon * count
    logits = query.to(dtype) @ query_directions.mT + query_bias[:, None]
    asked = (logits - logits.detach().amax(-1, keepdim=True)).exp() + epsilon
    below = asked @ total
    return (asked @ sums) / below.masked_fill(below == 0, 1.0)


__all__ = ["traced_exponential", "traced_low_orders"]
