"""Feature maps with constants that are nowhere zero or one, and states to put in."""

import torch
from torch import nn

from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    ExponentialMap,
    ExponentialWeights,
    FeatureMap,
    LowOrderMap,
    RandomFeatures,
    create_feature_map,
)


class LearnedMap(ExponentialMap):
    """Directions that are parameters, others for the keys than for the queries, and those of each head its own."""

    gaussian = False

    def __init__(self, head_dim: int, num_features: int, num_heads: int) -> None:
        super().__init__(head_dim, num_features, num_heads)
        size = (num_heads, num_features, head_dim)
        self.query_weight, self.key_weight = nn.Parameter(torch.randn(size)), nn.Parameter(torch.randn(size))
        self.bias = nn.Parameter(torch.randn(num_heads, num_features))

    def weights(self, dtype: torch.dtype) -> ExponentialWeights:
        bias = self.bias.to(dtype)
        return ExponentialWeights(self.query_weight.to(dtype), self.key_weight.to(dtype), bias, bias * 0.5)


class SharedMap(LearnedMap):
    """The same, shared by all heads."""

    def __init__(self, head_dim: int, num_features: int, num_heads: int) -> None:
        super().__init__(head_dim, num_features, 1)


MAPS = {
    "low_order": lambda dim, features, heads: LowOrderMap(dim, features, heads),
    "low_order, few": lambda dim, features, heads: LowOrderMap(dim, dim - 1, 1),
    "favor+": lambda dim, features, heads: RandomFeatures(dim, features, heads),
    "favor+, sqrt_d": lambda dim, features, heads: RandomFeatures(dim, features, norm="sqrt_d"),
    "favor+, stratified": lambda dim, features, heads: RandomFeatures(dim, features, norm="stratified"),
    "favor+, not centred": lambda dim, features, heads: RandomFeatures(dim, features, heads, centred=False),
    "favor++": lambda dim, features, heads: RandomFeatures(dim, features, heads, optimal=True),
    "learned, not normalised": LearnedMap,
    "learned": lambda dim, features, heads: create_feature_map("learned", dim, features, heads),
    "learned, shared": SharedMap,
}


def filled(name: str, dim: int = 6, features: int = 20, heads: int = 2) -> FeatureMap:
    """The map of a name, every constant random."""
    torch.manual_seed(11)
    feature_map = MAPS[name](dim, features, heads)
    feature_map.query_mean.normal_()
    feature_map.key_mean.normal_()
    if isinstance(feature_map, LowOrderMap):
        feature_map.query_projection.normal_().mul_(0.4)
        feature_map.key_projection.normal_().mul_(0.4)
        feature_map.key_curvature.normal_().mul_(0.1)
        for constants in (feature_map.linear, feature_map.quadratic, feature_map.saturation):
            constants.uniform_(0.5, 1.5)
    return feature_map


def states(
    length: int, keys: int | None = None, std: float = 1.0, batch: int = 2, heads: int = 2, dim: int = 6, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values of float64; values are of one more dimension than the others."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((length, dim), (keys or length, dim), (keys or length, dim + 1))
    query, key, value = (
        torch.randn(batch, heads, *size, generator=generator, dtype=torch.float64) for size in sizes
    )  # fmt: skip
    return query * std, key * std, value


__all__ = ["MAPS", "create_feature_map", "filled", "states"]
