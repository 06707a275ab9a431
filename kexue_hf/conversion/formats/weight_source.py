"""The common interface of checkpoint readers, the element types of stored tensors, and casts between them.

Every reader derives from `WeightSource`. Values come through reused buffers, so reading a checkpoint takes at most the
memory of its largest matrix.

numpy has no bfloat16 and no 8-bit floats. Their bits are held in unsigned integers of the same width; only a cast
(`--dtype`) interprets the values.
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
    """An element type: our name, TensorFlow's number, numpy's and safetensors' spelling, its size in bytes."""

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

# Types of TensorFlow variables that are never weights, named for error messages.
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
    """Return the values cast to another floating-point type, rounded to nearest (ties to even).

    If the types are equal, the same array is returned.

    Args:
        name: name of the tensor, for the message.

    Raises:
        ConversionError: a finite value is too large for the wanted type.
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
"""Bytes that are read, verified and copied at a time; they fit into the processor's cache."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. `size` is in bytes; `type` is None if it cannot be read, and `obstacle` says why."""

    name: str
    type: ElementType | None
    shape: tuple[int, ...]
    size: int
    obstacle: str = ""


@dataclass(frozen=True)
class Move:
    """A tensor to copy: its name in source and target, whether to transpose it, its target shape, its stored type."""

    source: str
    target: str
    transposed: bool
    shape: tuple[int, ...]
    type: ElementType


class WeightSource:
    """Named tensors in one or several files. Use as a context manager, or call `close()`."""

    def __init__(self, path: str, tensors: dict[str, StoredTensor]) -> None:
        self.path = path
        self.tensors = tensors
        self._buffer = bytearray()

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """Yield the values in row-major order, as flat arrays of about `CHUNK` bytes, each valid until the next one.

        Raises:
            CheckpointError: the values cannot be read or are damaged. Where a checksum covers the whole tensor, this
                is raised after the last chunk, so values are trustworthy only once the iterator has ended.
        """
        raise NotImplementedError

    def array(self, name: str) -> np.ndarray:
        """Return all values, valid until the next call of `array`. Errors as `chunks`."""
        tensor = self.tensors[name]
        values = np.frombuffer(self._room(tensor.size), dtype=self.stored_type(name).numpy)
        at = 0
        for chunk in self.chunks(name):
            values[at : at + len(chunk)] = chunk
            at += len(chunk)
        return values.reshape(tensor.shape)

    def read(self, name: str) -> np.ndarray:
        """Return a copy of all values. Errors as `chunks`."""
        return self.array(name).copy()

    def stored_type(self, name: str) -> ElementType:
        """Return the tensor's type; CheckpointError if its values cannot be read."""
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
        """Return a writable buffer of `size` bytes, the same memory on every call."""
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        return memoryview(self._buffer)[:size]
