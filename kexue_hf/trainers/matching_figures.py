"""F1 of each task of a matcher, of the loose and of the strict ones together, and the contest's score."""

import re
from collections.abc import Sequence

import numpy as np

from kexue_hf.correction_metrics import Score

# 短短匹配A类, or pairs_B
_STANDARD = re.compile(r"([AB])类?$")


def f1(predicted: np.ndarray, expected: np.ndarray) -> float:
    """2 hits / (predicted + expected) of the ones among zeros and ones [rows]; 0 where there are no hits."""
    return Score(int((predicted * expected).sum()), int(predicted.sum()), int(expected.sum())).f1


def standard_of(task: str) -> str | None:
    """A or B, if the task's name ends so, as the contest's do."""
    found = _STANDARD.search(task)
    return found[1] if found else None


def matching_figures(
    predicted: np.ndarray, expected: np.ndarray, tasks: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """`f1 of <task>` of each task that occurs; `f1_A` and `f1_B`, over the rows of all tasks of that standard, as in
    the contest; and `f1`, their mean. Where some task is of neither standard, `f1` is the mean over the tasks.

    Args:
        predicted, expected: zeros and ones, [rows].
        tasks: ids, [rows].
        names: of the tasks, in the order of their ids.
    """
    occurring = [number for number in range(len(names)) if (tasks == number).any()]
    figures = {f"f1 of {names[n]}": f1(predicted[tasks == n], expected[tasks == n]) for n in occurring}
    means = list(figures.values())
    standards = [standard_of(names[number]) for number in occurring]
    if None not in standards:
        means = []
        for standard in sorted({str(each) for each in standards}):
            members = [number for number, of in zip(occurring, standards, strict=True) if of == standard]
            rows = np.isin(tasks, members)
            means.append(f1(predicted[rows], expected[rows]))
            figures[f"f1_{standard}"] = means[-1]
    figures["f1"] = float(np.mean(means)) if means else 0.0
    return figures


def best_threshold(probabilities: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
    """The best F1 that a threshold gives, and the middle of where it may be; both arguments are of [pairs]."""
    order = np.argsort(-probabilities, kind="stable")
    probabilities, right = probabilities[order], np.cumsum(expected[order])
    # What is above a threshold ends where the probabilities change.
    ends = np.append(np.flatnonzero(np.diff(probabilities)), len(probabilities) - 1)
    scores = 2.0 * right[ends] / (ends + 1 + right[-1])
    best = ends[np.argmax(scores)]
    below = probabilities[best + 1] if best + 1 < len(probabilities) else 0.0
    return float(scores.max()), float((probabilities[best] + below) / 2)


__all__ = ["best_threshold", "f1", "matching_figures", "standard_of"]
