"""F1 by task and by standard against numbers computed by hand."""

import numpy as np
import pytest

from kexue_hf.trainers.matching_figures import f1, matching_figures, standard_of

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
    [("短短匹配A类", "A"), ("长长匹配B类", "B"), ("pairs_B", "B"), ("A", "A"), ("ABC", None), ("类", None)],
)
def test_the_standard_is_the_end_of_the_name(name, standard):
    assert standard_of(name) == standard


def test_nothing_right_is_zero():
    zeros, ones = np.zeros(3, dtype=int), np.ones(3, dtype=int)
    assert f1(zeros, zeros) == 0 and f1(zeros, ones) == 0 and f1(ones, ones) == 1
