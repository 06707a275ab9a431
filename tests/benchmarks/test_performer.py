"""The benchmark of linear attention: crossings and verdicts from times that are made up, and the tables of results."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("head", "speed", "encoder", "memory", "crossovers", "wanted")
sys.path.insert(0, str(ROOT / "benchmarks"))

import performer  # noqa: E402 (found by the line above)
import tables  # noqa: E402 (found by the line above)


def seconds(name: str, length: int) -> float:
    """Quadratic or linear; the two meet at 800 positions."""
    return length**2 / 800 if name == performer.SDPA else float(length) * (4 if name == performer.PEER else 1)


class Made:
    """A contender whose times are made up."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self.name = name

    def seconds(self, measure: str, length: int) -> float:
        return seconds(self.name, length)

    def close(self) -> None:
        pass


def test_a_contender_answers_from_a_process_of_its_own() -> None:
    contender = performer.Contender("ours, low_order", argparse.Namespace(threads=1, peer=None))
    try:
        assert contender.process.pid != os.getpid()
        for measure in ("causal forward", "forward and backward"):
            assert 0 < contender.seconds(measure, 16) < 60
    finally:
        contender.close()
    assert contender.process.returncode == 0


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(performer, "Contender", Made)
    found: dict[str, Any] = {
        "attention": {
            measure: performer.compare(measure, lengths, list(performer.CONTENDERS), argparse.Namespace())
            for measure, lengths in performer.REPETITIONS.items()
        }
    }
    monkeypatch.setattr(
        performer.subprocess,
        "run",
        lambda command, **_: argparse.Namespace(
            stdout="300" if any(performer.PEER in part for part in command) else "90"
        ),
    )
    options = argparse.Namespace(threads=1, peer=None)
    found["memory"] = performer.memory(options, list(performer.CONTENDERS), 1)
    found["encoder"] = {
        str(length): {
            "seconds": {"BertModel, SDPA": {"median": length * ratio}, "ours, low_order": {"median": length}},
            "times faster": {"ours, low_order": ratio},
        }
        for length, ratio in {256: 0.8, 1024: 1.1, 2048: 1.3, 4096: 1.4}.items()
    }
    found["crossovers"] = {
        name: {measure: performer.crossing(lengths, name) for measure, lengths in found["attention"].items()}
        for name in performer.MAPS
    }
    found["wanted"] = performer.against_wanted(found)
    return found


def test_crossings_lie_where_the_lines_meet(result: dict[str, Any]) -> None:
    assert result["crossovers"]["ours, low_order"]["forward"] == {"at": 800}
    encoder = result["encoder"]
    found = performer.crossing(encoder, "ours, low_order", "seconds", "BertModel, SDPA")
    assert 256 < found["at"] < 1024
    short = {length: encoder[length] for length in ("256",)}
    assert performer.crossing(short, "ours, low_order", "seconds", "BertModel, SDPA") == {"above": 256}
    long = {length: encoder[length] for length in ("1024", "2048")}
    assert performer.crossing(long, "ours, low_order", "seconds", "BertModel, SDPA") == {"below": 1024}


def test_what_was_wanted_is_held_against_what_was_found(result: dict[str, Any]) -> None:
    found = {(row["what"], row["at"], row["against"]): row for row in result["wanted"]}
    assert found["forward", 1024, "SDPA"]["found"] == {"ours, low_order": 1.28, "ours, favor+": 1.28}
    assert not any(found["forward", 1024, "SDPA"]["met"].values())
    assert all(found["forward", 4096, "performer-pytorch"]["met"].values())
    memory = found["memory, forward and backward", 4096, "performer-pytorch"]
    assert memory["found"] == {"ours, low_order": 0.3, "ours, favor+": 0.3} and all(memory["met"].values())
    encoder = [found["encoder, forward", length, "BertModel, SDPA"]["met"] for length in (2048, 4096)]
    assert encoder == [{"ours, low_order": True}, {"ours, low_order": False}]


def test_long_runs_of_the_peer_are_left_out_and_named(result: dict[str, Any]) -> None:
    cell = result["attention"]["causal forward and backward"]["2048"]
    assert cell["not run"] == ["performer-pytorch"] and "performer-pytorch" not in cell["ms"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tables_show_the_figures(result: dict[str, Any], language: str) -> None:
    shown = {name: tables.TABLES[f"performer_{name}"].render(language, result) for name in PARTS}
    for text in shown.values():
        lines = text.splitlines()
        assert len({line.count("|") for line in lines}) == 1 and len(lines) > 3
    # 256 positions: SDPA is the faster one, and that is marked.
    assert "*0.32*" in shown["speed"].splitlines()[2]
    assert "1.40, missed" in shown["wanted"]
