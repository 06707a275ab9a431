"""Count legal move sequences of xiangqi from the start: kexue_hf.xiangqi against the prototype.

    python benchmarks/xiangqi_rules.py

perft counts all sequences of 3 and of 4 legal moves, the usual measure of a move generator. The contenders run in
turn, on one core; the figure is the CPU time of the process, and medians are reported. The same run checks the counts.
Without `prototypes/xiangqi_rules.py` in the folder `shared` beside the checkout, or in $KEXUE_SHARED, only ours is
measured. Writes results/xiangqi_rules.json.
"""

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import ROOT, interleave, machine, summary, write_result

from kexue_hf.xiangqi import Board

SHARED = Path(os.environ.get("KEXUE_SHARED", ROOT.parent / "shared"))
LEAVES = {3: 79_666, 4: 3_290_240}


def prototype() -> Callable[[int], int] | None:
    """Return perft from the start of the prototype, if it is there."""
    path = SHARED / "prototypes" / "xiangqi_rules.py"
    spec = importlib.util.spec_from_file_location("prototype", path) if path.exists() else None
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda depth: int(module.perft(module.Board(), depth))


def timed(perft: Callable[[int], int], depth: int) -> Callable[[], float]:
    """Return a contender that counts the sequences of a depth, checks the count and returns its CPU seconds."""

    def run() -> float:
        started = time.process_time()
        leaves = perft(depth)
        seconds = time.process_time() - started
        if leaves != LEAVES[depth]:
            raise SystemExit(f"depth {depth}: expected {LEAVES[depth]:,} sequences, counted {leaves:,}")
        return seconds

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9, help="of depth 3; depth 4 is run a third as often")
    options = parser.parse_args()
    contenders = {"ours": lambda depth: Board().perft(depth)}
    peer = prototype()
    if peer is not None:
        contenders["prototype"] = peer
    depths: dict[str, Any] = {}
    for depth, repetitions in ((3, options.repetitions), (4, max(1, options.repetitions // 3))):
        measured = interleave({name: timed(perft, depth) for name, perft in contenders.items()}, repetitions)
        seconds = {name: summary(values) for name, values in measured.items()}
        ours = seconds["ours"]["median"]
        depths[str(depth)] = {
            "sequences": LEAVES[depth],
            "CPU seconds": seconds,
            "million sequences a second": {
                name: round(LEAVES[depth] / values["median"] / 1e6, 3) for name, values in seconds.items()
            },
            "times faster than the prototype": round(seconds["prototype"]["median"] / ours, 2) if peer else None,
        }
    result = {
        "what": "CPU time of perft from the start position, one core",
        "machine": machine("kexue-hf"),
        "depths": depths,
    }
    write_result("xiangqi_rules", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
