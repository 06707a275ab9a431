"""Feature maps: approximations of exp(q . k) with which attention takes linear time.

A map is a module. All tensors that its results depend on are buffers and parameters, which save, load, move and cast
with the model; its constructor arguments (sizes, `centred`, `optimal`, norm and seed of redraws) belong in a
configuration. `linear_attention` supports two kinds:

* `ExponentialMap`: features exp(w . x + b), one for each direction w. `RandomFeatures` are FAVOR+ and FAVOR++;
  `LearnedMap` has trainable directions.
* `LowOrderMap`: the first and second order of the exponential itself, exact, around the mean of keys and queries.

All maps may shift keys and queries, since softmax over keys k of q . k equals that of (q - a) . (k - c) + a . k for
any a and c: the smaller the norms, the better the approximation. In bidirectional attention c is the mean of the keys
that the row sees. Constants from a sample (`calibrate`) are stored: `query_mean`, `key_mean` and others.

The random directions of FAVOR+ are orthogonal in blocks, with selectable norms. They are drawn on the CPU in float64
and cast afterwards: a seed gives the same numbers on every device and in every process.

`LearnedMap` is trained by attention transfer, to match the softmax of a trained model. Queries have the features
exp(u_i . q + a_i). A key has the shares softmax_i(w_i . k + b_i), which sum to 1. With centroids c_i of the keys as
u_i and w_i, and -|c_i|^2 / 2 as b_i, each key is shared among the centroids near to it, and exp(q . k) becomes the
mean of exp(q . c_i) by these shares; training starts there. The idea to learn features on softmax's own queries and
keys is Hedgehog's (arXiv 2402.04347), with two differences: queries have separate directions, and are not normalised,
which would change nothing.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

NORMS = ("chi", "sqrt_d", "stratified")


def stratified_radii(count: int, dim: int) -> torch.Tensor:
    """Return the radii R_i [count], ascending, float64, with P(|w| <= R_i) = i / (count + 1).

    w is a standard normal vector of `dim` entries: norms as evenly spaced as possible
        (https://kexue.fm/archives/7921).
    """
    wanted = torch.arange(1, count + 1, dtype=torch.float64, device="cpu") / (count + 1)
    half = torch.full((count,), dim / 2, dtype=torch.float64, device="cpu")
    low = torch.zeros(count, dtype=torch.float64, device="cpu")
    # P(|w| > sqrt(d) + t) <= exp(-t^2 / 2): no requested quantile lies beyond.
    high = torch.full_like(low, math.sqrt(dim) + math.sqrt(2 * math.log(count + 1)) + 1.0)
    for _ in range(64):
        middle = (low + high) / 2
        below = torch.special.gammainc(half, middle * middle / 2) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def draw_projection(count: int, dim: int, norm: str = "chi", seed: int = 0, index: int = 0) -> torch.Tensor:
    """Draw directions w [count, dim], float64, orthogonal in blocks of `dim`.

    Args:
        norm: "chi", as of independent normal vectors, which makes the kernel's estimate unbiased (arXiv 2009.14794);
            "sqrt_d", all equal; "stratified", see `stratified_radii`, in random order.
        seed, index: number of the draw, both from 0 on; `index` counts the redraws of a seed. Torch's CPU generator
            has 2^32 seeds: beyond that, draws repeat.

    Raises:
        ValueError: a size below 1, a negative seed or index, or an unknown norm.
    """
    if count < 1 or dim < 1:
        raise ValueError(f"a projection needs at least 1 feature and 1 dimension, got {count} and {dim}")
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index of a draw must be at least 0, got {seed} and {index}")
    generator = torch.Generator(device="cpu").manual_seed((seed * 1_000_003 + index * 7_919 + 12_345) % 2**63)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64, device="cpu")

    blocks = []
    for start in range(0, count, dim):
        orthogonal, triangular = torch.linalg.qr(normal(dim, dim))
        # Without the signs the directions would depend on LAPACK's convention and not be uniform.
        signs = torch.where(torch.diagonal(triangular) < 0, -1.0, 1.0).to(torch.float64)
        blocks.append((orthogonal * signs).T[: count - start])
    directions = torch.cat(blocks)
    if norm == "chi":
        radii = normal(count, dim).norm(dim=1)
    elif norm == "sqrt_d":
        radii = torch.full((count,), math.sqrt(dim), dtype=torch.float64, device="cpu")
    else:
        radii = stratified_radii(count, dim)[torch.randperm(count, generator=generator, device="cpu")]
    return directions * radii[:, None]


FEATURE_MAPS = ("low_order", "favor+", "favor++", "learned")


class FeatureMap(nn.Module):
    """Base of all maps: sizes and shifts.

    Args:
        head_dim: dimension of a query and of a key.
        num_features: maximum number of features in all.
        num_heads: number of heads with separate constants; 1 if all heads share them.
        centred: subtract the mean of the keys from the keys; the stored `key_mean` under a causal mask.

    Raises:
        ValueError: a size is below 1.
    """

    query_mean: torch.Tensor
    key_mean: torch.Tensor

    def __init__(self, head_dim: int, num_features: int = 256, num_heads: int = 1, centred: bool = True) -> None:
        super().__init__()
        for name, size in {"head_dim": head_dim, "num_features": num_features, "num_heads": num_heads}.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.head_dim, self.num_features, self.num_heads, self.centred = head_dim, num_features, num_heads, centred
        self.register_buffer("query_mean", torch.zeros(num_heads, head_dim))
        self.register_buffer("key_mean", torch.zeros(num_heads, head_dim))

    def forward(self, function: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
        """Return `function(self, *inputs)`, the forward pass of the map's user.

        Accelerate's offloading loads a module's tensors for its forward pass only: this call triggers it.
        """
        return function(self, *inputs)

    def reset(self) -> None:
        """Fill all buffers and parameters with their values before calibration and training.

        Needed by modules that were created without storage.
        """
        self.query_mean.zero_()
        self.key_mean.zero_()

    def extra_repr(self) -> str:
        return f"head_dim={self.head_dim}, num_features={self.num_features}, num_heads={self.num_heads}"


class ExponentialWeights(NamedTuple):
    """Directions [1 or heads, features, head_dim] and constants [1 or heads, features] of queries and of keys."""

    query: torch.Tensor
    key: torch.Tensor
    query_bias: torch.Tensor
    key_bias: torch.Tensor


class ExponentialMap(FeatureMap):
    """Features exp(w . x + b) of queries and keys; with `gaussian` keys are also weighted by exp(-|k|^2 / 2).

    The query's own exp(-|q|^2 / 2), and any other factor common to all features of a query, cancels in the ratio and
    is never computed.
    """

    gaussian = True
    # Whether each key's features are divided by their sum: any other factor of the key then cancels.
    normalised = False

    def weights(self, dtype: torch.dtype) -> ExponentialWeights:
        """Return directions and constants in a dtype, for queries and keys scaled by the root of the scaling."""
        raise NotImplementedError

    def log_constant(self) -> torch.Tensor:
        """Return half the logarithm of the factor between exp(features) . exp(features) and the kernel itself.

        [1 or heads], float64, on the CPU.
        """
        return torch.zeros(1, dtype=torch.float64)


class RandomFeatures(ExponentialMap):
    """FAVOR+ (arXiv 2009.14794) and, with `optimal`, FAVOR++ (arXiv 2205.15317): positive orthogonal random features.

    Args:
        norm, seed: see `draw_projection`.
        optimal: reduce the variance by features exp(A |w|^2 + sqrt(1 - 4 A) w . x - |x|^2 / 2), with the best A for
            the mean of |q + k|^2 (scaled). Before calibration that mean is the one of independent entries of standard
            deviation `ASSUMED_STD`.
    """

    ASSUMED_STD = 0.7

    projection: torch.Tensor
    sharpness: torch.Tensor

    def __init__(
        self,
        head_dim: int,
        num_features: int = 256,
        num_heads: int = 1,
        centred: bool = True,
        norm: str = "chi",
        seed: int = 0,
        optimal: bool = False,
    ) -> None:
        super().__init__(head_dim, num_features, num_heads, centred)
        self.norm, self.seed, self.optimal = norm, seed, optimal
        # The values come from the CPU; device and dtype are those of the surrounding construction.
        self.register_buffer("projection", torch.empty(num_features, head_dim))
        if optimal:
            self.register_buffer("sharpness", torch.empty(num_heads))
        self.reset()

    def _assumed_sharpness(self) -> float:
        # On the CPU, whatever the default device: it is a constant.
        spread = 2 * math.sqrt(self.head_dim) * self.ASSUMED_STD**2
        return float(best_sharpness(torch.tensor(spread, dtype=torch.float64, device="cpu"), self.head_dim))

    @torch.no_grad()
    def reset(self) -> None:
        super().reset()
        self.redraw(0)
        if self.optimal:
            self.sharpness.fill_(self._assumed_sharpness())

    @torch.no_grad()
    def redraw(self, index: int) -> None:
        """Replace the directions by draw number `index` of the seed; 0 is the first draw."""
        drawn = draw_projection(self.num_features, self.head_dim, self.norm, self.seed, index)
        self.projection.copy_(drawn)

    def weights(self, dtype: torch.dtype) -> ExponentialWeights:
        directions = self.projection.to(dtype)[None]
        bias = directions.new_zeros(1, self.num_features)
        if self.optimal:
            sharpness = self.sharpness.to(dtype)[:, None]
            bias = sharpness * directions.square().sum(-1)
            directions = directions * (1 - 4 * sharpness[..., None]).sqrt()
        return ExponentialWeights(directions, directions, bias, bias)

    def log_constant(self) -> torch.Tensor:
        constant = torch.full((1,), -math.log(self.num_features) / 2, dtype=torch.float64)
        if self.optimal:
            constant = constant + (1 - 4 * self.sharpness.cpu().double()).log() * self.head_dim / 4
        return constant

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, norm={self.norm!r}, seed={self.seed}, optimal={self.optimal}"


def best_sharpness(spread: torch.Tensor, dim: int) -> torch.Tensor:
    """Return the A of FAVOR++ for pairs with mean |q + k|^2 `spread` > 0 (arXiv 2205.15317); it is 0 or negative."""
    rate = ((2 * spread + dim) ** 2 + 8 * dim * spread).sqrt() - 2 * spread - dim
    return (1 - 4 * spread / rate) / 8


class LowOrderMap(FeatureMap):
    """The lowest orders of the exponential, exact: no random numbers, no exponential of features.

    With q and k shifted and projected (t = q . k in all dimensions, u in the first `quadratic_dims`), a key weighs

        w (1 + g (linear t + quadratic (u^2 - mean of u^2) / 2)),    w = exp(a . k + sum of key_curvature k^2),

    where all means are over the keys that the row sees, weighted by w, and t and u are computed from centred keys.
    Both orders then sum to zero, and the normaliser is the sum of w, which is always positive. This is the expansion
    of softmax in Hermite polynomials, the best of its degree if t is normal. g = 1 / (1 + saturation s) keeps rows
    with large logits, for which no polynomial works, near the mean: s is the sum over dimensions of q^2 times the
    variance of k. This is the variance of t if the dimensions of k are uncorrelated; calibration makes them so over
    the whole sample. Single weights may be negative.

    In float32, entries of q and k may be as large as 1e8, gradients included; far beyond, rows become NaN.

    Features: `linear_dims` (all dimensions, if they fit) and r (r + 1) / 2 of the second order.

    Buffers, each with one value or row per head: `query_projection` and `key_projection` [heads, linear_dims,
    head_dim], `linear`, `quadratic` and `saturation` [heads], `key_curvature` [heads, linear_dims], and the shifts.
    Before calibration the projections select the first coordinates, and the second order is that of the exponential.
    """

    SATURATION = 0.25

    query_projection: torch.Tensor
    key_projection: torch.Tensor
    linear: torch.Tensor
    quadratic: torch.Tensor
    saturation: torch.Tensor
    key_curvature: torch.Tensor

    def __init__(self, head_dim: int, num_features: int = 256, num_heads: int = 1) -> None:
        super().__init__(head_dim, num_features, num_heads)
        # The constant counts as a feature.
        self.linear_dims = min(head_dim, num_features - 1)
        rest = num_features - 1 - self.linear_dims
        self.quadratic_dims = min(head_dim, (math.isqrt(8 * rest + 1) - 1) // 2)
        for name in ("query_projection", "key_projection"):
            self.register_buffer(name, torch.empty(num_heads, self.linear_dims, head_dim))
        for name in ("linear", "quadratic", "saturation"):
            self.register_buffer(name, torch.empty(num_heads))
        self.register_buffer("key_curvature", torch.empty(num_heads, self.linear_dims))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        super().reset()
        for projection in (self.query_projection, self.key_projection):
            projection.copy_(torch.eye(self.linear_dims, self.head_dim))
        self.linear.fill_(1.0)
        self.quadratic.fill_(1.0)
        self.saturation.fill_(self.SATURATION)
        self.key_curvature.zero_()


def create_feature_map(
    name: str = "low_order",
    head_dim: int = 64,
    num_features: int = 256,
    num_heads: int = 1,
    norm: str = "chi",
    seed: int = 0,
) -> FeatureMap:
    """Create a feature map by its name in a configuration: "low_order", "favor+", "favor++" or "learned".

    Raises:
        ValueError: an unknown name or norm, or a size below 1.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
    if name == "low_order":
        return LowOrderMap(head_dim, num_features, num_heads)
    if name in ("favor+", "favor++"):
        return RandomFeatures(head_dim, num_features, num_heads, norm=norm, seed=seed, optimal=name == "favor++")
    if name == "learned":
        return LearnedMap(head_dim, num_features, num_heads, seed)
    raise ValueError(f"feature map must be one of {', '.join(FEATURE_MAPS)}, got {name!r}")


# Maximum number of a head's keys for finding centroids.
MAX_KEYS = 8192
ROUNDS = 8


def centroids(points: torch.Tensor, count: int, rounds: int = ROUNDS, seed: int = 0) -> torch.Tensor:
    """Find cluster centres by k-means: [heads, positions, dim] -> [heads, count, dim].

    The start is at points evenly spread in the given order. All centres differ, even if there are fewer points.
    """
    heads, positions, dim = points.shape
    generator = torch.Generator(device="cpu").manual_seed(seed % 2**63)
    # On the CPU, so that every device gets the same numbers.
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
    """Trainable directions and constants of each head, for queries and for keys.

    A new map has random directions, the same for queries and keys, and zero constants: it must be trained.

    Args:
        head_dim, num_features, num_heads: as in all maps; every head has all the features.
        seed: seed of the random directions.
    """

    gaussian = False
    normalised = True

    def __init__(self, head_dim: int, num_features: int = 256, num_heads: int = 1, seed: int = 0) -> None:
        # The biases can represent a constant in all keys; subtracting each row's mean is not needed.
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
        """Start from centroids of the keys.

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
        """Start from the centroids of the given keys.

        Args:
            keys: [heads, positions, head_dim], multiplied by the root of the scaling; at most `MAX_KEYS` evenly
                spread positions are used.
        """
        stride = -(-keys.shape[1] // MAX_KEYS)
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
