"""Reference for linear attention: the same results from all pairs of positions, in quadratic time and memory.

Written for readability, in float64 and without chunks. Tests compare `linear_attention` with it, and calibration uses
it. Its weight matrices show how a map approximates softmax.
"""

from typing import NamedTuple

import torch

from kexue_hf.models.performer_bert.feature_maps_performer_bert import ExponentialMap, FeatureMap, LowOrderMap


def allowed_pairs(
    query: torch.Tensor, key: torch.Tensor, key_mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    """Return where a query may attend to a key: boolean [batch, 1, queries, keys]."""
    allowed = torch.ones(query.shape[0], 1, query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
    if key_mask is not None:
        allowed = allowed & key_mask[:, None, None, :]
    return allowed.tril() if causal else allowed


def softmax_weights(
    query: torch.Tensor, key: torch.Tensor, allowed: torch.Tensor, scaling: float | None = None
) -> torch.Tensor:
    """Return the exact weights [batch, heads, queries, keys], float64; zeros if a row may attend to nothing."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query.double() @ key.double().mT * scaling
    return scores.masked_fill(~allowed, -torch.inf).softmax(-1).masked_fill(~allowed.any(-1, keepdim=True), 0.0)


def naive_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    feature_map: FeatureMap,
    allowed: torch.Tensor,
    scaling: float | None = None,
    causal: bool = False,
    epsilon: float = 1e-6,
) -> torch.Tensor:
    """Return a map's approximation of `softmax_weights`; rows sum to 1, or are zeros if they may attend to nothing.

    Args:
        query, key: [batch, heads, length, dim].
        allowed: see `allowed_pairs`.
        causal: use the stored mean of the keys and a running stabiliser, as causal attention does.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    x = (query.double() - feature_map.query_mean.double()[:, None]) * scaling**0.5
    if isinstance(feature_map, LowOrderMap):
        terms = low_order_terms(query, key, feature_map, allowed, scaling)
        linear, quadratic, saturation = (
            getattr(feature_map, name).double()[:, None, None] for name in ("linear", "quadratic", "saturation")
        )
        damping = 1 / (1 + saturation * terms.variance)
        return terms.weights * (1 + damping * (linear * terms.first + quadratic * terms.second))

    assert isinstance(feature_map, ExponentialMap)
    shift = feature_map.key_mean.double()[:, None]
    if feature_map.centred and not causal:
        real = allowed.any(-2)[..., None].double()
        shift = (key.double() * real).sum(-2, keepdim=True) / real.sum(-2, keepdim=True).clamp_min(1)
    y = (key.double() - shift) * scaling**0.5
    weights = feature_map.weights(torch.float64)
    query_logits = x @ weights.query.mT + weights.query_bias[:, None]
    key_logits = y @ weights.key.mT + weights.key_bias[:, None]
    key_logits = key_logits + (y @ feature_map.query_mean.double()[..., None]) * scaling**0.5
    if feature_map.gaussian:
        key_logits = key_logits - y.square().sum(-1, keepdim=True) / 2
    if feature_map.normalised:
        key_logits = key_logits.log_softmax(-1)
    query_features = (query_logits - query_logits.detach().amax(-1, keepdim=True)).exp() + epsilon
    pairs = key_logits[:, :, None].masked_fill(~allowed[..., None], -torch.inf)
    top = pairs.detach().amax((-1, -2), keepdim=True)
    key_features = (pairs - top.clamp_min(-1e30)).exp() + epsilon
    kernel = torch.einsum("bhim,bhijm->bhij", query_features, key_features).masked_fill(~allowed, 0.0)
    total = kernel.sum(-1, keepdim=True)
    return kernel / total.masked_fill(total == 0, 1.0)


class LowOrderTerms(NamedTuple):
    """The terms of `LowOrderMap`, [batch, heads, queries, keys] each, except `variance` [batch, heads, queries, 1]."""

    weights: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    variance: torch.Tensor


def low_order_terms(
    query: torch.Tensor,
    key: torch.Tensor,
    feature_map: LowOrderMap,
    allowed: torch.Tensor,
    scaling: float | None = None,
) -> LowOrderTerms:
    """Return the terms by their definitions.

    They are the weights of order zero (rows sum to 1), t, (u^2 - mean of u^2) / 2, and the sum of the variances of t's
    terms.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    shift = feature_map.query_mean.double()[:, None]
    x = (query.double() - shift) * scaling**0.5 @ feature_map.query_projection.double().mT
    from_mean = key.double() - feature_map.key_mean.double()[:, None]
    y = from_mean * scaling**0.5 @ feature_map.key_projection.double().mT
    log_weights = scaling * (from_mean * shift).sum(-1) + (
        y.square() * feature_map.key_curvature.double()[:, None]
    ).sum(-1)
    log_weights = log_weights[:, :, None].masked_fill(~allowed, -torch.inf)
    weights = log_weights.softmax(-1).masked_fill(~allowed.any(-1, keepdim=True), 0.0)

    mean = weights @ y
    first = x @ y.mT - (x * mean).sum(-1, keepdim=True)
    dims = feature_map.quadratic_dims
    squares = (x[..., :dims] @ y[..., :dims].mT - (x[..., :dims] * mean[..., :dims]).sum(-1, keepdim=True)).square()
    second = (squares - (weights * squares).sum(-1, keepdim=True)) / 2
    spread = weights @ y.square() - mean.square()
    return LowOrderTerms(weights, first, second, (x.square() * spread).sum(-1, keepdim=True))


def naive_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    feature_map: FeatureMap,
    key_mask: torch.Tensor | None = None,
    scaling: float | None = None,
    causal: bool = False,
    epsilon: float = 1e-6,
) -> torch.Tensor:
    """Compute `linear_attention` from the matrix of all weights: [batch, heads, queries, value dim], float64."""
    allowed = allowed_pairs(query, key, key_mask, causal)
    return naive_weights(query, key, feature_map, allowed, scaling, causal, epsilon) @ value.double()
