"""Fit the constants of a feature map to a sample of queries and keys.

Everything is computed per head, in float64, from exact softmax over all pairs of a text; texts of a few hundred
positions are enough. Time grows with the square of a text's length; memory does not, because rows are processed in
blocks (`PAIRS`). The result is written to the map's buffers; nothing is random.
"""

import math

import torch

from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    FeatureMap,
    LearnedMap,
    LowOrderMap,
    RandomFeatures,
    best_sharpness,
)
from kexue_hf.performer.exact_attention import low_order_terms, softmax_weights

# Candidates for each head: the share of the queries' mean that is subtracted, the share of the queries' variance that
# weighs the keys, and the damping of rows with large logits.
SHIFTS = (0.0, 1.0)
CURVATURES = (0.0, 0.25)
SATURATIONS = (0.0, 0.1, 0.25, 0.5, 1.0)
# Smallest variance of a direction, as a share of the largest: a sample may have none in some directions.
NO_VARIANCE = 1e-8
# Minimum number of queries and of keys for low orders, per dimension of a head. On other states of the same kind, half
# as many give up to three times the error of an uncalibrated map, a quarter up to 10,000 times.
POSITIONS_PER_DIMENSION = 2
# Pairs of positions per block, over all heads. Some 20 matrices of this size exist at once: 330 MB.
PAIRS = 1 << 21

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


@torch.no_grad()
def calibrate(
    feature_map: FeatureMap, samples: list[Sample], *, scaling: float | None = None, causal: bool = False
) -> torch.Tensor:
    """Choose the constants of a map that bring it closest to softmax on a sample.

    Args:
        feature_map: changed in place; its `num_heads` and `head_dim` must equal the sample's.
        samples: one or more (query, key, key mask): [batch, heads, length, head_dim] twice, floating point, and None
            or [batch, keys], boolean or integer, nonzero where a key is real. If there are as many queries as keys,
            the mask also applies to the queries.
        scaling, causal: as in `linear_attention`.

    Returns:
        One number per head, [heads], float64. For low orders, the share of softmax that is missed on these samples:
        the squared error of the weights divided by that of uniform attention; at most 1. For random features, the mean
        |q + k|^2, scaled and shifted: the relative variance of one feature is about its exponential. A learned map
        returns the same, and restarts from centroids of the keys: calibrate before training.

    Raises:
        ValueError: no sample, or none with a real and finite position; shapes, a mask or a scaling do not fit; for low
            orders, fewer than 2 head_dim (`POSITIONS_PER_DIMENSION`) queries or keys in texts of two or more
            positions.
    """
    if not samples:
        raise ValueError("calibration needs at least one sample of queries and keys")
    cleaned = [_real_positions(feature_map, *sample) for sample in samples]
    scaling = feature_map.head_dim**-0.5 if scaling is None else float(scaling)
    if not 0 < scaling < math.inf:
        raise ValueError(f"scaling must be a positive number, got {scaling}")
    # [heads, positions, head_dim]
    queries, keys = (torch.cat([states for sample in cleaned for states in sample[side]], dim=-2) for side in (0, 1))
    if not queries.shape[-2] or not keys.shape[-2]:
        raise ValueError("calibration needs at least one real position in its samples")
    if not (queries.isfinite().all() and keys.isfinite().all()):
        raise ValueError("calibration needs finite queries and keys, got NaN or infinity in the samples")
    texts = [pair for sample in cleaned for pair in zip(*sample, strict=True) if pair[0].shape[1] and pair[1].shape[1]]
    query_mean, key_mean = queries.mean(-2), keys.mean(-2)
    if isinstance(feature_map, LowOrderMap):
        _check_enough(texts, feature_map.head_dim)
        return _calibrate_low_orders(feature_map, texts, queries, query_mean, key_mean, scaling, causal)
    squares = (queries - query_mean[:, None]).square().mean(-2) + (keys - key_mean[:, None]).square().mean(-2)
    spread = scaling * squares.sum(-1)
    if isinstance(feature_map, LearnedMap):
        # The centroids replace all constants.
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
    """Return the queries and keys of each text without padding: lists of [heads, length, head_dim], float64."""
    heads, head_dim = feature_map.num_heads, feature_map.head_dim
    for name, states in {"query": query, "key": key}.items():
        if states.dim() != 4 or not states.is_floating_point():
            raise ValueError(
                f"a sample's {name} must be a floating tensor [batch, heads, length, head_dim], got {states.dtype} of "
                f"shape {list(states.shape)}"
            )
        if states.shape[1] != heads:
            raise ValueError(f"the feature map is for {heads} heads, got samples of {states.shape[1]}")
        if states.shape[-1] != head_dim:
            raise ValueError(f"the feature map is for a head_dim of {head_dim}, got samples of {states.shape[-1]}")
    if len(query) != len(key):
        raise ValueError(f"a sample's query and key must have the same batch size, got {len(query)} and {len(key)}")
    # MPS has no float64.
    query, key = ((states.cpu() if states.device.type == "mps" else states).double() for states in (query, key))
    if key_mask is None:
        return list(query), list(key)
    if key_mask.is_floating_point() or key_mask.shape != (key.shape[0], key.shape[2]):
        raise ValueError(
            f"a sample's mask must be of shape {[key.shape[0], key.shape[2]]}, boolean or nonzero where a key is "
            f"real, got {key_mask.dtype} of shape {list(key_mask.shape)}"
        )
    # Integers would index positions instead of masking them.
    real = key_mask.to(key.device, torch.bool)
    keys = [row[:, kept] for row, kept in zip(key, real, strict=True)]
    if query.shape[-2] != key.shape[-2]:
        return list(query), keys
    return [row[:, kept] for row, kept in zip(query, real, strict=True)], keys


def _check_enough(texts: list[tuple[torch.Tensor, torch.Tensor]], head_dim: int) -> None:
    needed = POSITIONS_PER_DIMENSION * head_dim
    # Attention to a single key gives no information about queries or keys.
    counts = [(query.shape[1], key.shape[1]) for query, key in texts if key.shape[1] > 1]
    queries, keys = (sum(count[side] for count in counts) for side in (0, 1))
    if min(queries, keys) < needed:
        raise ValueError(
            f"calibration needs at least {needed} queries and keys ({POSITIONS_PER_DIMENSION} for each of {head_dim} "
            f"dimensions) in texts of two or more positions, got {queries} and {keys}: give more text"
        )


class _Candidate:
    """A map with one choice of shifts and projections, and sums over rows for finding its factors.

    For each saturation, the sums are of the products of both orders' weights [heads, 2, 2], of their products with the
    difference between softmax and order zero [heads, 2], and of the squared error of order zero [heads].
    """

    def __init__(self, trial: LowOrderMap, like: torch.Tensor) -> None:
        self.trial = trial
        self.products = like.new_zeros(len(SATURATIONS), trial.num_heads, 2, 2)
        self.targets = like.new_zeros(len(SATURATIONS), trial.num_heads, 2)
        self.without = like.new_zeros(trial.num_heads)

    def add(
        self, query: torch.Tensor, key: torch.Tensor, exact: torch.Tensor, allowed: torch.Tensor, scaling: float
    ) -> None:
        """Add some rows of a text.

        The shapes are [heads, rows, head_dim], [heads, keys, head_dim], [heads, rows, keys] and [1, rows, keys].
        """
        terms = low_order_terms(query[None], key[None], self.trial, allowed[None], scaling)
        base, first, second, variance = (term[0] for term in terms)
        rest = exact - base
        self.without += rest.square().sum((-1, -2))
        orders = (base * first, base * second)
        # The saturation changes only one factor per row: [heads, rows, ...].
        products = torch.stack([torch.stack([(a * b).sum(-1) for b in orders], -1) for a in orders], -1)
        targets = torch.stack([(order * rest).sum(-1) for order in orders], -1)
        for i, saturation in enumerate(SATURATIONS):
            damping = 1 / (1 + saturation * variance)
            self.products[i] += (products * damping.square()[..., None]).sum(1)
            self.targets[i] += (targets * damping).sum(1)


def _calibrate_low_orders(
    feature_map: LowOrderMap,
    texts: list[tuple[torch.Tensor, torch.Tensor]],
    queries: torch.Tensor,
    query_mean: torch.Tensor,
    key_mean: torch.Tensor,
    scaling: float,
    causal: bool,
) -> torch.Tensor:
    heads = feature_map.num_heads
    candidates = []
    for shift in SHIFTS:
        for curvature in CURVATURES:
            # In the computation's precision, so that the chosen map is the one that was tried.
            trial = LowOrderMap(feature_map.head_dim, feature_map.num_features, heads).double().to(queries.device)
            trial.key_mean.copy_(key_mean)
            trial.query_mean.copy_(shift * query_mean)
            _project(trial, texts, queries, query_mean, curvature, scaling)
            candidates.append(_Candidate(trial, queries))

    uniform = queries.new_zeros(heads)
    for query, key in texts:
        rows = max(1, PAIRS // (heads * key.shape[1]))
        for start in range(0, query.shape[1], rows):
            some = query[:, start : start + rows]
            pairs = torch.ones(1, some.shape[1], key.shape[1], dtype=torch.bool, device=key.device)
            pairs = pairs.tril(start) if causal else pairs
            exact = softmax_weights(some[None], key[None], pairs[None], scaling)[0]
            uniform += (exact - pairs / pairs.sum(-1, keepdim=True)).square().sum((-1, -2))
            for candidate in candidates:
                candidate.add(some, key, exact, pairs, scaling)

    least = torch.full_like(uniform, torch.inf)
    names = ("query_mean", "query_projection", "key_projection", "key_curvature", "linear", "quadratic", "saturation")
    best: dict[str, torch.Tensor] = {}
    for candidate in candidates:
        trial = candidate.trial
        for saturation, product, target in zip(SATURATIONS, candidate.products, candidate.targets, strict=True):
            factors, gained = _least_squares(product, target)
            trial.saturation.fill_(saturation)
            trial.linear.copy_(factors[:, 0])
            trial.quadratic.copy_(factors[:, 1])
            better = candidate.without - gained < least
            least = torch.where(better, candidate.without - gained, least)
            for name in names:
                now = getattr(trial, name)
                choose = better.view(-1, *[1] * (now.dim() - 1))
                best[name] = torch.where(choose, now, best.get(name, now))
    feature_map.key_mean.copy_(key_mean)
    for name, chosen in best.items():
        getattr(feature_map, name).copy_(chosen)
    return least / uniform.clamp_min(torch.finfo(torch.float64).tiny)


def _least_squares(product: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of both orders, [heads, 2], and the squared error that they remove, [heads]."""
    # An order that is zero everywhere, such as the second without dimensions, gets the factor 0.
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
    """Set projections such that the entries of queries and keys are uncorrelated, with equal variances on both sides.

    The entries that explain most of the variance of q . k come first; q . k stays the same if all dimensions are kept.
    """
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
    """Return the square root of each matrix and its inverse, with a lower bound on the variances."""
    values, vectors = torch.linalg.eigh(covariance)
    largest = values.amax(-1, keepdim=True)
    values = values.clamp_min(largest * NO_VARIANCE).masked_fill(largest <= 0, 1.0)
    roots = values.sqrt()[:, None]
    return (vectors * roots) @ vectors.mT, (vectors / roots) @ vectors.mT
