"""A source whose matrices with a row for each token have other rows: those that are kept, and one for each new word.

The new row is the mean, in float64, of the rows of the word's pieces (https://kexue.fm/archives/7758; bert4keras'
`keep_tokens` and `compound_tokens`). All other tensors are passed on as they are.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from kexue_hf.conversion.casting import cast
from kexue_hf.conversion.element_types import BY_NAME
from kexue_hf.conversion.weight_source import StoredTensor, WeightSource
from kexue_hf.vocabulary.means import group_means

# Rows that are made at a time: about a megabyte of a base model's.
_ROWS = 256


class GrownWeights(WeightSource):
    """A source with rows added. Closing it closes the source.

    Args:
        source: the weights.
        names: its tensors whose first dimension is the vocabulary.
        kept: the rows to take, in their new order.
        pieces: for each new word the rows, counted among the taken ones, that its own is the mean of.
    """

    def __init__(
        self, source: WeightSource, names: Collection[str], kept: Sequence[int], pieces: Sequence[Sequence[int]]
    ) -> None:
        self._source = source
        self._grown = frozenset(names)
        self._kept = np.asarray(kept, dtype=np.int64)
        self._pieces = [self._kept[list(rows)] for rows in pieces]
        super().__init__(source.path, {name: self._described(tensor) for name, tensor in source.tensors.items()})

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        return self._rows(name) if name in self._grown else self._source.chunks(name)

    def array(self, name: str) -> np.ndarray:
        return super().array(name) if name in self._grown else self._source.array(name)

    @property
    def files(self) -> list[Path]:
        return self._source.files

    def close(self) -> None:
        self._source.close()

    def _described(self, tensor: StoredTensor) -> StoredTensor:
        if tensor.name not in self._grown or tensor.type is None:
            return tensor
        shape = (len(self._kept) + len(self._pieces), *tensor.shape[1:])
        return StoredTensor(tensor.name, tensor.type, shape, math.prod(shape) * tensor.type.size)

    def _rows(self, name: str) -> Iterator[np.ndarray]:
        kind, wide = self._source.readable(name), BY_NAME["float64"]
        rows = self._source.array(name)
        for start in range(0, len(self._kept), _ROWS):
            yield rows[self._kept[start : start + _ROWS]].reshape(-1)
        for start in range(0, len(self._pieces), _ROWS):
            pieces = self._pieces[start : start + _ROWS]
            taken = cast(rows[np.concatenate(pieces)], kind, wide, name)
            yield cast(group_means(taken, [len(group) for group in pieces]), wide, kind, name).reshape(-1)
