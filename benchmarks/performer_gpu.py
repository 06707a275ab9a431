"""Linear attention on a GPU, against flash SDPA and flash-linear-attention's kernels: 1k to 128k positions, bfloat16.

    python benchmarks/performer_gpu.py                                  # on a GPU; writes results/performer_gpu.json
    python benchmarks/performer_gpu.py --device cpu --lengths 256       # tries the script and writes nothing

One text, 12 heads of 64 dimensions, at most 256 features. First, all contenders are compared with float64 on a short
text: SDPA with exact softmax, ours with the reference of their map. Then the script measures times by the device's
events, as medians of interleaved repetitions, and the peak memory of a call beyond its inputs. Contenders:

* SDPA: scaled_dot_product_attention, restricted to the flash kernel where there is one.
* ours: `linear_attention`, with "low_order" and "favor+", bidirectional and causal.
* plain, compiled: bidirectional favor+ without chunks, through torch.compile, which fuses elementwise operations. It
  keeps all features for the backward pass. (`linear_attention` itself is not compiled: its loops would be unrolled.)
* fla: the features of "favor+" in chunk_linear_attn of flash-linear-attention, causal, if the package `fla` is
  installed. torch computes the features with one maximum over all keys, which sees the future, so this contender only
  serves to compare speed.

We have no Triton kernel and no result here yet, because no GPU was available to measure them on.

The script stops after --minutes and lists what it has not measured.
"""

import argparse
import functools
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from measuring import machine, summary, write_result
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap, RandomFeatures, create_feature_map
from kexue_hf.performer.exact_attention import naive_attention

HEADS, DIM, FEATURES = 12, 64, 256
LENGTHS = [1 << power for power in range(10, 18)]
CHECKED = 320
# Largest relative L2 distance from float64 that bfloat16 inputs explain.
ALLOWED = 0.03
SDPA, PLAIN, FLA = "SDPA", "plain favor+, compiled", "fla, features of favor+"
OURS = {"ours, low_order": "low_order", "ours, favor+": "favor+"}
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool) -> torch.Tensor:
    backends = [SDPBackend.FLASH_ATTENTION] if query.is_cuda else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(backends):
        return scaled_dot_product_attention(query, key, value, is_causal=causal)


def exponents(
    query: torch.Tensor, key: torch.Tensor, feature_map: RandomFeatures
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logarithms of the features of favor+, for unshifted keys, in float32."""
    directions = feature_map.projection * query.shape[-1] ** -0.25
    query, key = query.float(), key.float()
    half = key.square().sum(-1, keepdim=True) * (key.shape[-1] ** -0.5 / 2)
    return query @ directions.mT, key @ directions.mT - half


def features(
    query: torch.Tensor, key: torch.Tensor, feature_map: RandomFeatures, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    asked, kept = exponents(query, key, feature_map)
    asked = (asked - asked.detach().amax(-1, keepdim=True)).exp() + epsilon
    return asked, (kept - kept.detach().amax((-1, -2), keepdim=True)).exp() + epsilon


def plain(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, feature_map: RandomFeatures) -> torch.Tensor:
    asked, kept = features(query, key, feature_map)
    output = asked @ (kept.mT @ value.float()) / (asked @ kept.sum(-2)[..., None])
    return output.to(query.dtype)


def fla(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, feature_map: RandomFeatures) -> torch.Tensor:
    from fla.ops.linear_attn import chunk_linear_attn

    asked, kept = (found.to(query.dtype).transpose(1, 2).contiguous() for found in features(query, key, feature_map))
    # It takes [batch, length, heads, dim] and normalises by itself.
    found = chunk_linear_attn(asked, kept, value.transpose(1, 2).contiguous(), scale=1.0, normalize=True)
    return (found[0] if isinstance(found, tuple) else found).transpose(1, 2)


@functools.lru_cache
def contenders(causal: bool, device: torch.device, compiled: bool) -> tuple[dict[str, Attention], dict[str, Any]]:
    """Return by name the attention and the float64 reference it must match (None: exact softmax)."""
    maps = {name: create_feature_map(kind, DIM, FEATURES).to(device) for name, kind in OURS.items()}
    uncentred = RandomFeatures(DIM, FEATURES, centred=False).to(device)
    attends: dict[str, Attention] = {SDPA: partial(sdpa, causal=causal)}
    truths: dict[str, FeatureMap | None] = {SDPA: None}
    for name, feature_map in maps.items():
        attends[name] = partial(linear_attention, feature_map=feature_map, causal=causal)
        truths[name] = feature_map
    if not causal and compiled:
        attends[PLAIN], truths[PLAIN] = torch.compile(partial(plain, feature_map=uncentred), dynamic=True), uncentred
    if causal and device.type == "cuda" and importlib.util.find_spec("fla"):
        attends[FLA], truths[FLA] = partial(fla, feature_map=uncentred), uncentred
    return attends, truths


def inputs(length: int, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(4, 1, HEADS, length, DIM, generator=generator)
    # Standard deviation 0.5: closer to the norms of a trained model's queries and keys.
    states[:2] *= 0.5
    return list(states.to(device, dtype))


def deviations(device: torch.device, dtype: torch.dtype, compiled: bool) -> dict[str, Any]:
    """Return the relative L2 distance of every contender from float64, on the same rounded inputs.

    Raises:
        SystemExit: a distance is larger than `ALLOWED`, so the times would mean nothing.
    """
    found: dict[str, Any] = {}
    for causal in (False, True):
        query, key, value, _ = inputs(CHECKED, device, dtype)
        attends, truths = contenders(causal, device, compiled)
        row = found["causal" if causal else "both ways"] = {}
        for name, attend in attends.items():
            truth, exact = truths[name], [states.double() for states in (query, key, value)]
            if truth is None:
                wanted = scaled_dot_product_attention(*exact, is_causal=causal)
            else:
                wanted = naive_attention(*exact, truth, causal=causal)
            distance = float((attend(query, key, value).double() - wanted).norm() / wanted.norm())
            row[name] = float(f"{distance:.2g}")
            if not distance <= ALLOWED:
                raise SystemExit(f"{name}, causal={causal}: {distance:.2g} from float64, expected at most {ALLOWED}")
    return found


class Clock:
    """Measures the milliseconds of a call: by events on a device, by processor time on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, work: Callable[[], Any]) -> float:
        if self.device.type != "cuda":
            start = time.process_time()
            work()
            return 1000 * (time.process_time() - start)
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize()
        return start.elapsed_time(stop)

    def peak(self, work: Callable[[], Any]) -> float | None:
        """Return the peak MB of the call beyond what was allocated before it; unknown on a CPU."""
        if self.device.type != "cuda":
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)


def run(attend: Attention, states: list[torch.Tensor], backward: bool) -> None:
    *leaves, gradient = states
    with torch.set_grad_enabled(backward):
        output = attend(*leaves)
        if backward:
            torch.autograd.grad(output, leaves, gradient)


def compare(
    length: int, causal: bool, backward: bool, device: torch.device, dtype: torch.dtype, options: argparse.Namespace
) -> dict[str, Any]:
    states = inputs(length, device, dtype)
    for tensor in states[:3]:
        tensor.requires_grad_(backward)
    attends, _ = contenders(causal, device, not options.eager)
    clock = Clock(device)
    works, failed, memory = {}, {}, {}
    for name, attend in attends.items():
        work = partial(run, attend, states, backward)
        try:
            work()  # compiles, and fills the kernels' caches
            memory[name] = clock.peak(work)
        except RuntimeError as error:  # includes out of memory
            failed[name] = str(error).splitlines()[0]
            continue
        works[name] = work
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.repetitions):
        for name, work in works.items():
            times[name].append(clock(work))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "ms": {name: summary(values) for name, values in times.items()},
        "MB": memory,
        "times SDPA's speed": {
            name: round(medians[SDPA] / value, 2) for name, value in medians.items() if SDPA in medians
        },
        "failed": failed,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(options.device)
    dtype = torch.bfloat16
    started = time.monotonic()
    result: dict[str, Any] = {
        "machine": machine("torch", "triton", "flash-linear-attention"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU: times mean nothing here",
        "setting": {"batch": 1, "heads": HEADS, "head_dim": DIM, "features": FEATURES, "type": str(dtype)},
        "fla": "present" if importlib.util.find_spec("fla") else "absent",
        "distance from float64": deviations(device, dtype, not options.eager),
        "lengths": {},
        "not got to": [],
    }
    print(json.dumps(result["distance from float64"]), flush=True)
    for length in options.lengths:
        cells = result["lengths"][str(length)] = {}
        for causal in (False, True):
            for backward in (False, True):
                name = f"{'causal' if causal else 'both ways'}, forward{' and backward' if backward else ''}"
                if time.monotonic() - started > 60 * options.minutes:
                    result["not got to"].append(f"{length}: {name}")
                    continue
                cells[name] = compare(length, causal, backward, device, dtype, options)
                print(length, name, cells[name]["times SDPA's speed"], cells[name]["failed"] or "", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu, to try the script")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=8.0, help="start no new measurement after this many")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    options = parser.parse_args()
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device found: use --device cpu --lengths 256 to try the script")
    result = measure(options)
    if torch.device(options.device).type == "cuda":
        print(f"written to {write_result('performer_gpu', result)}")


if __name__ == "__main__":
    main()
