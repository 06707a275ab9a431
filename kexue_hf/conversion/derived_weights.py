"""Tensors that are functions of the configuration: one format stores them where the other computes them.

Weight maps name them in `CONSTANTS_SAVED`, `CONSTANTS_KERAS` and `CONSTANTS_TENSORFLOW`. A source that lacks them is
read through `WithConstants`, as if it had them.

A source whose matrices with a row for each token have other rows: those that are kept, and one for each new word.

The new row is the mean, in float64, of the rows of the word's pieces (https://kexue.fm/archives/7758; bert4keras'
`keep_tokens` and `compound_tokens`). All other tensors are passed on as they are.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from kexue_hf.conversion.formats.weight_source import BY_NAME, Move, StoredTensor, WeightSource, cast
from kexue_hf.conversion.weight_table import Plan
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


def _angles(rows: int, sizes: Mapping[str, int]) -> np.ndarray:
    dim = sizes["hidden_size"] // sizes["num_attention_heads"]
    return np.arange(rows)[:, None] / np.power(10000.0, np.arange(0, dim, 2) / dim)


def _relative_sinusoids(sizes: Mapping[str, int]) -> np.ndarray:
    """NEZHA's: sines and cosines alternate; a row for each distance."""
    angles = _angles(2 * sizes["max_relative_position"] + 1, sizes)
    return np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(len(angles), -1)


def _rotary_sinusoids(sizes: Mapping[str, int]) -> np.ndarray:
    """transformers' RoFormer's: all sines, then all cosines; a row for each position."""
    angles = _angles(sizes["max_position_embeddings"], sizes)
    return np.concatenate((np.sin(angles), np.cos(angles)), axis=-1)


def _zero_matrix(sizes: Mapping[str, int]) -> np.ndarray:
    """A dense layer that has no part in what the model computes."""
    return np.zeros((sizes["hidden_size"], sizes["hidden_size"]))


def _zero_vector(sizes: Mapping[str, int]) -> np.ndarray:
    """The bias of such a layer."""
    return np.zeros(sizes["hidden_size"])


_FUNCTIONS: dict[str, Callable[[Mapping[str, int]], np.ndarray]] = {
    "relative_sinusoids": _relative_sinusoids,
    "rotary_sinusoids": _rotary_sinusoids,
    "zero_matrix": _zero_matrix,
    "zero_vector": _zero_vector,
}


def constants(names: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Compute them, float32: {name of the tensor: name of its function} -> {name of the tensor: values}."""
    return {name: _FUNCTIONS[function](sizes).astype(np.float32) for name, function in names.items()}


def moves(values: Mapping[str, np.ndarray]) -> list[Move]:
    """The moves that write them."""
    return [Move(name, name, False, array.shape, BY_NAME["float32"]) for name, array in values.items()]


def add_constants(
    weights: WeightSource, plan: Plan, names: Mapping[str, str], sizes: Mapping[str, int]
) -> WeightSource:
    """The source with the constants that a format stores, which become part of the plan; itself if there are none."""
    added = constants(names, sizes)
    plan.constants = moves(added)
    return WithConstants(weights, added) if added else weights


class WithConstants(WeightSource):
    """A source of weights, and constants as further tensors of it."""

    def __init__(self, source: WeightSource, values: Mapping[str, np.ndarray]) -> None:
        added = {
            name: StoredTensor(name, BY_NAME["float32"], array.shape, array.nbytes) for name, array in values.items()
        }
        super().__init__(source.path, {**source.tensors, **added})
        self._source = source
        self._values = values

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        if name in self._values:
            return iter((self._values[name].reshape(-1),))
        return self._source.chunks(name)

    def array(self, name: str) -> np.ndarray:
        return self._values[name] if name in self._values else self._source.array(name)

    @property
    def files(self) -> list[Path]:
        return self._source.files

    def close(self) -> None:
        self._source.close()
