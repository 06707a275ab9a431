"""Reliability against a naive computation and at the edges; the picture's texts, formats and reproducibility."""

import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

from kexue_hf.errors import InputError, OutputError
from kexue_hf.evaluation.matching import Reliability, reliability
from kexue_hf.evaluation.reliability_picture import _interval, draw_reliability

NAMES = ["短短匹配A类", "a < b & $x$"]


def test_bins_shares_and_error_equal_a_naive_computation() -> None:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.random(300), rng.integers(0, 2, 300)
    found, error = reliability(probabilities, labels), 0.0
    for place in range(10):
        inside = [n for n in range(300) if place / 10 <= probabilities[n] < (place + 1) / 10]
        mean, share = probabilities[inside].mean(), labels[inside].mean()
        assert found.bins[place] == len(inside)
        assert found.probabilities[place] == pytest.approx(mean, abs=1e-6)
        assert found.shares[place] == pytest.approx(share, abs=1e-6)
        error += abs(mean - share) * len(inside) / 300
    assert found.calibration_error == pytest.approx(error, abs=1e-6)
    assert (found.pairs, found.matches) == (300, labels.sum())
    for scores, label in ((found.matching_scores, 1), (found.other_scores, 0)):
        assert scores == np.histogram(probabilities[labels == label], bins=20, range=(0, 1))[0].tolist()


def test_edges_and_bins_without_pairs() -> None:
    found = reliability(np.array([0.0, 0.1, 1.0]), np.array([0, 1, 1]))
    assert found.bins == [1, 1, *[0] * 7, 1] and found.matching_scores[-1] == 1
    assert found.shares[:3] == [0, 1, None] and found.shares[-1] == 1
    assert found.calibration_error == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("probabilities", "labels"), [([], []), ([0.5], [0, 1]), ([1.5], [1]), ([float("nan")], [1])], ids=str
)
def test_invalid_probabilities(probabilities: list[float], labels: list[int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        reliability(np.array(probabilities), np.array(labels))


def test_wilsons_interval() -> None:
    assert _interval(0.1, 50) == pytest.approx((0.0435, 0.2136), abs=1e-4)  # 5 of 50
    assert _interval(0, 10)[0] == pytest.approx(0) and _interval(1, 10)[1] == pytest.approx(1)


@pytest.fixture
def tasks() -> dict[str, Reliability]:
    return {name: reliability(np.array([0.2, 0.8, 0.9]), np.array([0, 1, n])) for n, name in enumerate(NAMES)}


@pytest.mark.parametrize("legible", [True, False])
def test_pictures_are_reproducible(
    legible: bool, tasks: dict[str, Reliability], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With letters as paths, or as text for the viewer's fonts."""
    pytest.importorskip("matplotlib")
    fonts = (["DejaVu Sans"], legible)
    monkeypatch.setattr("kexue_hf.evaluation.reliability_picture.fonts_for", lambda names: fonts)
    if legible:
        tasks = {f"task {number}": found for number, found in enumerate(tasks.values())}
    for name in ("a.svg", "b.svg"):
        draw_reliability(tasks, tmp_path / name)
    content = (tmp_path / "a.svg").read_text("utf-8")
    assert content == (tmp_path / "b.svg").read_text("utf-8")
    texts = [element.text for element in xml.etree.ElementTree.fromstring(content).iter() if element.text]
    shown = [*tasks, "pairs that match", "3 pairs, 33% match; calibration error 0.433"]
    assert [text in texts for text in shown] == [not legible] * len(shown)
    assert ("<text" in content) is not legible


@pytest.mark.parametrize("form", ["png", "pdf"])
def test_tasks_are_numbered_without_a_font_for_their_names(
    form: str, tasks: dict[str, Reliability], tmp_path: Path, recwarn
) -> None:
    pytest.importorskip("matplotlib")
    draw_reliability(tasks, tmp_path / f"a.{form}")
    assert (tmp_path / f"a.{form}").stat().st_size > 5000
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_errors_of_drawing(tasks: dict[str, Reliability], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"ends in \.png, \.svg, \.pdf"):
        draw_reliability(tasks, tmp_path / "a.jpg")
    (tmp_path / "a.svg").touch()
    with pytest.raises(OutputError, match="exists"):
        draw_reliability(tasks, tmp_path / "a.svg", overwrite=False)
    with pytest.raises(OutputError, match="parent is a file"):
        draw_reliability(tasks, tmp_path / "a.svg" / "b.svg")
    monkeypatch.setattr("kexue_hf.evaluation.reliability_picture.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install matplotlib"):
        draw_reliability(tasks, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size == 0
