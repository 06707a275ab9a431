"""Figures of matching against hand-computed values."""

import numpy as np
import pytest

from kexue_hf.evaluation.matching import (
    average_precision,
    best_threshold,
    f1,
    matching_figures,
    probability_figures,
    standard_of,
)

PREDICTED = np.array([1, 1, 0, 0, 1, 1, 0, 1])
EXPECTED = np.array([1, 0, 1, 0, 1, 1, 0, 0])
TASKS = np.array([0, 0, 0, 1, 1, 2, 2, 2])


def test_f1_of_each_task_and_each_standard():
    names = ["短短匹配A类", "短短匹配B类", "长长匹配A类", "长长匹配B类"]
    figures = matching_figures(PREDICTED, EXPECTED, TASKS, names)
    # Hits of predicted and of expected ones. Task 0: 1 of 2 and 2; 1: 1 of 1 and 1; 2: 1 of 2 and 1; A: 2 of 4 and 3.
    assert figures == {
        "f1 of 短短匹配A类": pytest.approx(2 / 4),
        "f1 of 短短匹配B类": 1.0,
        "f1 of 长长匹配A类": pytest.approx(2 / 3),
        "f1_A": pytest.approx(4 / 7),
        "f1_B": 1.0,
        "f1": pytest.approx((4 / 7 + 1) / 2),
    }


def test_f1_is_the_mean_over_tasks_without_standards():
    figures = matching_figures(PREDICTED, EXPECTED, TASKS, ["loose", "strict", "pairs_A"])
    assert figures["f1"] == pytest.approx((1 / 2 + 1 + 2 / 3) / 3) and "f1_A" not in figures


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        *[("短短匹配A类", "A"), ("长长匹配B类", "B"), ("短短B", "B"), ("pairs_B", "B"), ("short A", "A"), ("A", "A")],
        *[("ABC", None), ("类", None), ("QA", None), ("STS-B", None), ("CB", None), ("QA类", None)],
    ],
)
def test_the_end_of_the_name_gives_the_standard(name, standard):
    assert standard_of(name) == standard


def test_f1_without_hits_is_zero():
    zeros, ones = np.zeros(3, dtype=int), np.ones(3, dtype=int)
    assert f1(zeros, zeros) == 0 and f1(zeros, ones) == 0 and f1(ones, ones) == 1


# Pairs 2 and 3 have equal probabilities, and so have the last two.
PROBABILITIES = np.array([0.9, 0.7, 0.6, 0.6, 0.4, 0.1, 0.1])
LABELS = np.array([1, 0, 1, 0, 1, 0, 0])


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 3, 0, 2, 5, 4, 1]], ids=["sorted", "mixed"])
def test_thresholds_lie_between_distinct_probabilities(order):
    # Of 3 matches: 1 of 1 pair from 0.9, 1 of 2 from 0.7, 2 of 4 from 0.6, 3 of 5 from 0.4, 3 of 7 from 0.1.
    values, labels = PROBABILITIES[order], LABELS[order]
    assert best_threshold(values, labels) == (pytest.approx(2 * 3 / (5 + 3)), pytest.approx((0.4 + 0.1) / 2))
    assert average_precision(values, labels) == pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 3)


def test_a_threshold_of_all_pairs_is_above_zero():
    assert best_threshold(np.array([0.8, 0.3]), np.array([0, 1])) == (pytest.approx(2 / 3), pytest.approx(0.15))


def test_a_threshold_of_all_pairs_is_below_zero_where_zero_is_a_score():
    best, threshold = best_threshold(np.array([0.0, 0.0, 0.3]), np.array([1, 1, 1]))
    assert best == 1 and threshold < 0


@pytest.mark.parametrize("kind", ["float64", "float32", "neighbours", "int64"])
def test_no_threshold_gives_a_better_f1(kind):
    rng = np.random.default_rng(0)
    values = {
        "float64": np.array([0, 0, 0.25, 1 / 3, 1]),
        "float32": np.array([0, 0.1, 0.2, 0.7], dtype=np.float32),
        "neighbours": 0.7 + np.spacing(np.float32(0.7)) * np.arange(4, dtype=np.float32),
        "int64": np.array([-1, 0, 3]),
    }[kind]
    for _ in range(300):
        scores = rng.choice(values, rng.integers(1, 7))
        expected = rng.integers(0, 2, len(scores))
        best, threshold = best_threshold(scores, expected)
        assert best == pytest.approx(f1((scores > threshold).astype(int), expected))
        # One threshold just below each score.
        others = [np.nextafter(score, -np.inf) for score in np.unique(scores).astype(scores.dtype)]
        assert best == pytest.approx(max(f1((scores > other).astype(int), expected) for other in others))


def test_figures_without_pairs():
    assert (
        best_threshold(np.array([]), np.array([])) == (0, 0.5) and average_precision(np.array([]), np.array([])) == 0
    )


def test_figures_without_matches_are_zero():
    zeros = np.zeros(len(PROBABILITIES), dtype=int)
    assert average_precision(PROBABILITIES, zeros) == best_threshold(PROBABILITIES, zeros)[0] == 0


def test_a_task_without_matches_has_no_best_threshold():
    tasks = np.array([0] * 7 + [1] * 7)
    labels = np.concatenate([LABELS * 0, LABELS])
    figures = probability_figures(np.tile(PROBABILITIES, 2), labels, tasks, ["none", "some"])
    assert figures["best f1 of none"] == 0 and "best threshold of none" not in figures
    assert figures["best threshold of some"] == pytest.approx(0.25)


def test_probability_figures_of_each_task_and_their_mean():
    values, labels = np.concatenate([PROBABILITIES, [0.5, 0.2]]), np.concatenate([LABELS, [1, 0]])
    tasks = np.array([2] * 7 + [0] * 2)
    figures = probability_figures(values, labels, tasks, ["loose", "unused", "strict"])
    precision = average_precision(PROBABILITIES, LABELS)
    # A probability of exactly one half is not a match.
    assert figures == {
        "f1 of loose": 0,
        "f1 of strict": pytest.approx(2 * 2 / (4 + 3)),
        "f1": pytest.approx(2 / 7),
        "best f1 of loose": 1,
        "best threshold of loose": pytest.approx(0.35),
        "average precision of loose": 1,
        "best f1 of strict": pytest.approx(3 / 4),
        "best threshold of strict": pytest.approx(0.25),
        "average precision of strict": pytest.approx(precision),
        "average precision": pytest.approx((1 + precision) / 2),
    }
