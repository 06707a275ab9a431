"""What every source of weights offers, whatever its file format: names, types, shapes, the values in small pieces.

The readers of TensorFlow checkpoints, Keras files and safetensors files derive from `WeightSource`. Values come
through buffers that are used again, so that reading a checkpoint takes the memory of its largest matrix at most.

The numeric types of stored tensors, and what TensorFlow, numpy and safetensors call each of them.

numpy knows no bfloat16 and no 8-bit floats. Their bits travel in unsigned integers of the same width; only a cast
(`--dtype`) looks at the values.

Casts between floating-point types on numpy arrays, bfloat16 included (numpy has none: its bits are uint16).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from kexue_hf.errors import CheckpointError, ConversionError, quoted

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class ElementType:
    """One type of element: its name here, TensorFlow's number, numpy's and safetensors' spelling, its bytes."""

    name: str
    tensorflow: int
    numpy: str
    safetensors: str | None
    size: int


ELEMENT_TYPES: tuple[ElementType, ...] = (
    ElementType("float32", 1, "<f4", "F32", 4),
    ElementType("float64", 2, "<f8", "F64", 8),
    ElementType("int32", 3, "<i4", "I32", 4),
    ElementType("uint8", 4, "|u1", "U8", 1),
    ElementType("int16", 5, "<i2", "I16", 2),
    ElementType("int8", 6, "|i1", "I8", 1),
    ElementType("complex64", 8, "<c8", "C64", 8),
    ElementType("int64", 9, "<i8", "I64", 8),
    ElementType("bool", 10, "|b1", "BOOL", 1),
    ElementType("bfloat16", 14, "<u2", "BF16", 2),
    ElementType("uint16", 17, "<u2", "U16", 2),
    ElementType("complex128", 18, "<c16", None, 16),
    ElementType("float16", 19, "<f2", "F16", 2),
    ElementType("uint32", 22, "<u4", "U32", 4),
    ElementType("uint64", 23, "<u8", "U64", 8),
    ElementType("float8_e5m2", 24, "|u1", "F8_E5M2", 1),
    ElementType("float8_e4m3", 25, "|u1", "F8_E4M3", 1),
)

BY_NAME: dict[str, ElementType] = {kind.name: kind for kind in ELEMENT_TYPES}
BY_TENSORFLOW: dict[int, ElementType] = {kind.tensorflow: kind for kind in ELEMENT_TYPES}
BY_SAFETENSORS: dict[str, ElementType] = {kind.safetensors: kind for kind in ELEMENT_TYPES if kind.safetensors}

# What TensorFlow can also store in a variable and no weight is: named so that a refusal can say what it met.
OTHER_TENSORFLOW_TYPES: dict[int, str] = {
    7: "string",
    11: "qint8",
    12: "quint8",
    13: "qint32",
    15: "qint16",
    16: "quint16",
    20: "resource",
    21: "variant",
}

FLOATING: frozenset[str] = frozenset({"float64", "float32", "float16", "bfloat16"})
"""Types between which `--dtype` casts."""


def cast(values: np.ndarray, stored: ElementType, wanted: ElementType, name: str = "") -> np.ndarray:
    """Cast, rounding to the nearest value (ties to even); the same array if there is nothing to do.

    Raises:
        ConversionError: a finite value is too large for the wanted type (names the tensor).
    """
    if stored == wanted:
        return values
    if stored.name == "bfloat16":
        values = (values.astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore"):
        if wanted.name == "bfloat16":
            result = _to_bfloat16(values.astype("<f4"))
            infinite = (result & 0x7F80) == 0x7F80
        else:
            result = values.astype(wanted.numpy)
            infinite = ~np.isfinite(result)
    if infinite.any() and np.isfinite(values[infinite]).any():
        raise ConversionError(
            f"tensor {quoted(name)} has values up to {np.abs(values[np.isfinite(values)]).max():.3g}, too large for "
            f"{wanted.name}; choose --dtype bfloat16 or float32"
        )
    return result


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values).view("<u4")
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype("<u2")


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


@dataclass(frozen=True)
class Move:
    """One tensor to copy: its name in source and target, whether to transpose it, its target shape, its stored type."""

    source: str
    target: str
    transposed: bool
    shape: tuple[int, ...]
    type: ElementType


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
