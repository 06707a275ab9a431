"""The random directions of FAVOR+: orthogonal in blocks, with the norms that one asks for.

Drawn on the CPU in float64 and cast afterwards: a seed gives the same numbers on every device and in every process.
"""

import math

import torch

NORMS = ("chi", "sqrt_d", "stratified")


def stratified_radii(count: int, dim: int) -> torch.Tensor:
    """The radii R_i [count], ascending, float64, with P(|w| <= R_i) = i / (count + 1) for a standard normal w of
    `dim` entries: norms that lie as evenly as they can (https://kexue.fm/archives/7921)."""
    wanted = torch.arange(1, count + 1, dtype=torch.float64, device="cpu") / (count + 1)
    half = torch.full((count,), dim / 2, dtype=torch.float64, device="cpu")
    low = torch.zeros(count, dtype=torch.float64, device="cpu")
    # P(|w| > sqrt(d) + t) <= exp(-t^2 / 2): no quantile that is asked for lies beyond.
    high = torch.full_like(low, math.sqrt(dim) + math.sqrt(2 * math.log(count + 1)) + 1.0)
    for _ in range(64):
        middle = (low + high) / 2
        below = torch.special.gammainc(half, middle * middle / 2) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def draw_projection(count: int, dim: int, norm: str = "chi", seed: int = 0, index: int = 0) -> torch.Tensor:
    """Directions w [count, dim] of float64, orthogonal in blocks of `dim`.

    Args:
        norm: "chi", as of independent normal vectors, with which the kernel's estimate has no bias (arXiv 2009.14794);
            "sqrt_d", all the same; "stratified", see `stratified_radii`, in random order.
        seed, index: which draw, both from 0 on; `index` counts the redraws of a seed. Torch's generator on the CPU
            knows 2^32 seeds: beyond, draws repeat.

    Raises:
        ValueError: a size below 1, a negative seed or index, or a norm that does not exist.
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
        # Without the signs the directions would depend on LAPACK's convention and would not be uniform.
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
