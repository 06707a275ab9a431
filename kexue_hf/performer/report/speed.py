"""Time one layer's softmax attention (PyTorch's scaled dot product) and linear attention, by length, on this machine.

Only the attention itself is timed, from queries, keys and values to outputs: the rest of a layer costs the same, so
the length from which linear attention is faster holds for the whole layer.
"""

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kexue_hf.errors import InputError

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
# Each contender runs at least _MIN_RUNS times and _SECONDS in all, so that the median ignores a slow moment.
_MIN_RUNS, _SECONDS = 3, 0.3
_MAX_RUNS = 15
# Longest expected seconds of a run. Softmax takes four times as long for twice the length; longer runs are skipped.
_PATIENCE = 30.0


@dataclasses.dataclass(frozen=True)
class SpeedAtLength:
    """Median seconds for one text of `length` tokens; None if it would take too long or too much memory."""

    length: int
    softmax: float | None
    linear: float | None

    @property
    def ratio(self) -> float | None:
        """Speed of linear attention relative to softmax."""
        return None if self.softmax is None or self.linear is None else self.softmax / self.linear


@dataclasses.dataclass(frozen=True)
class AttentionSpeed:
    """Measured times.

    Attributes:
        shape: batch, heads and head_dim.
        crossover: number of tokens from which on linear attention is faster, interpolated between the measured
            lengths; the smallest length if it is always faster; None if it never is.
    """

    device: str
    threads: int
    dtype: str
    shape: tuple[int, int, int]
    lengths: list[SpeedAtLength]
    crossover: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def attention_speed(
    feature_map: Any,
    heads: int,
    lengths: Sequence[int] = LENGTHS,
    *,
    causal: bool = False,
    device: Any = "cpu",
    dtype: Any = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> AttentionSpeed:
    """Time both kinds of attention on random queries, keys and values of one text.

    Args:
        feature_map: map of the linear attention.
        lengths: numbers of tokens.
        dtype: of queries, keys and values; None for float32.
        progress: wraps the lengths, to show a progress bar.

    Raises:
        InputError: there is no length, or one is below 1.
    """
    import torch

    if not lengths or min(lengths) < 1:
        raise InputError(f"lengths must be numbers of tokens of at least 1, got {list(lengths)}")
    dtype = torch.float32 if dtype is None else dtype
    device = torch.device(device)
    found: list[SpeedAtLength] = []
    for length in progress(sorted(set(lengths))):
        last = found[-1] if found else None
        found.append(_at_length(feature_map, heads, length, last, causal, device, dtype))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return AttentionSpeed(
        name, torch.get_num_threads(), str(dtype).removeprefix("torch."), (1, heads, feature_map.head_dim), found,
        crossover_of(found),
    )  # fmt: skip


def _at_length(
    feature_map: Any, heads: int, length: int, last: SpeedAtLength | None, causal: bool, device: Any, dtype: Any
) -> SpeedAtLength:
    import torch

    from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention

    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(1, heads, length, feature_map.head_dim, generator=generator) for _ in range(3)]
    query, key, value = (state.to(device, dtype) for state in states)

    def softmax() -> None:
        torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal)

    def linear() -> None:
        linear_attention(query, key, value, feature_map, causal=causal)

    contenders = {"softmax": softmax, "linear": linear}
    if last is not None:
        growth = length / last.length
        expected = {"softmax": last.softmax, "linear": last.linear}
        powers = {"softmax": 2, "linear": 1}
        for name, seconds in expected.items():
            if seconds is None or seconds * growth ** powers[name] > _PATIENCE:
                contenders.pop(name)
    with torch.no_grad():
        medians = _medians(contenders, device)
    return SpeedAtLength(length, medians.get("softmax"), medians.get("linear"))


def _medians(contenders: dict[str, Callable[[], None]], device: Any) -> dict[str, float]:
    """Return median seconds, from alternating runs: a slow moment of the machine affects both. Skip failed contenders.

    A contender fails if it runs out of memory.
    """
    import torch

    def once(run: Callable[[], None]) -> float | None:
        begun = time.perf_counter()
        try:
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        except RuntimeError as error:
            if "memory" in str(error).lower():
                return None
            raise
        return time.perf_counter() - begun

    # The first run includes one-time setup. If it is long, the setup is negligible and the run counts.
    first = {name: once(run) for name, run in contenders.items()}
    seconds = {name: [took] if took > 1.0 else [] for name, took in first.items() if took is not None}
    unfinished = list(seconds)
    while unfinished:
        for name in unfinished:
            took = once(contenders[name])
            if took is not None:
                seconds[name].append(took)
            else:
                # Memory that was available before may now be in use elsewhere.
                del seconds[name]
        unfinished = [
            name
            for name in seconds
            if len(seconds[name]) < _MIN_RUNS or (sum(seconds[name]) < _SECONDS and len(seconds[name]) < _MAX_RUNS)
        ]
    return {name: statistics.median(values) for name, values in seconds.items()}


def crossover_of(found: Sequence[SpeedAtLength]) -> float | None:
    """Return where the ratio of the times last rises above 1, interpolated linearly between logarithms."""
    known = [(place.length, place.ratio) for place in found if place.ratio is not None]
    if not known or known[-1][1] < 1:
        return None
    for (shorter, below), (longer, above) in reversed(list(itertools.pairwise(known))):
        if below < 1 <= above:
            share = -math.log(below) / (math.log(above) - math.log(below))
            return float(math.exp(math.log(shorter) + share * (math.log(longer) - math.log(shorter))))
    return float(known[0][0])


__all__ = ["LENGTHS", "AttentionSpeed", "SpeedAtLength", "attention_speed", "crossover_of"]
