"""What the T-TA's benchmarks promise about how they measure, without measuring anything."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    # The scripts put these there as well; what they put is gone after the test.
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_costs_are_the_rates_of_errors_for_each_candidate() -> None:
    import tta_correction_constants as script

    number = {
        kind: sum(found == kind for found in script.kinds_of_pairs()("竟").values())
        for kind in (("same tone", False), ("same tone", True), ("other tone", False), ("shape", False))
    }
    written = {"净": 40, "镜": 30, "精": 20, "章": 10}  # same tone; and alike; other tone; looks alike only
    rows = [(wrong, "竟") for wrong, times in written.items() for _ in range(times)] + [("近", "竟")] * 5
    found = script.count([*rows, ("龘", "竟"), ("竟", "竟")])
    rates = {kind: times / number[kind] for kind, times in zip(number, written.values(), strict=True)}
    base = rates["same tone", False]
    assert found["costs"]["same tone"] == 0
    assert found["costs"]["other tone"] == round(-math.log(rates["other tone", False] / base), 1)
    assert found["costs"]["shape"] == round(-math.log(rates["shape", False] / base), 1)
    assert found["errors"] == 106
    assert found["share of the errors"]["same sound, any tone"] == pytest.approx(90 / 106)
    assert found["share of the errors"]["none of these"] == pytest.approx(1 / 106)


def test_a_threshold_is_the_best_for_characters_on_the_rows_it_is_given() -> None:
    import tta_correction as script

    rows = [("ab", "aB"), ("aB", "aB")]
    changes = [[(5.2, 1, "B"), (2.2, 0, "A")], [(3.2, 0, "A")]]
    assert script.best_threshold(rows, changes) == 3.5  # the least at which nothing right is changed
    drawn = script.drawn_rows([(f"{n}a", f"{n}b") for n in range(9)], 3)
    assert drawn[3:] == [(target, target) for _, target in drawn[:3]]


def test_every_contender_is_warmed_up_and_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    import tta_scoring as script

    assert min(script.LENGTHS.values()) >= 3
    calls: list[tuple[str, int]] = []
    monkeypatch.setattr(script, "score", lambda model, ids: calls.append((model.name, ids.shape[1])))
    monkeypatch.setattr(script, "score_plainly", lambda model, ids: calls.append(("plain", ids.shape[1])))
    monkeypatch.setattr(script.time, "process_time", iter(range(1000)).__next__)
    tta, bert = (SimpleNamespace(name=name, config=SimpleNamespace(vocab_size=50)) for name in ("tta", "bert"))
    cell = script.compare(tta, bert, 64, 3)
    assert calls[:3] == [("tta", 32), ("bert", 32), ("plain", 32)]
    assert calls[3:] == [*[("tta", 64)] * 5, ("bert", 64), ("plain", 64)] * 3
    assert [len(cell["seconds"][name]["all"]) for name in (script.OURS, script.MASKED, script.PLAIN)] == [3, 3, 3]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_both_ratios_are_shown_the_smaller_first(language: str) -> None:
    import table_renderer
    import tables

    sizes = table_renderer.read_result("tta_scoring")["sizes"]
    cell = sizes["base: 12 layers, 768"]["tokens"]["128"]["times faster than"]
    lines = tables.render("tta_speed", language).splitlines()
    (row,) = (line for line in lines if line.startswith("| base") and "; 128" in line)
    assert [part.strip() for part in row.split("|")][-3:-1] == [
        f"{cell['BERT, ours']:.1f}", f"{cell['BERT, plain']:.1f}"
    ]  # fmt: skip
