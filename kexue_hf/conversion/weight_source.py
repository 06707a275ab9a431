"""What every source of weights offers, whatever its file format: names, types, shapes, the values in small pieces.

The readers of TensorFlow checkpoints, Keras files and safetensors files derive from `WeightSource`. Values come
through buffers that are used again, so that reading a checkpoint takes the memory of its largest matrix at most.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from kexue_hf.conversion.element_types import ElementType
from kexue_hf.errors import CheckpointError, quoted

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK = 1 << 20
"""Bytes that are read, checked and handed on at a time: few enough to stay in the processor's cache in between."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its type (None if it cannot be read: `obstacle` says why), shape, size in bytes."""

    name: str
    type: ElementType | None
    shape: tuple[int, ...]
    size: int
    obstacle: str = ""


class WeightSource:
    """A file, or several, full of named tensors. Use as a context manager, or `close()` it."""

    def __init__(self, path: str, tensors: dict[str, StoredTensor]) -> None:
        self.path = path
        self.tensors = tensors
        self._buffer = bytearray()

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """The values in row-major order, as flat arrays of about `CHUNK` bytes, each valid until the next one.

        Raises:
            CheckpointError: the values cannot be read or are damaged; perhaps only after the last piece, where a
                checksum covers the whole tensor, so nothing may be believed before the iterator has ended.
        """
        raise NotImplementedError

    def array(self, name: str) -> np.ndarray:
        """All values, in shape; valid until the next call of `array`. Raises as `chunks`."""
        tensor = self.tensors[name]
        values = np.frombuffer(self._room(tensor.size), dtype=self.readable(name).numpy)
        at = 0
        for chunk in self.chunks(name):
            values[at : at + len(chunk)] = chunk
            at += len(chunk)
        return values.reshape(tensor.shape)

    def read(self, name: str) -> np.ndarray:
        """All values, in shape, in memory of their own. Raises as `chunks`."""
        return self.array(name).copy()

    def readable(self, name: str) -> ElementType:
        """The tensor's type; CheckpointError if its values cannot be read."""
        tensor = self.tensors[name]
        if tensor.type is None:
            raise CheckpointError(f"{self.path}: tensor {quoted(name)} {tensor.obstacle}")
        return tensor.type

    @property
    def files(self) -> list[Path]:
        """Every file that the tensors come from."""
        return [Path(self.path)]

    def close(self) -> None:
        """Close the files."""

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _room(self, size: int) -> memoryview:
        """A writable buffer of `size` bytes, the same memory on every call."""
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        return memoryview(self._buffer)[:size]
