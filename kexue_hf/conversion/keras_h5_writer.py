"""Writes Keras 2 weight files (HDF5) that bert4keras' `model.load_weights` accepts.

Keras matches layers by their place in the file, so they come in the order in which Keras lists the layers of a model.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO

import h5py
import numpy as np

from kexue_hf.conversion.element_types import BY_NAME, ElementType
from kexue_hf.conversion.safetensors_writer import write_all
from kexue_hf.conversion.transfer import transfer
from kexue_hf.conversion.weight_source import WeightSource
from kexue_hf.conversion.weight_table import Move

# HDF5 keeps attributes in the object's header, which holds 64 KB; Keras splits longer ones, and so do we.
_ATTRIBUTE_LIMIT = 64_512


def write_keras(
    path: str | os.PathLike[str],
    source: WeightSource,
    moves: Iterable[Move],
    layers: Iterable[tuple[str, list[str]]],
    dtype: ElementType | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> int:
    """Write the moves' results, grouped into layers; return the bytes of the values.

    Args:
        layers: (layer, the names of its weights, which are targets of moves, in order).

    Others, and errors, as `write_safetensors`. HDF5 has no bfloat16: such tensors are widened to float32, exactly.
    """
    layers = list(layers)
    with open(path, "w+b", buffering=0) as opened:
        sink = _Sink(opened)
        with h5py.File(sink, "w") as file:
            total = _write_layers(file, sink, source, {move.target: move for move in moves}, layers, dtype, on_bytes)
        # What HDF5 writes as it closes may have failed, too.
        sink.check()
        os.fsync(opened.fileno())
    return total


class _Sink:
    """A file for HDF5 that never fails: after a write error (a full disk, say) the library would end the process.

    The error is kept, and raised by `check`.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error."""
        if self._error is not None:
            raise self._error

    def write(self, data: bytes | memoryview) -> int:
        try:
            self.check()
            write_all(self._file, data)
        except OSError as error:
            self._error = error
        return len(data)

    def truncate(self, size: int) -> int:
        try:
            self.check()
            self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, room: memoryview) -> int:
        got = self._file.readinto(room) if self._error is None else 0  # type: ignore[attr-defined]
        # What could not be written reads as zeros.
        room[got:] = bytes(len(room) - got)
        return len(room)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        pass


def _write_layers(
    file: h5py.File,
    sink: _Sink,
    source: WeightSource,
    by_target: Mapping[str, Move],
    layers: list[tuple[str, list[str]]],
    dtype: ElementType | None,
    on_bytes: Callable[[int], object] | None,
) -> int:
    total = 0
    _set_names(file, "layer_names", [layer for layer, _ in layers])
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = b"2.3.1"
    for layer, names in layers:
        group = file.create_group(layer)
        _set_names(group, "weight_names", names)
        for name in names:
            move = by_target[name]
            kind = dtype or move.type
            kind = BY_NAME["float32"] if kind.name == "bfloat16" else kind
            values = np.empty(move.shape, dtype=kind.numpy)
            room, at = values.reshape(-1).view(np.uint8), 0
            for piece in transfer(source, move, kind):
                room[at : at + len(piece)] = piece
                at += len(piece)
            group.create_dataset(name, data=values)
            sink.check()
            total += at
            if on_bytes:
                on_bytes(at)
    return total


def _set_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Store a list of names as an attribute, in pieces name0, name1, ... where it is too long for one."""
    encoded = np.array([name.encode("utf-8") for name in names])
    pieces = 1
    while any(piece.nbytes > _ATTRIBUTE_LIMIT for piece in np.array_split(encoded, pieces)):
        pieces += 1
    if pieces == 1:
        group.attrs[attribute] = encoded
    else:
        for number, piece in enumerate(np.array_split(encoded, pieces)):
            group.attrs[f"{attribute}{number}"] = piece
