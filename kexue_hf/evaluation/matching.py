"""Figures of a text matcher: F1 of each task and each standard, best thresholds, average precision, and reliability.

Reliability means that, for example, 80 % of the pairs with a probability of 0.8 match. It is shown as a reliability
diagram (Niculescu-Mizil and Caruana, ICML 2005) and as the expected calibration error (Guo et al., arXiv 1706.04599),
both with bins of equal width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kexue_hf.corpora.matching_rows import standard_of
from kexue_hf.evaluation.correction import Score

BINS = 10  # of the reliability diagram
SCORE_BINS = 20  # of the histograms of probabilities


@dataclass(frozen=True)
class Reliability:
    """The probabilities of a task's pairs, compared with their labels.

    Args:
        pairs: number of pairs.
        matches: number of pairs that match.
        calibration_error: expected calibration error: the difference between mean probability and share of matches in
            a bin, averaged over all pairs.
        bins: number of pairs in each of 10 bins of the probability, from 0 to 1.
        probabilities: mean probability in each bin; None without pairs.
        shares: share of matches in each bin; None without pairs.
        matching_scores: number of matching pairs in each of 20 bins.
        other_scores: number of other pairs in each of 20 bins.
    """

    pairs: int
    matches: int
    calibration_error: float
    bins: list[int]
    probabilities: list[float | None]
    shares: list[float | None]
    matching_scores: list[int]
    other_scores: list[int]


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> Reliability:
    """Return the Reliability of match probabilities [pairs], given the labels [pairs], 0 or 1.

    Raises:
        ValueError: there are no pairs, the shapes differ, or a probability is not from 0 to 1.
    """
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if probabilities.shape != labels.shape or probabilities.ndim != 1 or not len(labels):
        raise ValueError(
            f"expected a probability and a label for each pair, got {probabilities.shape} and {labels.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("expected probabilities from 0 to 1")
    bins = _bins(probabilities, BINS)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.bincount(bins, weights=probabilities, minlength=BINS)
    matches = np.bincount(bins, weights=labels, minlength=BINS)
    scores = _bins(probabilities, SCORE_BINS)
    return Reliability(
        pairs=len(labels),
        matches=int(labels.sum()),
        calibration_error=round(float(np.abs(sums - matches).sum() / len(labels)), 6),
        bins=counts.tolist(),
        probabilities=_means(sums, counts),
        shares=_means(matches, counts),
        matching_scores=np.bincount(scores[labels == 1], minlength=SCORE_BINS).tolist(),
        other_scores=np.bincount(scores[labels == 0], minlength=SCORE_BINS).tolist(),
    )


def _bins(probabilities: np.ndarray, number: int) -> np.ndarray:
    """Return the bin of each probability; 1 belongs to the last bin."""
    return np.minimum((probabilities * number).astype(int), number - 1)


def _means(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
    return [round(float(total / count), 6) if count else None for total, count in zip(sums, counts, strict=True)]


def f1(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Return the F1 of zeros and ones [rows], 2 hits / (predicted + expected ones); 0 without hits."""
    return Score(int((predicted * expected).sum()), int(predicted.sum()), int(expected.sum())).f1


def matching_figures(
    predicted: np.ndarray, expected: np.ndarray, tasks: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """Return `f1 of <task>` for each task that occurs, `f1_A` and `f1_B`, and `f1`.

    As in the Sohu contest, `f1_A` and `f1_B` are over the rows of all tasks of that standard, and `f1` is their mean.
    If any task has neither standard, there are no `f1_A` and `f1_B`, and `f1` is the mean over the tasks.

    Args:
        predicted: predicted labels, 0 or 1, [rows].
        expected: true labels, 0 or 1, [rows].
        tasks: task ids, [rows].
        names: task names, in the order of their ids.
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
    """Return the best F1 of any threshold, and the middle of the range of thresholds that give it.

    Both arguments have shape [pairs]. A pair counts as a match if its probability is greater than the threshold. If
    the best F1 takes all pairs, the threshold lies between 0 and the lowest probability, or below it if that is 0.
    Without pairs the result is (0, 0.5). If no pair matches, F1 is 0 at any threshold, and the threshold is arbitrary.
    """
    if not len(probabilities):
        return 0.0, 0.5
    thresholds, above, right = _thresholds(probabilities, expected)
    scores = 2.0 * right / (above + right[-1])
    best = int(np.argmax(scores))
    upper = thresholds[best]
    last = best == len(thresholds) - 1
    lower = (0.0 if upper > 0 else upper - 1) if last else thresholds[best + 1]
    middle = (upper + lower) / 2
    # There is no number between adjacent floats.
    return float(scores[best]), float(middle if middle < upper else lower)


def average_precision(probabilities: np.ndarray, expected: np.ndarray) -> float:
    """Return the average precision: the precision at each threshold, weighted by the recall that it adds.

    Both arguments have shape [pairs]. Pairs of equal probability share a threshold. It is 0 if no pair matches.
    """
    if not len(probabilities):
        return 0.0
    _, above, right = _thresholds(probabilities, expected)
    gained = np.diff(right, prepend=0) / max(right[-1], 1)
    return float((gained * right / above).sum())


def _thresholds(probabilities: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct probabilities in descending order, and how many pairs and matches have at least each."""
    order = np.argsort(-probabilities, kind="stable")
    probabilities, right = probabilities[order], np.cumsum(expected[order])
    ends = np.append(np.flatnonzero(np.diff(probabilities)), len(probabilities) - 1)
    return probabilities[ends], ends + 1, right[ends]


def probability_figures(
    probabilities: np.ndarray, expected: np.ndarray, tasks: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """Return `matching_figures` at a threshold of one half, and threshold-free figures for each task.

    These are `best f1 of <task>`, `best threshold of <task>` and `average precision of <task>`; last comes their mean
    `average precision`. The best F1 is an upper bound, because its threshold is chosen on the pairs that it is
    measured on. A task without matching pairs has no best threshold.

    Args:
        probabilities: match probabilities, [rows].
        expected, tasks, names: as for `matching_figures`.
    """
    figures = matching_figures(probabilities > 0.5, expected, tasks, names)
    precisions = []
    for number, name in enumerate(names):
        of_task = tasks == number
        if of_task.any():
            best, threshold = best_threshold(probabilities[of_task], expected[of_task])
            precisions.append(average_precision(probabilities[of_task], expected[of_task]))
            figures[f"best f1 of {name}"] = best
            if expected[of_task].any():
                figures[f"best threshold of {name}"] = threshold
            figures[f"average precision of {name}"] = precisions[-1]
    figures["average precision"] = float(np.mean(precisions)) if precisions else 0.0
    return figures


__all__ = [
    "BINS",
    "SCORE_BINS",
    "Reliability",
    "average_precision",
    "best_threshold",
    "f1",
    "matching_figures",
    "probability_figures",
    "reliability",
    "standard_of",
]
