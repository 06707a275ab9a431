"""Do a matcher's probabilities keep their word? Of the pairs that it calls a match with 0.8, 80 % should match.

A reliability diagram is read of this (Niculescu-Mizil and Caruana, ICML 2005), and the expected calibration error (Guo
et al., arXiv 1706.04599), both by bins of the same width.
"""

from dataclasses import dataclass

import numpy as np

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


__all__ = ["BINS", "SCORE_BINS", "Reliability", "reliability"]
