"""The constants of a feature map, from a sample of the queries and keys that it will be used on.

Everything is computed per head, in float64, from exact softmax over all pairs of a text: give texts of some hundred
positions. The result lies in the map's buffers; nothing is random.
"""

import torch

from .feature_maps_performer_bert import FeatureMap, LowOrderMap, RandomFeatures, best_sharpness
from .learned_performer_bert import LearnedMap
from .naive_performer_bert import allowed_pairs, low_order_terms, softmax_weights

# What is tried for each head: the share of the queries' mean that is taken out, the share of the queries' variance
# that weighs the keys, and the damping of rows with large logits.
SHIFTS = (0.0, 1.0)
CURVATURES = (0.0, 0.25)
SATURATIONS = (0.0, 0.1, 0.25, 0.5, 1.0)
# The least variance of a direction, as a share of the largest: a sample may lack it altogether.
NO_VARIANCE = 1e-8

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


@torch.no_grad()
def calibrate(
    feature_map: FeatureMap, samples: list[Sample], *, scaling: float | None = None, causal: bool = False
) -> torch.Tensor:
    """Choose the constants of a map so that it comes near to softmax on a sample.

    Args:
        feature_map: changed in place; its `num_heads` must be the sample's.
        samples: (query, key, key mask), [batch, heads, length, head_dim] twice, [batch, length] or None; one or more.
            Where there are as many queries as keys, the mask holds for the queries as well.
        scaling, causal: as in `linear_attention`.

    Returns:
        One number a head, [heads] of float64. For low orders the share of softmax that is missed: the squared error of
        the weights over that of attending to everything alike; at most 1. For random features the mean |q + k|^2,
        scaled and shifted: the relative variance of one feature is about its exponential. The same for a learned map,
        which begins anew, at centroids of the keys: calibrate before training.

    Raises:
        ValueError: no sample, or none with a real and finite position, or heads that are not the map's.
    """
    if not samples:
        raise ValueError("calibration needs at least one sample of queries and keys")
    cleaned = [_real_positions(feature_map, *sample) for sample in samples]
    scaling = feature_map.head_dim**-0.5 if scaling is None else scaling
    # [heads, positions, head_dim]
    queries, keys = (torch.cat([states for sample in cleaned for states in sample[side]], dim=-2) for side in (0, 1))
    if not queries.shape[-2] or not keys.shape[-2]:
        raise ValueError("calibration needs at least one real position in its samples")
    if not (queries.isfinite().all() and keys.isfinite().all()):
        raise ValueError("calibration needs finite queries and keys, got NaN or infinity in the samples")
    query_mean, key_mean = queries.mean(-2), keys.mean(-2)
    if isinstance(feature_map, LowOrderMap):
        return _calibrate_low_orders(feature_map, cleaned, queries, query_mean, key_mean, scaling, causal)
    squares = (queries - query_mean[:, None]).square().mean(-2) + (keys - key_mean[:, None]).square().mean(-2)
    spread = scaling * squares.sum(-1)
    if isinstance(feature_map, LearnedMap):
        # Its directions come into the place of all constants.
        feature_map.start_from_keys(keys * scaling**0.5)
        return spread
    feature_map.query_mean.copy_(query_mean)
    feature_map.key_mean.copy_(key_mean)
    if isinstance(feature_map, RandomFeatures) and feature_map.optimal:
        feature_map.sharpness.copy_(best_sharpness(spread.clamp_min(1e-6), feature_map.head_dim))
    return spread


def _real_positions(
    feature_map: FeatureMap, query: torch.Tensor, key: torch.Tensor, key_mask: torch.Tensor | None
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Queries and keys of each text without padding: lists of [heads, length, head_dim] of float64."""
    if query.shape[1] != feature_map.num_heads or key.shape[1] != feature_map.num_heads:
        raise ValueError(f"the feature map is for {feature_map.num_heads} heads, got samples of {query.shape[1]}")
    query, key = query.double(), key.double()
    if key_mask is None:
        return list(query), list(key)
    keys = [row[:, real] for row, real in zip(key, key_mask, strict=True)]
    if query.shape[-2] != key.shape[-2]:
        return list(query), keys
    return [row[:, real] for row, real in zip(query, key_mask, strict=True)], keys


def _calibrate_low_orders(
    feature_map: LowOrderMap,
    samples: list[tuple[list[torch.Tensor], list[torch.Tensor]]],
    queries: torch.Tensor,
    query_mean: torch.Tensor,
    key_mean: torch.Tensor,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    heads = feature_map.num_heads
    names = ("query_mean", "query_projection", "key_projection", "key_curvature", "linear", "quadratic", "saturation")
    best: dict[str, torch.Tensor] = {}
    least = torch.full((heads,), torch.inf, dtype=torch.float64, device=queries.device)
    texts = [pair for sample in samples for pair in zip(*sample, strict=True) if pair[0].shape[1] and pair[1].shape[1]]
    exact = []
    uniform = torch.zeros_like(least)
    for query, key in texts:
        allowed = allowed_pairs(query[None], key[None], None, causal)
        exact.append(softmax_weights(query[None], key[None], allowed, scaling)[0])
        even = allowed[0] / allowed[0].sum(-1, keepdim=True)
        uniform += (exact[-1] - even).square().sum((-1, -2))

    # A map of more precision than the one to be filled, so that what is chosen is what was tried.
    trial = LowOrderMap(feature_map.head_dim, feature_map.num_features, heads).double().to(queries.device)
    trial.key_mean.copy_(key_mean)
    for shift in SHIFTS:
        for curvature in CURVATURES:
            trial.query_mean.copy_(shift * query_mean)
            _project(trial, texts, queries, query_mean, curvature, scaling)
            products = torch.zeros(len(SATURATIONS), heads, 2, 2, dtype=torch.float64, device=queries.device)
            targets = torch.zeros(len(SATURATIONS), heads, 2, dtype=torch.float64, device=queries.device)
            without = torch.zeros_like(least)
            for (query, key), weights in zip(texts, exact, strict=True):
                allowed = allowed_pairs(query[None], key[None], None, causal)
                terms = low_order_terms(query[None], key[None], trial, allowed, scaling)
                base, first, second, variance = (term[0] for term in terms)
                rest = weights - base
                without += rest.square().sum((-1, -2))
                for i, saturation in enumerate(SATURATIONS):
                    damped = base / (1 + saturation * variance)
                    orders = torch.stack([damped * first, damped * second], dim=1).flatten(2)
                    products[i] += orders @ orders.mT
                    targets[i] += (orders @ rest.flatten(1)[..., None])[..., 0]
            for saturation, product, target in zip(SATURATIONS, products, targets, strict=True):
                factors, gained = _least_squares(product, target)
                trial.saturation.fill_(saturation)
                trial.linear.copy_(factors[:, 0])
                trial.quadratic.copy_(factors[:, 1])
                better = without - gained < least
                least = torch.where(better, without - gained, least)
                for name in names:
                    now = getattr(trial, name)
                    choose = better.view(-1, *[1] * (now.dim() - 1))
                    best[name] = torch.where(choose, now, best.get(name, now))
    feature_map.key_mean.copy_(key_mean)
    for name, chosen in best.items():
        getattr(feature_map, name).copy_(chosen)
    return least / uniform.clamp_min(torch.finfo(torch.float64).tiny)


def _least_squares(product: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The factors of both orders, [heads, 2], and the squared error that they take away, [heads]."""
    # An order that is zero everywhere, as the second without dimensions, gets the factor 0.
    factors = (torch.linalg.pinv(product, hermitian=True) @ target[..., None])[..., 0]
    return factors, (factors * target).sum(-1)


def _project(
    trial: LowOrderMap,
    texts: list[tuple[torch.Tensor, torch.Tensor]],
    queries: torch.Tensor,
    query_mean: torch.Tensor,
    curvature: float,
    scaling: float,
) -> None:
    """Set projections such that the entries of queries and keys are uncorrelated, of the same variance on both sides,
    those that explain most of the variance of q . k first: without changing q . k if all dimensions are kept."""
    query_covariance = _covariance(queries - trial.query_mean[:, None])
    spread = _covariance(queries - query_mean[:, None])
    key_covariance = torch.zeros_like(query_covariance)
    for _, key in texts:
        from_mean = key - trial.key_mean[:, None]
        log_weights = scaling * (from_mean * trial.query_mean[:, None]).sum(-1)
        log_weights = log_weights + curvature * scaling**2 * ((from_mean @ spread) * from_mean).sum(-1)
        weights = log_weights.softmax(-1)[..., None]
        centred = key - (weights * key).sum(-2, keepdim=True)
        key_covariance += (weights * centred).mT @ centred / len(texts)
    query_root, query_inverse = _roots(query_covariance)
    key_root, key_inverse = _roots(key_covariance)
    left, deviations, right = torch.linalg.svd(query_root @ key_root)
    scale = deviations.sqrt()[..., None]
    dims = trial.linear_dims
    trial.query_projection.copy_((scale * (query_inverse @ left).mT)[:, :dims])
    trial.key_projection.copy_((scale * right @ key_inverse)[:, :dims])
    # The variance of the queries about their mean, along the projected directions.
    along = (trial.query_projection @ spread @ trial.query_projection.mT).diagonal(dim1=-2, dim2=-1)
    trial.key_curvature.copy_(curvature * scaling * along)


def _covariance(states: torch.Tensor) -> torch.Tensor:
    return states.mT @ states / max(1, states.shape[-2])


def _roots(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The square root of each matrix and its inverse, with a floor under the variances."""
    values, vectors = torch.linalg.eigh(covariance)
    largest = values.amax(-1, keepdim=True)
    values = values.clamp_min(largest * NO_VARIANCE).masked_fill(largest <= 0, 1.0)
    roots = values.sqrt()[:, None]
    return (vectors * roots) @ vectors.mT, (vectors / roots) @ vectors.mT
