"""Compute the initial embedding of a new word, the float64 mean over its word pieces (https://kexue.fm/archives/7758)."""

from collections.abc import Sequence

import numpy as np


def group_means(rows: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """Return the means of consecutive groups of rows.

    Args:
        rows: [sum of lengths, ...], floating point; summed in float64.
        lengths: number of rows of each group, at least 1.

    Returns:
        [groups, ...], float64.
    """
    if not len(lengths):
        return np.empty((0, *rows.shape[1:]), dtype=np.float64)
    sizes = np.asarray(lengths, dtype=np.int64)
    starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
    sums = np.add.reduceat(rows.astype(np.float64, copy=False), starts, axis=0)
    means: np.ndarray = sums / sizes.reshape(-1, *([1] * (rows.ndim - 1)))
    return means


__all__ = ["group_means"]
