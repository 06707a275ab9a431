"""Linear attention against softmax: time by length, memory, a whole encoder, and the length where it gets faster.

    pip install --target PEER --no-deps performer-pytorch==1.1.4 einops axial-positional-embedding local-attention \\
        hyper-connections
    python benchmarks/performer.py --peer PEER     # writes the JSON and docs/performer_speed.svg in ten minutes
    python benchmarks/performer.py --quick         # tries short texts and writes nothing
    python benchmarks/performer.py --draw          # draws the existing result again

One text, 12 heads of 64 dimensions, at most 256 features, float32, normal entries. The contenders take turns in each
repetition:

* SDPA: torch's scaled_dot_product_attention, which is softmax.
* performer-pytorch 1.1.4 (MIT): FastAttention with 256 features; its CPU path if causal. --peer names the folder that
  has it; without it the result says that it is absent.
* ours: `linear_attention` with the default map, "low_order", and with "favor+".

Each contender runs in a separate process, so it does not reuse memory that another has allocated. Times are wall times
after an untimed call of the same contender, so the machine must be quiet. Forward passes run without gradients;
backward passes include the gradients of queries, keys and values. Combinations that take minutes or gigabytes are left
out and listed under "not run".

Extra memory is the peak resident size during the call minus the size before it, in a separate process, after a warm-up
on 256 positions. It includes the output and, for backward passes, the three gradients.

The encoder is BERT of base size (12 layers, 768): transformers' BertModel with SDPA against our PerformerBertModel
with the same weights and linear attention in all layers; one text, forward pass.

Crossovers are the lengths where the medians of SDPA and ours are equal, interpolated between measured lengths.
"""

import argparse
import gc
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from drawing import picture_of
from measuring import ROOT, interleave, machine, read_result, summary, write_result

HEADS, DIM, FEATURES = 12, 64, 256
SDPA, PEER = "SDPA", "performer-pytorch"
MAPS = {"ours, low_order": "low_order", "ours, favor+": "favor+"}
CONTENDERS = (SDPA, PEER, *MAPS)
FORWARD, BOTH = "forward", "forward and backward"
CAUSAL_FORWARD, CAUSAL_BOTH = "causal forward", "causal forward and backward"
MEASURES = (FORWARD, BOTH, CAUSAL_FORWARD, CAUSAL_BOTH)
# Length -> repetitions
REPETITIONS = {
    FORWARD: {256: 41, 512: 31, 1024: 21, 2048: 15, 4096: 9, 8192: 5, 16384: 3},
    BOTH: {256: 21, 512: 15, 1024: 11, 2048: 9, 4096: 5, 8192: 3, 16384: 2},
    CAUSAL_FORWARD: {256: 21, 512: 21, 1024: 11, 2048: 7, 4096: 5, 8192: 3, 16384: 3},
    CAUSAL_BOTH: {256: 9, 512: 7, 1024: 5, 2048: 5, 4096: 3, 8192: 2},
}
QUICK = {measure: {256: 3, 512: 3, 1024: 3} for measure in REPETITIONS}
# Where performer-pytorch takes minutes or gigabytes.
PEER_UP_TO = {CAUSAL_FORWARD: 4096, CAUSAL_BOTH: 512}
MEMORY_AT, WARM_UP = 4096, 256
ENCODER = {256: 7, 512: 7, 1024: 5, 2048: 5, 4096: 3}
# Goals: at least this many times the speed of SDPA or performer-pytorch; at most this share of the latter's memory.
WANTED = (
    (FORWARD, 1024, SDPA, 1.3),
    (FORWARD, 4096, SDPA, 5.0),
    (FORWARD, 4096, PEER, 2.5),
    (BOTH, 2048, SDPA, 3.0),
    (BOTH, 4096, SDPA, 6.5),
    (CAUSAL_FORWARD, 4096, SDPA, 1.7),
    (CAUSAL_FORWARD, 4096, PEER, 15.0),
)
WANTED_MEMORY = 0.35
WANTED_ENCODER = {2048: 1.2, 4096: 1.5}


def is_causal(measure: str) -> bool:
    return measure.startswith("causal")


def has_backward(measure: str) -> bool:
    return measure.endswith("backward")


def attention(name: str, causal: bool) -> Callable[..., Any]:
    """Return a contender: a function from queries, keys and values [1, heads, length, dim] to outputs."""
    import torch

    if name == SDPA:
        return partial(torch.nn.functional.scaled_dot_product_attention, is_causal=causal)
    if name == PEER:
        from performer_pytorch import FastAttention

        return FastAttention(DIM, FEATURES, causal=causal)
    from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention
    from kexue_hf.models.performer_bert.feature_maps_performer_bert import create_feature_map

    return partial(linear_attention, feature_map=create_feature_map(MAPS[name], DIM, FEATURES), causal=causal)


def states(length: int) -> list[Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, HEADS, length, DIM, generator=generator) for _ in range(4)]


def call(attend: Callable[..., Any], inputs: list[Any], backward: bool) -> float:
    """Return the seconds of a call; the last of `inputs` is the gradient of the output."""
    import torch

    *leaves, gradient = inputs
    if backward:
        leaves = [tensor.clone().requires_grad_() for tensor in leaves]
    gc.collect()
    with torch.set_grad_enabled(backward):
        start = time.perf_counter()
        output = attend(*leaves)
        if backward:
            output.backward(gradient)
        return time.perf_counter() - start


def warmed(timed: Callable[[], float]) -> Callable[[], float]:
    """Time each call after an untimed one, which replaces what the previous contender left in the caches.

    Calls of more than a second do not need it.
    """
    last = [0.0]

    def run() -> float:
        if last[0] < 1.0:
            timed()
        last[0] = timed()
        return last[0]

    return run


class Contender:
    """A contender in a separate process, which waits for requests."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        options = [f"--serve={name}", f"--threads={arguments.threads}"]
        options += [f"--peer={arguments.peer}"] if arguments.peer else []
        self.process = subprocess.Popen(
            [sys.executable, __file__, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, measure: str, length: int) -> float:
        print(json.dumps([measure, length]), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(name: str) -> None:
    """Answer each measure and length read from stdin with the seconds of a call."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print to stdout, which carries the answers
    asked, run = None, None
    for line in sys.stdin:
        question = json.loads(line)
        if question != asked:
            measure, length = asked = question
            run = warmed(partial(call, attention(name, is_causal(measure)), states(length), has_backward(measure)))
        print(run(), file=answers, flush=True)


def compare(
    measure: str, repetitions: dict[int, int], present: list[str], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return milliseconds by length and contender, how many times faster ours are, and what was left out."""
    lengths: dict[str, Any] = {}
    contenders = {name: Contender(name, arguments) for name in present}
    for length, times in repetitions.items():
        chosen = [name for name in present if name != PEER or length <= PEER_UP_TO.get(measure, length)]
        seconds = interleave({name: partial(contenders[name].seconds, measure, length) for name in chosen}, times)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        lengths[str(length)] = {
            "ms": {name: summary([1000 * value for value in values], 3) for name, values in seconds.items()},
            "times faster than": {
                name: {other: round(medians[other] / medians[name], 2) for other in (SDPA, PEER) if other in medians}
                for name in MAPS
            },
            "not run": [name for name in present if name not in chosen],
        }
        print(
            f"{measure}, {length}: { ({name: round(1000 * value, 1) for name, value in medians.items()}) } ms",
            flush=True,
        )
    for contender in contenders.values():
        contender.close()
    return lengths


def crossing(lengths: dict[str, Any], name: str, medians: str = "ms", base: str = SDPA) -> dict[str, Any]:
    """Return the length from which `name` is faster than `base`, or its bound by the measured lengths."""
    points = [
        (int(length), math.log(cell[medians][base]["median"] / cell[medians][name]["median"]))
        for length, cell in lengths.items()
    ]
    slower = [number for number, (_, gain) in enumerate(points) if gain < 0]
    if not slower:
        return {"below": points[0][0]}
    if slower[-1] == len(points) - 1:
        return {"above": points[-1][0]}
    (low, loss), (high, gain) = points[slower[-1] : slower[-1] + 2]
    return {"at": round(low * (high / low) ** (loss / (loss - gain)))}


def resident(field: str) -> float:
    """Return a figure of this process in MB: VmRSS is its resident size, VmHWM the peak of it."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def own_memory(name: str, measure: str, length: int) -> float:
    """Return the peak MB of a call beyond the memory used before it; run it in a separate process."""
    attend = attention(name, is_causal(measure))
    call(attend, states(WARM_UP), has_backward(measure))
    inputs = states(length)
    if has_backward(measure):
        # Leaves from the start, so that their copies are not part of the call.
        inputs = [*(tensor.requires_grad_() for tensor in inputs[:3]), inputs[3]]
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # reset the peak
    import torch

    with torch.set_grad_enabled(has_backward(measure)):
        output = attend(*inputs[:3])
        if has_backward(measure):
            output.backward(inputs[3])
    return resident("VmHWM") - before


def memory(arguments: argparse.Namespace, present: list[str], times: int) -> dict[str, Any]:
    def measured(name: str, measure: str) -> float:
        options = [f"--own-memory={name}", f"--measure={measure}", f"--threads={arguments.threads}"]
        options += [f"--peer={arguments.peer}"] if arguments.peer else []
        process = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
        return float(process.stdout.split()[-1])

    result: dict[str, Any] = {"positions": MEMORY_AT, "how": "peak resident size of a fresh process minus that before"}
    for measure in (FORWARD, BOTH):
        found = interleave({name: partial(measured, name, measure) for name in present}, times)
        result[measure] = {"MB": {name: summary(values, 1) for name, values in found.items()}}
        if PEER in found:
            base = statistics.median(found[PEER])
            result[measure]["of performer-pytorch's"] = {
                name: round(statistics.median(found[name]) / base, 3) for name in MAPS
            }
        print(
            f"memory, {measure}: { ({name: round(statistics.median(v)) for name, v in found.items()}) } MB", flush=True
        )
    return result


def encoders(repetitions: dict[int, int], compiled: bool) -> dict[str, Any]:
    import torch
    from transformers import BertConfig, BertModel, logging

    from kexue_hf import PerformerBertConfig, PerformerBertModel

    logging.set_verbosity_error()
    torch.manual_seed(0)
    sizes = {"vocab_size": 21128, "max_position_embeddings": max(repetitions)}
    bert = BertModel(BertConfig(**sizes), add_pooling_layer=False).eval()
    contenders: dict[str, Any] = {"BertModel, SDPA": bert}
    for name, feature_map in MAPS.items():
        config = PerformerBertConfig(**sizes, feature_map=feature_map, attention_switch_length=None)
        model = PerformerBertModel(config, add_pooling_layer=False).eval()
        model.load_state_dict(bert.state_dict(), strict=False)
        contenders[name] = model
    if compiled:
        contenders["ours, low_order, compiled"] = torch.compile(contenders["ours, low_order"], dynamic=True)

    def seconds(model: Any, ids: torch.Tensor) -> float:
        with torch.inference_mode():
            start = time.perf_counter()
            model(input_ids=ids)
            return time.perf_counter() - start

    lengths: dict[str, Any] = {}
    for length, times in repetitions.items():
        ids = torch.randint(1000, 21128, (1, length))
        calls = {name: partial(seconds, model, ids) for name, model in contenders.items()}
        if compiled and not lengths:
            with torch.inference_mode():
                expected, found = (
                    contenders[name](input_ids=ids).last_hidden_state for name in list(contenders)[1::2]
                )
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        if length <= 1024:
            interleave(calls, 1)
        measured = interleave(calls, times)
        base = statistics.median(measured["BertModel, SDPA"])
        lengths[str(length)] = {
            "seconds": {name: summary(values) for name, values in measured.items()},
            "times faster": {
                name: round(base / statistics.median(values), 2)
                for name, values in measured.items()
                if not name.startswith("BertModel")
            },
        }
        print(f"encoder, {length}: {lengths[str(length)]['times faster']} times faster", flush=True)
    return lengths


def against_wanted(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the goals with the measured figures, for each of our maps."""
    rows = []
    for measure, length, base, least in WANTED:
        cell = result["attention"].get(measure, {}).get(str(length), {"times faster than": {}})
        found = {name: ratios[base] for name, ratios in cell["times faster than"].items() if base in ratios}
        met = {name: ratio >= least for name, ratio in found.items()}
        rows.append({"what": measure, "at": length, "against": base, "at least": least, "found": found, "met": met})
    shares = (result["memory"] or {}).get(BOTH, {}).get("of performer-pytorch's", {})
    met = {name: share <= WANTED_MEMORY for name, share in shares.items()}
    row = {"what": f"memory, {BOTH}", "at": MEMORY_AT, "against": PEER, "at most": WANTED_MEMORY}
    rows.append({**row, "found": shares, "met": met})
    for length, least in WANTED_ENCODER.items():
        cell = (result["encoder"] or {}).get(str(length), {"times faster": {}})
        found = {name: ratio for name, ratio in cell["times faster"].items() if name in MAPS}
        met = {name: ratio >= least for name, ratio in found.items()}
        row = {"what": "encoder, forward", "at": length, "against": "BertModel, SDPA", "at least": least}
        rows.append({**row, "found": found, "met": met})
    return rows


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(arguments.threads)
    present = [name for name in CONTENDERS if name != PEER or importlib.util.find_spec("performer_pytorch")]
    started = time.perf_counter()
    if arguments.again:
        result = read_result("performer")
        for measure in arguments.again:
            result["attention"][measure] = compare(measure, REPETITIONS[measure], present, arguments)
        result["measured again"] = sorted({*result.get("measured again", []), *arguments.again})
        return concluded(result)
    result: dict[str, Any] = {
        "machine": {**machine("torch", "transformers"), "threads": arguments.threads},
        "setting": {"batch": 1, "heads": HEADS, "head_dim": DIM, "features": FEATURES, "type": "float32"},
        PEER: _version_of_peer() if PEER in present else "absent: name its folder with --peer",
        "attention": {
            measure: compare(measure, lengths, present, arguments)
            for measure, lengths in (QUICK if arguments.quick else REPETITIONS).items()
        },
    }
    result["memory"] = memory(arguments, present, 1 if arguments.quick else 3)
    encoder = {256: 1, 512: 1} if arguments.quick else ENCODER
    result["encoder"] = encoders(encoder, arguments.compiled)
    result["minutes in all"] = round((time.perf_counter() - started) / 60, 1)
    return concluded(result)


def concluded(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result with the figures that follow from the measurements."""
    result["crossovers"] = {
        name: {
            **{measure: crossing(lengths, name) for measure, lengths in result["attention"].items()},
            "encoder, forward": crossing(result["encoder"], name, "seconds", "BertModel, SDPA"),
        }
        for name in MAPS
    }
    result["wanted"] = against_wanted(result)
    return result


def _version_of_peer() -> str:
    from importlib.metadata import version

    return version("performer-pytorch")


def picture(result: dict[str, Any], path: Path) -> None:
    with picture_of(path, (12, 3.4), len(MEASURES), tight=False, sharey=True) as axes:
        colours = dict(zip(CONTENDERS, ("0.45", "tab:orange", "tab:blue", "tab:green"), strict=True))
        for axis, measure in zip(axes, MEASURES, strict=True):
            cells = result["attention"][measure]
            for name, colour in colours.items():
                points = {
                    int(length): cell["ms"][name]["median"] for length, cell in cells.items() if name in cell["ms"]
                }
                axis.plot(list(points), list(points.values()), marker="o", markersize=3, color=colour, label=name)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            ticks = [int(length) for length in result["attention"][FORWARD]]
            axis.set_xticks(ticks, [str(tick) if tick < 1024 else f"{tick // 1024}k" for tick in ticks], fontsize=8)
            axis.set_xlabel("positions")
            axis.set_title(measure, fontsize=10)
            axis.grid(alpha=0.3)
        axes[0].set_ylabel("ms")
        axes[0].legend(fontsize=8, frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="folder where pip installed performer-pytorch with --target")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compiled", action="store_true", help="also measure the encoder with torch.compile")
    parser.add_argument("--quick", action="store_true", help="short texts and few repetitions; write nothing")
    parser.add_argument(
        "--again",
        nargs="+",
        choices=list(REPETITIONS),
        help="repeat these measures and keep the rest of the existing result",
    )
    parser.add_argument("--draw", action="store_true", help="only draw the existing result")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--own-memory", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        sys.path.append(str(arguments.peer.resolve()))
    if arguments.serve or arguments.own_memory:
        import torch

        torch.set_num_threads(arguments.threads)
    if arguments.serve:
        serve(arguments.serve)
        return
    if arguments.own_memory:
        print(own_memory(arguments.own_memory, arguments.measure, MEMORY_AT))
        return
    drawing = ROOT / "docs" / "performer_speed.svg"
    if arguments.draw:
        picture(read_result("performer"), drawing)
        return
    result = measure(arguments)
    print(json.dumps({name: result[name] for name in ("crossovers", "wanted", "minutes in all")}, indent=1))
    if not arguments.quick:
        picture(result, drawing)
        print(f"written to {write_result('performer', result)}")


if __name__ == "__main__":
    main()
