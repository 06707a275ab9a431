"""F1 of each task of a matcher, of the loose and of the strict ones together, and the contest's score; where there are
probabilities, also the average precision, and the best threshold.

Do a matcher's probabilities keep their word? Of the pairs that it calls a match with 0.8, 80 % should match.

A reliability diagram is read of this (Niculescu-Mizil and Caruana, ICML 2005), and the expected calibration error (Guo
et al., arXiv 1706.04599), both by bins of the same width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kexue_hf.corpora.matching_rows import standard_of
from kexue_hf.evaluation.correction import Score

BINS = 10  # of probabilities, for the reliability
SCORE_BINS = 20  # and for how they are distributed


@dataclass(frozen=True)
class Reliability:
    """The probabilities of a task's pairs against what is so.

    Args:
        pairs, matches: how many there are, and how many of them match.
        calibration_error: expected: the mean, over all pairs, of how far the mean probability of a pair's bin is from
            the share of matches there.
        bins: pairs in each bin of the probability, from 0 to 1.
        probabilities: their mean in each bin, and shares: the share of matches in it; None where there are no pairs.
        matching_scores, other_scores: pairs that match and that do not, in each of more bins.
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
    """Of the probabilities [pairs] that they match, and the labels [pairs], 0 or 1.

    Raises:
        ValueError: there are no pairs, not as many labels, or a probability that is none.
    """
    probabilities, labels = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if probabilities.shape != labels.shape or probabilities.ndim != 1 or not len(labels):
        raise ValueError(
            f"expected a probability and a label for each pair, got {probabilities.shape} and {labels.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("expected probabilities from 0 to 1")
    places = _places(probabilities, BINS)
    counts = np.bincount(places, minlength=BINS)
    sums = np.bincount(places, weights=probabilities, minlength=BINS)
    matches = np.bincount(places, weights=labels, minlength=BINS)
    scores = _places(probabilities, SCORE_BINS)
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


def _places(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each; 1 belongs to the last."""
    return np.minimum((probabilities * bins).astype(int), bins - 1)


def _means(sums: np.ndarray, counts: np.ndarray) -> list[float | None]:
    return [round(float(total / count), 6) if count else None for total, count in zip(sums, counts, strict=True)]


def f1(predicted: np.ndarray, expected: np.ndarray) -> float:
    """2 hits / (predicted + expected) of the ones among zeros and ones [rows]; 0 where there are no hits."""
    return Score(int((predicted * expected).sum()), int(predicted.sum()), int(expected.sum())).f1


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
    """The best F1 that a threshold gives, and the middle of where it may be; both arguments are of [pairs].

    A pair is above a threshold if its probability is more than that. Where all pairs are best taken, the threshold is
    between 0 and the lowest probability; or below that, if it is 0. Without pairs they are 0 and one half; where none
    matches, F1 is 0 at any threshold, and the one returned says nothing.
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
    # Between neighbouring numbers there is none.
    return float(scores[best]), float(middle if middle < upper else lower)


def average_precision(probabilities: np.ndarray, expected: np.ndarray) -> float:
    """The precision above each threshold, weighted by the recall that it adds; 0 where nothing is expected. Pairs of
    one probability are above a threshold together. Both arguments are of [pairs]."""
    if not len(probabilities):
        return 0.0
    _, above, right = _thresholds(probabilities, expected)
    gained = np.diff(right, prepend=0) / max(right[-1], 1)
    return float((gained * right / above).sum())


def _thresholds(probabilities: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different probabilities, the highest first; how many pairs have at least that; how many of these match."""
    order = np.argsort(-probabilities, kind="stable")
    probabilities, right = probabilities[order], np.cumsum(expected[order])
    ends = np.append(np.flatnonzero(np.diff(probabilities)), len(probabilities) - 1)
    return probabilities[ends], ends + 1, right[ends]


def probability_figures(
    probabilities: np.ndarray, expected: np.ndarray, tasks: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """`matching_figures` where a probability of more than one half is a match. Then, of each task that occurs:
    `best f1 of <task>` and the `best threshold of <task>` that gives it, a bound from above, since it is chosen on the
    pairs that it is measured on; and `average precision of <task>`. Last, the mean of that, `average precision`. A
    task of which no pair matches has no best threshold: all are as good.

    Args:
        probabilities: [rows]. The others as of `matching_figures`.
    """
    figures = matching_figures(probabilities > 0.5, expected, tasks, names)
    precisions = []
    for number, name in enumerate(names):
        own = tasks == number
        if own.any():
            best, threshold = best_threshold(probabilities[own], expected[own])
            precisions.append(average_precision(probabilities[own], expected[own]))
            figures[f"best f1 of {name}"] = best
            if expected[own].any():
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
