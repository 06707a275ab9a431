"""A feature map whose directions are trained: what attention transfer fits to the softmax of a trained model.

Queries have the features exp(u_i . q + a_i). A key has the shares softmax_i(w_i . k + b_i): it is spread over the
features, and its shares sum to 1. With centroids c_i of the keys as u_i and w_i and -|c_i|^2 / 2 as b_i each key is
shared among the centroids near to it, and exp(q . k) becomes the mean of exp(q . c_i) by these shares; training goes
on from there. After the idea of Hedgehog (arXiv 2402.04347) to learn features on softmax's own queries and keys, with
two departures: queries have directions of their own, and are not normalised, which would change nothing.
"""

import torch
from torch import nn

from .feature_maps_performer_bert import ExponentialMap, ExponentialWeights
from .projections_performer_bert import draw_projection

# Of a head's keys, when centroids are looked for.
MOST_KEYS = 8192
ROUNDS = 8


def centroids(points: torch.Tensor, count: int, rounds: int = ROUNDS, seed: int = 0) -> torch.Tensor:
    """[heads, positions, dim] -> [heads, count, dim]: the centres of as many clusters (k-means, begun at points that
    lie evenly in the order given). All of them differ, even if there are fewer points."""
    heads, positions, dim = points.shape
    generator = torch.Generator(device="cpu").manual_seed(seed % 2**63)
    # On the CPU, so that the same numbers come on every device.
    noise = torch.randn(heads, count, dim, generator=generator, device="cpu").to(points)
    places = torch.arange(count, device=points.device) * positions // count
    found = points[:, places] + noise * points.std() * 1e-3
    ones = points.new_ones(heads, positions, 1)
    for _ in range(rounds):
        nearest = torch.baddbmm(found.square().sum(-1)[:, None], points, found.mT, alpha=-2).argmin(-1, keepdim=True)
        sums = torch.zeros_like(found).scatter_add_(1, nearest.expand(-1, -1, dim), points)
        counts = found.new_zeros(heads, count, 1).scatter_add_(1, nearest, ones)
        found = torch.where(counts > 0, sums / counts.clamp_min(1.0), found)
    return found


class LearnedMap(ExponentialMap):
    """Directions and constants of each head, of queries and of keys, all of them parameters.

    A new map has random directions, the same for queries and keys, and no constants: it is there to be trained.

    Args:
        head_dim, num_features, num_heads: as of all maps; every head has all the features.
        seed: of the random directions.
    """

    gaussian = False
    normalised = True

    def __init__(self, head_dim: int, num_features: int = 256, num_heads: int = 1, seed: int = 0) -> None:
        # A constant in all keys is a matter of the biases; the rows' own means need not be taken out.
        super().__init__(head_dim, num_features, num_heads, centred=False)
        self.seed = seed
        size = (num_heads, num_features)
        self.query_directions, self.key_directions = (nn.Parameter(torch.empty(*size, head_dim)) for _ in range(2))
        self.query_bias, self.key_bias = (nn.Parameter(torch.empty(size)) for _ in range(2))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        super().reset()
        for head in range(self.num_heads):
            drawn = draw_projection(self.num_features, self.head_dim, seed=self.seed, index=head)
            self.query_directions[head].copy_(drawn)
            self.key_directions[head].copy_(drawn)
        self.query_bias.zero_()
        self.key_bias.zero_()

    @torch.no_grad()
    def start_from(self, centroids: torch.Tensor) -> None:
        """Begin at centroids of the keys.

        Args:
            centroids: [heads, features, head_dim], of keys multiplied by the root of the scaling.

        Raises:
            ValueError: another shape.
        """
        if centroids.shape != self.key_directions.shape:
            raise ValueError(
                f"centroids must be of shape {list(self.key_directions.shape)}, got {list(centroids.shape)}"
            )
        self.query_directions.copy_(centroids)
        self.key_directions.copy_(centroids)
        self.query_bias.zero_()
        self.key_bias.copy_(centroids.square().sum(-1) / -2)

    @torch.no_grad()
    def start_from_keys(self, keys: torch.Tensor) -> None:
        """Begin at the centroids of some keys.

        Args:
            keys: [heads, positions, head_dim], multiplied by the root of the scaling; at most `MOST_KEYS` positions,
                evenly spread, are looked at.
        """
        stride = -(-keys.shape[1] // MOST_KEYS)
        self.start_from(centroids(keys[:, ::stride].float(), self.num_features, seed=self.seed))

    def weights(self, dtype: torch.dtype) -> ExponentialWeights:
        return ExponentialWeights(
            self.query_directions.to(dtype),
            self.key_directions.to(dtype),
            self.query_bias.to(dtype),
            self.key_bias.to(dtype),
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, seed={self.seed}"


__all__ = ["LearnedMap", "centroids"]
