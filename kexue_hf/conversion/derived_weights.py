"""Weight sources that compute some of their tensors.

* `WithDerivedWeights` adds tensors that are functions of the configuration, such as sinusoids: one format stores them,
  another computes them. Weight maps name them in `DERIVED_SAVED`, `DERIVED_KERAS` and `DERIVED_TENSORFLOW`.
* `ExtendedWeights` changes the rows of the vocabulary matrices: it keeps some rows and appends one for each new word,
  the float64 mean of the rows of its word pieces (https://kexue.fm/archives/7758; bert4keras' `keep_tokens` and
  `compound_tokens`). Other tensors pass unchanged.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from kexue_hf.conversion.formats.weight_source import BY_NAME, Move, StoredTensor, WeightSource, cast
from kexue_hf.conversion.weight_plan import Plan
from kexue_hf.vocabulary.group_means import group_means

# Rows computed at a time: about a megabyte for a base model.
_ROWS = 256


class ExtendedWeights(WeightSource):
    """A source with an extended vocabulary. Closing it closes the wrapped source.

    Args:
        source: the weights.
        names: its tensors whose first dimension is the vocabulary.
        kept: the rows to keep, in their new order.
        pieces: for each new word, the rows to average, as indices into `kept`.
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
        kind, wide = self._source.stored_type(name), BY_NAME["float64"]
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
    """Return NEZHA's table, [2 x max_relative_position + 1, head size]: sines and cosines alternate."""
    angles = _angles(2 * sizes["max_relative_position"] + 1, sizes)
    return np.stack((np.sin(angles), np.cos(angles)), axis=-1).reshape(len(angles), -1)


def _rotary_sinusoids(sizes: Mapping[str, int]) -> np.ndarray:
    """Return the table of transformers' RoFormer, [positions, head size]: all sines, then all cosines."""
    angles = _angles(sizes["max_position_embeddings"], sizes)
    return np.concatenate((np.sin(angles), np.cos(angles)), axis=-1)


def _zero_matrix(sizes: Mapping[str, int]) -> np.ndarray:
    """Return the kernel of a dense layer that the model does not use."""
    return np.zeros((sizes["hidden_size"], sizes["hidden_size"]))


def _zero_vector(sizes: Mapping[str, int]) -> np.ndarray:
    """Return the bias of a dense layer that the model does not use."""
    return np.zeros(sizes["hidden_size"])


_FUNCTIONS: dict[str, Callable[[Mapping[str, int]], np.ndarray]] = {
    "relative_sinusoids": _relative_sinusoids,
    "rotary_sinusoids": _rotary_sinusoids,
    "zero_matrix": _zero_matrix,
    "zero_vector": _zero_vector,
}


def add_derived_weights(
    weights: WeightSource, plan: Plan, names: Mapping[str, str], sizes: Mapping[str, int]
) -> WeightSource:
    """Return the source with the derived tensors that the target format stores, and put them into the plan.

    Args:
        names: tensor name -> name of the function that computes it (float32).
    """
    added = {name: _FUNCTIONS[function](sizes).astype(np.float32) for name, function in names.items()}
    plan.derived = [Move(name, name, False, array.shape, BY_NAME["float32"]) for name, array in added.items()]
    return WithDerivedWeights(weights, added) if added else weights


class WithDerivedWeights(WeightSource):
    """A source with derived tensors added to its stored ones. Closing it closes the wrapped source."""

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
