"""Reading JSON lines whose texts hold line separators other than the line feed."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_other_line_separators_stay_in_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    sys.modules.pop("measuring", None)
    from measuring import json_lines  # type: ignore[import-not-found]

    rows = [{"text": f"a{separator}b"} for separator in "\u2028\u2029\x85\x0b\x0c\x1c"]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    assert json_lines(path) == rows


@pytest.mark.parametrize("folder", ["kexue_hf", "benchmarks", "examples", "conversion", ".ci"])
def test_nothing_splits_json_lines_at_other_separators(folder: str) -> None:
    """`str.splitlines` also splits at characters that JSON strings may hold."""
    for path in (ROOT / folder).rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            assert not re.search(r"json\.loads\(line\).*splitlines\(", line), f"{path}: {line}"
