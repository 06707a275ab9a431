"""Matches of xiangqi: openings, figures, the log, and a game between the simplest players."""

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kexue_hf import InputError
from kexue_hf.xiangqi import Board
from tests.xiangqi.positions import played

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def strength(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    # The script adds the checkout, which is gone after the test.
    monkeypatch.setattr(sys, "path", [*sys.path])
    return importlib.import_module("xiangqi_strength")


def test_openings_are_legal_and_different(strength: Any) -> None:
    positions = [played(moves).fen() for moves in strength.OPENINGS]
    assert len(set(positions)) == len(positions) == 20
    assert all(len(moves) == 4 for moves in strength.OPENINGS)


@pytest.mark.parametrize(
    ("scores", "elo", "interval"),
    [
        ([1.0, 0.0], 0, (-191, 191)),
        ([0.5] * 4, 0, (-338, 338)),
        ([1.0] * 30 + [0.0] * 10, 191, (82, 353)),
        ([1.0] * 10, 512, (147, 512)),
    ],
)
def test_figures(strength: Any, scores: list[float], elo: int, interval: tuple[int, int]) -> None:
    found = strength.figures(scores)
    assert found["wins"] + found["draws"] + found["losses"] == found["games"] == len(scores)
    assert found["Elo difference"] == elo and tuple(found["95 % interval"]) == pytest.approx(interval, abs=1)


def match(wins: int, draws: int, losses: int, difference: int, low: int, high: int) -> dict[str, Any]:
    return {"games": wins + draws + losses, "wins": wins, "draws": draws, "losses": losses,
            "Elo difference": difference, "95 % interval": [low, high]}  # fmt: skip


MATCHES = {
    "nodes:2000 against fairy:1350": match(20, 10, 10, 89, -10, 200),
    "policy against fairy:1350": match(0, 0, 40, -760, -760, -440),
    "nodes:800 against fairy:1350": {"games": 0},
    "nodes:200 against fairy:1000": match(10, 20, 10, 0, -80, 80),
    "seconds:1.0 against fairy:1350": match(20, 10, 10, 89, -10, 200),
    "nodes:2000 against fairy": match(0, 10, 30, -338, -500, -200),
    "nodes:2000 against policy": match(40, 0, 0, 760, 440, 760),
}


def test_points_of_the_picture(strength: Any) -> None:
    assert strength.points_of(MATCHES) == [
        strength.Point(200, 1000, 1000, 920, 1080, False),
        strength.Point(0, 1350, 590, 590, 910, True),
        strength.Point(2000, 1350, 1439, 1340, 1550, False),
    ]


def test_the_picture_depends_on_its_points_alone(strength: Any, tmp_path: Path) -> None:
    points = strength.points_of(MATCHES)
    pictures = [tmp_path / name for name in ("first.svg", "second.svg", "other.svg", "none.svg")]
    for path, drawn in zip(pictures, (points, points, points[:2], []), strict=True):
        strength.draw(drawn, path)
    first, second, other = (path.read_bytes() for path in pictures[:3])
    assert first == second != other and not pictures[3].exists()


def test_the_picture_shows_all_intervals(strength: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, tuple[float, float]] = {}

    @contextmanager
    def watched(*arguments: Any) -> Iterator[list[Any]]:
        with picture_of(*arguments) as axes:
            yield axes
            seen.update(x=axes[0].get_xlim(), y=axes[0].get_ylim())

    picture_of = strength.picture_of
    monkeypatch.setattr(strength, "picture_of", watched)
    points = strength.points_of(MATCHES)
    strength.draw(points, tmp_path / "picture.svg")
    assert all(seen["y"][0] < point.low <= point.elo <= point.high < seen["y"][1] for point in points)
    assert all(seen["x"][0] < point.nodes < seen["x"][1] for point in points)


def a_game(**changes: Any) -> dict[str, Any]:
    return {"model": None, "player": "policy", "opponent": "random", "opening": 0, "red": True, "round": 0,
            "engine_seconds": None, **changes}  # fmt: skip


@pytest.mark.parametrize("red", [True, False])
def test_a_game_is_scored_for_the_first_player(strength: Any, red: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strength, "MOST_PLIES", 40)
    game = a_game(player="greedy", opponent="random", red=red)
    entry = strength.play(game, "no-engine")
    board = played(entry["moves"])
    outcome = board.outcome()
    won = {None: 0.5, "w": float(red), "b": float(not red)}[outcome.winner if outcome else None]
    assert entry["score"] == won and entry["game"] == game
    assert entry == strength.play(game, "no-engine")


def test_a_win_is_one_for_its_side(strength: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The greedy player mates at once from a position where it can."""
    monkeypatch.setattr(strength, "Board", lambda: Board("4k4/R8/9/9/9/9/9/p8/9/1R1K5 w"))
    monkeypatch.setattr(strength, "OPENINGS", ([],))
    for red in (True, False):
        entry = strength.play(a_game(player="greedy", opponent="greedy", red=red), "no-engine")
        assert entry["reason"] == "checkmate" and entry["score"] == float(red) and entry["moves"] == ["b0b9"]


def test_an_unfinished_line_of_the_log_is_dropped(strength: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert strength.read_log(log) == []
    whole = json.dumps({"game": a_game(), "score": 1.0, "moves": []})
    log.write_text(f"{whole}\n{whole[:20]}", "utf-8")
    assert len(strength.read_log(log)) == 1 and log.read_text("utf-8") == f"{whole}\n"


def test_an_unknown_player_is_refused(strength: Any) -> None:
    with pytest.raises(InputError, match="expected policy, nodes:N, seconds:S"):
        strength.make_player("grandmaster", None, "engine", 0.1, 0)
