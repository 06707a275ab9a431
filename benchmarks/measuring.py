"""What the benchmark scripts share: interleaved repetitions, medians, the machine, and the results.

Importing this module puts the checkout on `sys.path`, so the scripts measure its code and can run its examples.
"""

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
# After the scripts' own folder, whose conversion.py is not the folder of that name.
sys.path.insert(1, str(ROOT))

BASE_SIZES = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


def machine(*packages: str) -> dict[str, Any]:
    """Return the cores, processor, system, Python and the versions of the named packages."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def json_lines(path: Path) -> list[Any]:
    """Return the JSON values of a file's lines. Texts may hold line separators other than the line feed."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def interleave(contenders: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """Run all contenders in turn, `repetitions` times, so a slow minute of the machine affects all of them alike.

    A contender returns its measurement, in seconds for example.
    """
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, contender in contenders.items():
            measured[name].append(contender())
    return measured


def summary(values: list[float], digits: int = 4) -> dict[str, Any]:
    """Return the median and all repetitions."""
    return {"median": round(statistics.median(values), digits), "all": [round(value, digits) for value in values]}


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and its standard error, each rounded to four digits; a single value has no error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return round(statistics.mean(values), 4), None if error is None else round(error, 4)


def read_result(name: str) -> dict[str, Any]:
    """Return the content of benchmarks/results/<name>.json, or nothing if there is no such file."""
    path = RESULTS / f"{name}.json"
    result: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return result


def write_result(name: str, result: Mapping[str, Any]) -> Path:
    """Write benchmarks/results/<name>.json and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
