"""Figures of classifiers, against a count by hand."""

import math

import numpy as np
import pytest

from kexue_hf.evaluation.classification import classification_figures


def test_figures() -> None:
    expected = np.array([0, 0, 0, 1, 1, -100])
    predicted = np.array([0, 0, 1, 1, 2, 0])
    assert classification_figures(predicted, expected, 4) == {
        "accuracy": pytest.approx(3 / 5),
        "balanced_accuracy": pytest.approx((2 / 3 + 1 / 2) / 2),
        # Class 2 is predicted and never right; class 3 is in neither.
        "macro_f1": pytest.approx((4 / 5 + 1 / 2 + 0) / 3),
        "worst_recall": pytest.approx(1 / 2),
    }


def test_no_items() -> None:
    assert all(map(math.isnan, classification_figures(np.array([1]), np.array([-100]), 2).values()))
