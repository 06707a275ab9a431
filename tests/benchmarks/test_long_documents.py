"""What the benchmark of long documents promises about its data and its baselines, without measuring anything."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    # The script puts these there as well; what it puts is gone after the test.
    monkeypatch.setattr(sys, "path", [*sys.path])


def rows(label: str, count: int) -> list[dict[str, str]]:
    # A line separator that is none of a file of lines.
    return [{"text": f"{label}\u2028{number} " + "字" * 100, "label": label} for number in range(count)]


def test_every_class_is_on_both_sides_and_no_row_is(tmp_path: Path) -> None:
    import performer_long_documents as script

    given = [*rows("a", 30), *rows("b", 2), *rows("c", 1)]
    for part, found in (("train", given[::2]), ("dev", given[1::2])):
        script.write_rows(tmp_path / f"{part}.jsonl", found)
    train, held_out = script.divide(tmp_path)
    assert sorted(map(json.dumps, train + held_out)) == sorted(map(json.dumps, given[:-1]))
    assert [sum(row["label"] == label for row in held_out) for label in "ab"] == [10, 1]


def test_joined_documents_are_long_and_of_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    import performer_long_documents as script

    monkeypatch.setattr(script, "JOINED", (1000, 3))
    documents = script.join([*rows("a", 40), *rows("b", 11), *rows("c", 4)], len)
    # Class c has not enough, and b only for two.
    assert [row["label"] for row in documents] == ["a", "a", "a", "b", "b"]
    for row in documents:
        parts = row["text"].split("\n")
        assert 1000 <= sum(map(len, parts)) < 1000 + len(parts[0]) and len(set(parts)) == len(parts)
        assert all(part.startswith(row["label"]) for part in parts)
    assert documents[0] != documents[1]


def test_a_bag_of_words_is_fitted_once_for_all_parts() -> None:
    import bag_of_words

    train, labels = [[1, 2], [1, 3], [4, 5], [4, 6]], [0, 0, 1, 1]
    assert bag_of_words.predictions(train, labels, [[1]], [[4], [1, 9]]) == [[0], [1, 0]]
    assert bag_of_words.accuracy(train, labels, [[1], [4]], [0, 0]) == 0.5


@pytest.mark.parametrize(("tokens", "most"), [(128, "softmax, 128 tokens"), (1024, "softmax, whole text")])
def test_what_reads_joined_documents_was_trained_as_it_is_named(tokens: int, most: str) -> None:
    import performer_long_documents as script

    assert script.CONTENDERS[most]["max_length"] == tokens
    assert all(trained in script.CONTENDERS for trained, _, _ in script.READINGS.values())
    linear = {name for name, (_, _, switch) in script.READINGS.items() if switch == script.LINEAR}
    assert linear == {name for name in script.READINGS if "linear" in name}


def test_tables_show_the_figures() -> None:
    import performer_long_documents as script
    import tables

    figures = {"accuracy": 0.25, "macro_f1": 0.125}
    runs = script.collected([{**figures, "seconds": 20.0}, {**figures, "accuracy": 0.75, "seconds": 40.0}])
    reads = script.collected([{**figures, "seconds a document": 0.05}])
    times = {"seconds": {"softmax": {"median": 0.01}, "linear": {"median": 0.02}}, "softmax / linear": 0.5}
    sizes = {"documents": 9, "tokens, median": 2100}
    content: dict[str, Any] = {
        "data": {"classes": 7, "held-out": sizes, "joined": sizes},
        "baselines": {"commonest class": {"held-out": figures, "joined": figures}},
        "held-out": {"contenders": dict.fromkeys(script.CONTENDERS, runs)},
        "joined": {"contenders": dict.fromkeys(script.READINGS, reads)},
        "seconds of a document": {
            "128": {"forward": times, "forward and backward": times},
            "8192": {"forward": times},
        },
        "long text": {
            "tokens": 16_000,
            **{name: {"seconds": {"median": 9.0}, "peak MB": {"median": 1500.0}} for name in ("softmax", "linear")},
        },
    }

    parts = ("documents", "speed", "text")
    shown = {part: tables.TABLES[f"performer_long_{part}"].render("en", content) for part in parts}
    for text in shown.values():
        lines = text.splitlines()
        assert len({line.count("|") for line in lines}) == 1 and len(lines) >= 4
    documents = shown["documents"]
    assert "| linear, whole text | 50.0 | 12.5 | 25.0 | 12.5 | 30 | 50 |" in documents
    assert "| commonest class | 25.0 | 12.5 | 25.0 | 12.5 |  |  |" in documents
    assert "| softmax, 512 tokens |  |  | 25.0 |" in documents
    assert "| 8,192 | 10.0 | 20.0 | *0.50* |  |  |  |" in shown["speed"]
    assert "| linear | 9 | 1,500 |" in shown["text"]


def test_nothing_of_the_picture_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    import performer_long_documents as script

    result = json.loads((ROOT / "benchmarks" / "results" / "performer_long_documents.json").read_text("utf-8"))
    monkeypatch.setattr(pyplot, "close", lambda figure: None)
    script.picture(result, tmp_path / "a.svg")
    figure = pyplot.gcf()
    points = float(re.search(r'width="([\d.]+)pt"', (tmp_path / "a.svg").read_text("utf-8"))[1])
    assert points >= 72 * figure.get_tightbbox(figure.canvas.get_renderer()).width
    pyplot.close(figure)
