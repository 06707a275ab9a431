"""What the matcher's benchmark of tasks promises about its baseline and its rows, without training anything."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kexue_hf.corpora.matching_rows import MatchingRow

ROOT = Path(__file__).parents[1]
NAMES = ["短短匹配A类", "短短匹配B类"]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    # The scripts put these there as well; what they put is gone after the test.
    monkeypatch.setattr(sys, "path", [*sys.path])


def row(first: str, second: str, label: int, task: str = NAMES[0]) -> MatchingRow:
    return MatchingRow(first, second, task, label)


def test_overlap_is_of_the_text_with_fewer_bigrams() -> None:
    import matcher_tasks as script

    # 今天 天气 against 今天 天下 下雨 雨了: one of two.
    assert script.overlap(row("今天气", "今天下雨了", 0)) == script.overlap(row("今天下雨了", "今天气", 0)) == 0.5
    assert script.overlap(row("今", "今天", 0)) == 0


def test_each_task_has_the_threshold_that_is_best_on_the_rows_it_is_chosen_on() -> None:
    import matcher_tasks as script

    rows = [row("", "", label, task) for task in NAMES for label in (1, 1, 0)]
    scores = [0.9, 0.3, 0.1, 0.9, 0.8, 0.7]
    at = script.thresholds(rows, scores)
    assert 0.1 < at[NAMES[0]] < 0.3 and 0.7 < at[NAMES[1]] < 0.8
    assert script.figures_of(rows, scores, at, NAMES)["f1"] == 1
    # 0.5: of A one of two found; of B all three, one wrongly.
    assert script.figures_of(rows, scores, dict.fromkeys(NAMES, 0.5), NAMES)["f1"] == round((2 / 3 + 4 / 5) / 2, 4)


def test_no_row_is_in_two_parts(tmp_path: Path) -> None:
    import matcher_tasks as script

    for name in NAMES:
        (tmp_path / name).mkdir()
        for part, count in (("train", 25), ("valid", 4)):
            rows = [{"source": f"{part}{n}", "target": name, f"label{name[-2]}": str(n % 2)} for n in range(count)]
            lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in rows)
            (tmp_path / name / f"{part}.txt").write_text(lines, encoding="utf-8")
    parts = script.divided(SimpleNamespace(data=[tmp_path], quick=False))
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 44, "kept": 6, "held-out": 8}
    assert len({*parts["train"], *parts["kept"], *parts["held-out"]}) == 58
