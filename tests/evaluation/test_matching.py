"""F1 by task and by standard against numbers computed by hand."""

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


def test_each_task_each_standard_and_their_mean():
    names = ["短短匹配A类", "短短匹配B类", "长长匹配A类", "长长匹配B类"]
    figures = matching_figures(PREDICTED, EXPECTED, TASKS, names)
    # Task 0: 1 hit of 2 and 2. Task 1: 1 of 1 and 1. Task 2: 1 of 2 and 1. A: 2 hits of 4 and 3.
    assert figures == {
        "f1 of 短短匹配A类": pytest.approx(2 / 4),
        "f1 of 短短匹配B类": 1.0,
        "f1 of 长长匹配A类": pytest.approx(2 / 3),
        "f1_A": pytest.approx(4 / 7),
        "f1_B": 1.0,
        "f1": pytest.approx((4 / 7 + 1) / 2),
    }


def test_tasks_of_no_standard_have_the_mean_over_tasks():
    figures = matching_figures(PREDICTED, EXPECTED, TASKS, ["loose", "strict", "pairs_A"])
    assert figures["f1"] == pytest.approx((1 / 2 + 1 + 2 / 3) / 3) and "f1_A" not in figures


@pytest.mark.parametrize(
    ("name", "standard"),
    [
        *[("短短匹配A类", "A"), ("长长匹配B类", "B"), ("短短B", "B"), ("pairs_B", "B"), ("short A", "A"), ("A", "A")],
        *[("ABC", None), ("类", None), ("QA", None), ("STS-B", None), ("CB", None), ("QA类", None)],
    ],
)
def test_the_standard_is_the_end_of_the_name(name, standard):
    assert standard_of(name) == standard


def test_nothing_right_is_zero():
    zeros, ones = np.zeros(3, dtype=int), np.ones(3, dtype=int)
    assert f1(zeros, zeros) == 0 and f1(zeros, ones) == 0 and f1(ones, ones) == 1


# Equal probabilities are above a threshold together: pairs 2 and 3, and the last two.
PROBABILITIES = np.array([0.9, 0.7, 0.6, 0.6, 0.4, 0.1, 0.1])
LABELS = np.array([1, 0, 1, 0, 1, 0, 0])


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 3, 0, 2, 5, 4, 1]], ids=["sorted", "mixed"])
def test_thresholds_are_where_probabilities_change(order):
    # Of 3: 1 of 1 above 0.9, 1 of 2 above 0.7, 2 of 4 above 0.6, 3 of 5 above 0.4, 3 of 7 above 0.1.
    values, labels = PROBABILITIES[order], LABELS[order]
    assert best_threshold(values, labels) == (pytest.approx(2 * 3 / (5 + 3)), pytest.approx((0.4 + 0.1) / 2))
    assert average_precision(values, labels) == pytest.approx((1 / 1 + 2 / 4 + 3 / 5) / 3)


def test_a_threshold_of_all_pairs_is_above_zero():
    assert best_threshold(np.array([0.8, 0.3]), np.array([0, 1])) == (pytest.approx(2 / 3), pytest.approx(0.15))


def test_a_threshold_of_all_pairs_is_below_zero_where_zero_is_a_score():
    best, threshold = best_threshold(np.array([0.0, 0.0, 0.3]), np.array([1, 1, 1]))
    assert best == 1 and threshold < 0


@pytest.mark.parametrize("kind", ["float64", "float32", "neighbours", "int64"])
def test_a_threshold_gives_its_figure_and_no_other_a_better_one(kind):
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
        # Between any two scores, above and below all of them.
        others = [np.nextafter(score, -np.inf) for score in np.unique(scores).astype(scores.dtype)]
        assert best == pytest.approx(max(f1((scores > other).astype(int), expected) for other in others))


def test_without_pairs_there_is_nothing_to_choose():
    assert (
        best_threshold(np.array([]), np.array([])) == (0, 0.5) and average_precision(np.array([]), np.array([])) == 0
    )


def test_where_nothing_matches_all_is_zero():
    zeros = np.zeros(len(PROBABILITIES), dtype=int)
    assert average_precision(PROBABILITIES, zeros) == best_threshold(PROBABILITIES, zeros)[0] == 0


def test_where_nothing_matches_no_threshold_is_the_best():
    tasks = np.array([0] * 7 + [1] * 7)
    labels = np.concatenate([LABELS * 0, LABELS])
    figures = probability_figures(np.tile(PROBABILITIES, 2), labels, tasks, ["none", "some"])
    assert figures["best f1 of none"] == 0 and "best threshold of none" not in figures
    assert figures["best threshold of some"] == pytest.approx(0.25)


def test_probabilities_have_the_figures_of_each_task_and_the_mean_precision():
    values, labels = np.concatenate([PROBABILITIES, [0.5, 0.2]]), np.concatenate([LABELS, [1, 0]])
    tasks = np.array([2] * 7 + [0] * 2)
    figures = probability_figures(values, labels, tasks, ["loose", "unused", "strict"])
    precision = average_precision(PROBABILITIES, LABELS)
    # More than one half is a match, one half is not.
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
