"""Rows of different lengths as one array."""

from collections.abc import Sequence

import numpy as np


def padded(rows: Sequence[Sequence[int]], length: int, value: int) -> np.ndarray:
    """Rows, filled up on the right with `value`: int64 [rows, length]."""
    array = np.full((len(rows), length), value, dtype=np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array


__all__ = ["padded"]
