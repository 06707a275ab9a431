"""Gradients from function values alone: two-point estimates along random directions, in place.

A direction u has a standard normal number for each weight. (f(x + eps u) - f(x - eps u)) / (2 eps) estimates the slope
of f along u; the mean of slope times u over several directions estimates the gradient of f, smoothed by noise of size
eps (kexue.fm/archives/7737). The error of the mean falls as directions^-1/2, and grows as the square root of the
number of weights.

No direction is stored (MeZO, arXiv 2305.17333): a seed names it, and its numbers are drawn again whenever they are
needed, a block at a time.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

# Numbers drawn at a time: 1 MB in float32. Another size would draw other numbers.
BLOCK = 2**18
# Rounding of sums in float64: a smaller relative difference counts as zero.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Slope:
    """The slope of a function along one direction.

    Args:
        seed: names the direction.
        value: the slope; NaN if the function was not finite at one of the points.
        plus, minus: the function's values at the two points.
    """

    seed: int
    value: float
    plus: float
    minus: float


def direction_seed(seed: int, step: int, direction: int) -> int:
    """Return the seed of a direction, which depends on nothing but these three numbers."""
    return _hashed(seed, step, direction)


def pieces(tensor: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return views of a tensor that together are the tensor, each of at most `BLOCK` numbers.

    A tensor that is not contiguous is one piece.
    """
    tensor = tensor.detach()
    return tensor.view(-1).split(BLOCK) if tensor.is_contiguous() else (tensor,)


def direction_blocks(tensor: torch.Tensor, seed: int, index: int) -> Iterator[torch.Tensor]:
    """Yield the direction's numbers for each of `pieces(tensor)`, at least in float32.

    Args:
        seed: seed of the direction.
        index: place of the tensor among the parameters.
    """
    generator = torch.Generator(tensor.device).manual_seed(_hashed(seed, index, 0))
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    for piece in pieces(tensor):
        yield torch.randn(piece.shape, generator=generator, device=tensor.device, dtype=dtype)


@torch.no_grad()
def perturb(parameters: Sequence[torch.Tensor], seed: int, scale: float) -> None:
    """Add `scale` times a direction to the parameters, in place."""
    for index, parameter in enumerate(parameters):
        for piece, numbers in zip(pieces(parameter), direction_blocks(parameter, seed, index), strict=True):
            piece.add_(numbers.mul_(scale))


def combined_blocks(
    tensor: torch.Tensor, index: int, directions: Sequence[tuple[int, float]]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield each of `pieces(tensor)` with the sum of coefficient times direction.

    Args:
        index: place of the tensor among the parameters.
        directions: (seed, coefficient), one or more.
    """
    streams = [direction_blocks(tensor, seed, index) for seed, _ in directions]
    for piece in pieces(tensor):
        total = next(streams[0]).mul_(directions[0][1])
        for stream, (_, coefficient) in zip(streams[1:], directions[1:], strict=True):
            total.add_(next(stream), alpha=coefficient)
        yield piece, total


@contextmanager
def exact_weights(parameters: Sequence[torch.Tensor], copies: bool) -> Iterator[Callable[[int, float], None]]:
    """Yield a function `move(seed, scale)` that puts the parameters at `scale` times a direction from their values.

    Afterwards, even after an error, the parameters have their values again.

    Args:
        copies: keep copies of the values, so that they return to the last bit. Otherwise the move is undone by a
            subtraction. Each of these rounds, so after one move to each side a weight w is off by at most 1.5 units
            in the last place of |w| + scale |u|.
    """
    kept = [parameter.detach().clone() for parameter in parameters] if copies else None
    at: tuple[int, float] | None = None

    @torch.no_grad()
    def back() -> None:
        nonlocal at
        if kept is not None:
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
        elif at is not None:
            perturb(parameters, at[0], -at[1])
        at = None

    def move(seed: int, scale: float) -> None:
        nonlocal at
        if kept is None and at is not None and at[0] == seed:
            perturb(parameters, seed, scale - at[1])
        else:
            back()
            perturb(parameters, seed, scale)
        at = (seed, scale)

    try:
        yield move
    finally:
        back()


def slopes(
    function: Callable[[], float],
    parameters: Sequence[torch.Tensor],
    seeds: Sequence[int],
    epsilon: float,
    copies: bool = False,
) -> list[Slope]:
    """Return the slope of a function along each direction.

    Args:
        function: reads the parameters, which change in place while it runs.
        seeds: of the directions.
        epsilon: distance of the two points from the parameters, in units of a direction.
        copies: see `exact_weights`.
    """
    found = []
    for seed in seeds:
        with exact_weights(parameters, copies) as move:
            move(seed, epsilon)
            plus = float(function())
            move(seed, -epsilon)
            minus = float(function())
        difference = plus - minus
        if abs(difference) <= _ROUNDING * max(abs(plus), abs(minus)):
            difference = 0.0
        value = difference / (2 * epsilon)
        found.append(Slope(seed, value if math.isfinite(value) else math.nan, plus, minus))
    return found


def zeroth_order_gradient(parameters: Sequence[torch.Tensor], found: Sequence[Slope]) -> list[torch.Tensor]:
    """Return the gradient estimated from slopes: the mean of slope times direction, without those that are NaN.

    It holds a tensor for each parameter; a training step does not need it.

    Raises:
        ValueError: no slope is a number.
    """
    finite = [slope for slope in found if math.isfinite(slope.value)]
    if not finite:
        raise ValueError(f"expected a finite slope, got {len(found)} that are not: check the function")
    directions = [(slope.seed, slope.value / len(finite)) for slope in finite]
    gradient = []
    for index, parameter in enumerate(parameters):
        blocks = [total for _, total in combined_blocks(parameter, index, directions)]
        gradient.append(torch.cat([block.reshape(-1) for block in blocks]).view(parameter.shape))
    return gradient


def _hashed(*numbers: int) -> int:
    """Return a number of 63 bits from three of 64; those of neighbours have nothing in common."""
    packed = struct.pack("<3Q", *(number % 2**64 for number in numbers))
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1


__all__ = [
    "Slope",
    "combined_blocks",
    "direction_blocks",
    "direction_seed",
    "exact_weights",
    "perturb",
    "pieces",
    "slopes",
    "zeroth_order_gradient",
]
