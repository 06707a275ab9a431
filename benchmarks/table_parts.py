"""What the tables of results are made with: reading a result, and Markdown."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def result(name: str) -> dict[str, Any]:
    """The content of benchmarks/results/<name>.json."""
    content: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))
    return content


class Unmeasured(Exception):
    """A result, or the part of it that a table shows, is not there; `script` measures it."""

    def __init__(self, script: str) -> None:
        self.script = script


def measured(name: str, *parts: str) -> dict[str, Any]:
    """As `result`, or within it result[part][part]...; `Unmeasured` where there is no such file or part."""
    if not (ROOT / "benchmarks" / "results" / f"{name}.json").exists():
        raise Unmeasured(f"benchmarks/{name}.py")
    content = result(name)
    for part in parts:
        if part not in content:
            raise Unmeasured(f"benchmarks/{name}.py")
        content = content[part]
    return content


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))
