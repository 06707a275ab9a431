"""The figures of a killed run add up, and the cost of a billion sentences includes the start of the workers."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_shards_of_a_killed_worker_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import large_corpora

    def finished(run: Any, after_first: Callable[[], Any] | None = None) -> list[float]:
        if after_first is not None:
            after_first()
        return [1.0, 2.0, 3.0]

    monkeypatch.setattr(large_corpora, "start", lambda *given: SimpleNamespace(returncode=0, kill=lambda: None))
    monkeypatch.setattr(large_corpora, "finished", finished)
    monkeypatch.setattr(large_corpora, "kill_worker", lambda *given: True)
    monkeypatch.setattr(large_corpora, "difference", lambda *given: 0.0)
    found = large_corpora.killed(tmp_path, tmp_path, tmp_path)["worker"]
    assert found["killed"] == 1 and found["shards finished before"] + found["shards after"] == 3


def test_the_cost_includes_the_start() -> None:
    from table_figures import duration, large_corpora

    found = {
        "speed": {"tiny": {"sorted by length": {"median": 10**9 / 64 / 3600}}},
        "workers": {"1": {"seconds until the first shard": 36.0}, "2": {}, "speed-up": 1.9},
    }
    cost = large_corpora(found)["cost"]["tiny"]
    assert cost["core hours"] == pytest.approx(64)
    assert cost["hours on"] == pytest.approx({"1": 1.01, "10": 0.11, "100": 0.02})
    assert [duration(hours) for hours in (225, 22.5, 1.01, 0.02)] == ["9 days", "22 hours", "61 min", "72 s"]
