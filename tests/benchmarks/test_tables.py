"""The renderer of the benchmark tables, and what --check says about a document."""

import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import table_renderer
import tables
from table_renderer import Table, TableError

RESULT = {
    "texts": 12_000,
    "seconds": {"ours": {"median": 0.0625}, "theirs": {"median": 2.5}, "unnamed": {"median": 9.0}},
    "peak MB": {"theirs": 100.0},
    "lengths": {"128": {"0.5": 0.25}, "1024": {"0.5": 0.75}},
    "sizes": {"small": {"cells": {"2 x 8": {"ours": 3, "transformers": 2}}}},
}
SPEED = {
    "source": "speed.seconds",
    "en": "{texts:,} texts | ms | MB",
    "zh": "{texts:,} 条 | 毫秒 | MB",
    "row": "{$1} | {median:*1000 .1f} | {peak MB.$1:.0f} // –",
    "labels": {"theirs": "theirs || 对方", "ours": "**ours** || **本包**", "absent": "absent"},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A documentation folder with one table, and a folder with its result."""
    monkeypatch.setattr(table_renderer, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "FOLDERS", (tmp_path,))
    monkeypatch.setattr(tables, "TABLES", {"speed": Table(**SPEED)})
    (tmp_path / "speed.json").write_text(json.dumps(RESULT), "utf-8")
    (tmp_path / "page.md").write_text("Before.\n<!-- table:speed -->\n<!-- end -->\nAfter.\n", "utf-8")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """Run tables.py and return the message that it exits with."""
    monkeypatch.setattr(sys, "argv", ["tables.py", *options])
    try:
        tables.main()
    except SystemExit as ended:
        return str(ended.code)
    return ""


def test_a_declared_table_is_rendered_in_both_languages() -> None:
    table = Table(**SPEED, note="{texts:/1e3 .0f} thousand")
    assert table.render("en", RESULT) == (
        "| 12,000 texts | ms | MB |\n| --- | --: | --: |\n"
        "| theirs | 2500.0 | 100 |\n| **ours** | 62.5 | – |\n\n12 thousand\n"
    )
    assert table.render("zh", RESULT).splitlines()[::2] == ["| 12,000 条 | 毫秒 | MB |", "| 对方 | 2500.0 | 100 |", ""]


def test_keys_of_two_levels_and_keys_with_dots() -> None:
    lengths = Table("speed.lengths", "{$1:,} | {[0.5]:.2f}", "Length | error")
    assert lengths.render("en", RESULT).splitlines()[2:] == ["| 128 | 0.25 |", "| 1,024 | 0.75 |"]
    sizes = Table("speed.sizes.*.cells", "{$1}: {$2:shape} | {.:ratio}", "Size | ratio")
    assert sizes.render("zh", RESULT).splitlines()[2:] == ["| small: 2 × 8 | 1.50 |"]


def test_lines_without_headings() -> None:
    assert Table("speed", ["Texts | {texts}"]).render("en", RESULT) == "| | |\n|---|---|\n| Texts | 12000 |\n"


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("times.1f", 0.94, "*0.9*"),
        ("times.2f", 1.5, "1.50"),
        ("difference", 0.0, "0"),
        ("f1", {"mean": 0.5, "standard error": 0.02}, "50.0 ± 2.0"),
        ("f1", {"mean": 0.5, "standard error": None}, "50.0"),
        ("f1", 0.5, "50.0"),
        ("crossing", {"below": 1024}, "below 1,024 || 小于 1,024"),
        ("accuracy", {"mean_accuracy": 0.25, "standard_error": None}, "25.0%"),
        ("perplexity", {"perplexity": 20.0, "standard error": 0.1}, "20.0 ± 2.0"),
    ],
)
def test_formats(form: str, value: object, expected: str) -> None:
    assert table_renderer.formatted(value, form) == expected


def test_tables_are_written_and_then_pass_the_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "table speed" in run(monkeypatch, "--check")
    assert run(monkeypatch) == ""
    assert (folder / "page.md").read_text("utf-8").splitlines()[4:] == [
        "| theirs | 2500.0 | 100 |",
        "| **ours** | 62.5 | – |",
        "<!-- end -->",
        "After.",
    ]
    assert run(monkeypatch, "--check") == ""


def test_a_wrong_figure_fails_the_check_with_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch)
    page = folder / "page.md"
    wrong = page.read_text("utf-8").replace("62.5", "62.4")
    page.write_text(wrong, "utf-8")
    message = run(monkeypatch, "--check")
    assert message == "page.md: table speed is out of date: run python benchmarks/tables.py"
    assert page.read_text("utf-8") == wrong


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_errors_are_one_line(folder: Path, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    page = folder / "page.md"
    text = page.read_text("utf-8")
    page.write_text(text.replace("table:speed", "table:sped"), "utf-8")
    assert run(monkeypatch, *options).startswith("page.md: table sped: no table has this name")
    page.write_text(text.replace("<!-- end -->", ""), "utf-8")
    assert run(monkeypatch, *options) == "page.md: table speed: no <!-- end --> follows it"
    page.write_text(text, "utf-8")
    (folder / "speed.json").write_text(json.dumps({**RESULT, "seconds": {"ours": {}}}), "utf-8")
    missing = "page.md: table speed: benchmarks/results/speed.json"
    assert run(monkeypatch, *options) == f"{missing} has no figure 'median': run python benchmarks/speed.py"
    (folder / "speed.json").unlink()
    assert run(monkeypatch, *options) == f"{missing} is missing: run python benchmarks/speed.py"


def test_a_format_that_does_not_fit_is_named() -> None:
    with pytest.raises(TableError, match="figure 'texts' does not fit the format 'f2': ValueError"):
        Table("speed", ["Texts | {texts:f2}"]).render("en", RESULT)


def test_matches_of_xiangqi_are_sorted_and_one_sided_ones_are_bounds() -> None:
    scores = {
        "nodes:2000 against fairy:1350": (2, 1, 1, 89, [-10, 200], 0.1),
        "policy against fairy:1350": (0, 0, 4, -338, [-338, -100], 0.1),
        "policy against games/old@seconds:1.0": (1, 0, 1, 0, [-50, 50], None),
        "policy against random": (4, 0, 0, 338, [100, 338], None),
    }
    names = ("wins", "draws", "losses", "Elo difference", "95 % interval", "engine seconds a move")
    matches = {
        name: {**dict(zip(names, row, strict=True)), "games": sum(row[:3]), "score": (row[0] + row[1] / 2) / 4}
        for name, row in scores.items()
    }
    table = tables.TABLES["xiangqi_strength"]
    rows = table.render("en", {"matches": {**matches, "policy against greedy": {"games": 0}}}).splitlines()[2:6]
    assert [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows] == [
        ["the policy alone", "random legal moves", "4", "4", "0", "0", "100.0%", "won all", "above +100"],
        ["the policy alone", "old, 1 s a move", "2", "1", "0", "1", "25.0%", "+0", "-50 to +50"],
        ["the policy alone", "Fairy-Stockfish, Elo 1,350, 0.1 s a move", "4", "0", "0", "4", "0.0%", "lost all",
         "below -100"],
        ["2,000 positions a move", "Fairy-Stockfish, Elo 1,350, 0.1 s a move", "4", "2", "1", "1", "62.5%", "+89",
         "-10 to +200"],
    ]  # fmt: skip


def test_every_declared_table_is_in_a_document() -> None:
    text = "".join(path.read_text("utf-8") for folder in tables.FOLDERS for path in folder.glob("*.md"))
    assert set(re.findall(r"<!-- table:(\w+) -->", text)) == tables.TABLES.keys()


def test_a_result_without_a_derived_figure_is_named() -> None:
    with pytest.raises(TableError, match=r"matcher\.json has no figure 'wanted': run python benchmarks/matcher\.py"):
        tables.TABLES["matcher_wanted"].render("en", {"overhead": {}})
