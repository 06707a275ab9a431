"""100,000 short lines through `kexue-hf score` and `embed`: rows a second, memory on the way, output as it grows.

    python benchmarks/many_lines.py --lines 100000

The packaged tiny WoBERT and titles of its samples, cut into short lines. Memory is the process' resident set, read
twenty times on the way; the output is the stage beside OUTPUT, which grows as texts are done. Results:
benchmarks/results/many_lines.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
from measuring import ROOT, machine, write_result

from kexue_hf import convert


def short_lines() -> Iterator[str]:
    """Pieces of the samples' titles of at most eight characters, again and again, each with a number."""
    rows = (ROOT / "kexue_hf" / "assets" / "samples" / "train.jsonl").read_text("utf-8").splitlines()
    titles = [json.loads(row)["text"].partition("。")[0][:8] for row in rows]
    for number, title in enumerate(cycle(titles)):
        yield f"{title}{number % 100}"


def measure(command: str, model: Path, lines: Path, count: int, folder: Path) -> dict[str, Any]:
    output = folder / f"{command}.{'npy' if command == 'embed' else 'jsonl'}"
    given = [sys.executable, "-m", "kexue_hf.cli.main", command, model, "--file", lines, "--output", output, "--quiet"]
    before = sum(path.stat().st_size for path in folder.glob("*.*") if path != lines)
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, given)), cwd=ROOT)
    watched, memory, sizes = psutil.Process(process.pid), [], []
    while process.poll() is None:
        try:
            memory.append(watched.memory_info().rss)
        except psutil.Error:
            break
        made = (path for path in folder.rglob("*") if path != lines and model not in path.parents)
        sizes.append(sum(path.stat().st_size for path in made if path.is_file()) - before)
        time.sleep(0.5)
    seconds = time.perf_counter() - start
    if process.wait() != 0:
        raise SystemExit(f"{command} ended with {process.returncode}")
    half = len(memory) // 2
    return {
        "seconds": round(seconds, 1),
        "rows a second": round(count / seconds),
        "MB half-way": round(max(memory[half - 2 : half + 2]) / 1e6),
        "MB at most in the second half": round(max(memory[half:]) / 1e6),
        "MB at most": round(max(memory) / 1e6),
        "bytes written half-way": sizes[half],
        "bytes written": output.stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000)
    count = parser.parse_args().lines
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", folder / "model", dtype="float32")
        lines = folder / "lines.txt"
        lines.write_text("".join(f"{line}\n" for line in islice(short_lines(), count)), encoding="utf-8")
        found = {name: measure(name, folder / "model", lines, count, folder) for name in ("embed", "score")}
        for name, row in found.items():
            print(name, row)
    result = {"lines": count, **found, "machine": machine("torch", "transformers")}
    print(write_result("many_lines", result))


if __name__ == "__main__":
    main()
