"""Run 100,000 short lines through `kexue-hf score` and `embed`: speed, memory and growth of the output.

    python benchmarks/many_lines.py --lines 100000

The model is the packaged tiny WoBERT; the lines are shortened titles of its samples. Memory is the resident set of the
process, read twice a second. The growing output is the temporary file beside OUTPUT. Writes
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
    """Yield the first eight characters of the samples' titles, in a cycle, each followed by a number."""
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
        raise SystemExit(f"kexue-hf {command} failed with exit code {process.returncode}")
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
