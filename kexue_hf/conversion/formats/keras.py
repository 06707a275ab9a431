"""Read and write Keras 2 weight files (HDF5), as `model.save_weights` and `model.save` of Keras and tf.keras do.

The root (or its group `model_weights`, if the whole model was saved) has an attribute `layer_names`; each layer's
group has an attribute `weight_names` with the order of its weights. Keras splits an attribute that is too long for
HDF5 into `layer_names0`, `layer_names1`, ... Keras matches layers by position, so they are written in the model's
order.

These files have no checksums: unlike in a TensorFlow checkpoint, a flipped bit in the values goes unnoticed. The
reader refuses everything that points out of the file (soft and external links, virtual data sets, external storage);
Keras writes none of these.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import h5py
import numpy as np

from kexue_hf.conversion.formats.safetensors import write_all
from kexue_hf.conversion.formats.transfer import transfer
from kexue_hf.conversion.formats.weight_source import (
    BY_NAME,
    CHUNK,
    ELEMENT_TYPES,
    ElementType,
    Move,
    StoredTensor,
    WeightSource,
)
from kexue_hf.errors import CheckpointError, printable, quoted
from kexue_hf.files.quiet_loading import first_line

# An HDF5 object header holds at most 64 KB of attributes. Keras splits longer ones.
_ATTRIBUTE_LIMIT = 64_512


def write_keras(
    path: str | os.PathLike[str],
    source: WeightSource,
    moves: Iterable[Move],
    layers: Iterable[tuple[str, list[str]]],
    dtype: ElementType | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> int:
    """Write the moved tensors, grouped into layers; return the number of bytes of values.

    HDF5 has no bfloat16, so bfloat16 tensors are widened to float32, which is exact. Other arguments and errors as
    `write_safetensors`.

    Args:
        layers: (layer name, names of its weights in order); the names are targets of moves.
    """
    layers = list(layers)
    with open(path, "w+b", buffering=0) as opened:
        sink = _Sink(opened)
        with h5py.File(sink, "w") as file:
            total = _write_layers(file, sink, source, {move.target: move for move in moves}, layers, dtype, on_bytes)
        # HDF5 also writes while it closes.
        sink.check()
        os.fsync(opened.fileno())
    return total


class _Sink:
    """A file object for HDF5 that never raises on writing; `check` raises the first error.

    After a write error, such as a full disk, the HDF5 library would end the process.
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
        got = self._file.readinto(room) if self._error is None else 0  # type: ignore[attr-defined]  # not in BinaryIO
        # Bytes that could not be written read as zeros.
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
    """Store a list of names as an attribute, or as attributes name0, name1, ... if it is too long for one."""
    encoded = np.array([name.encode("utf-8") for name in names])
    pieces = 1
    while any(piece.nbytes > _ATTRIBUTE_LIMIT for piece in np.array_split(encoded, pieces)):
        pieces += 1
    if pieces == 1:
        group.attrs[attribute] = encoded
    else:
        for number, piece in enumerate(np.array_split(encoded, pieces)):
            group.attrs[f"{attribute}{number}"] = piece


# Upper bound of the compression ratio of deflate, the strongest filter that HDF5 always has.
_HIGHEST_RATIO = 1100
_MANY_LAYERS = 100_000
# HDF5 holds a whole chunk in memory, even if the data set is smaller.
_LARGEST_CHUNK = 1 << 26
# The exceptions that h5py raises for a damaged file.
_FAILURES = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, UnicodeError)


class KerasWeights(WeightSource):
    """A Keras weight file, open for reading. `layers` is [(layer name, [names of its tensors in order])].

    Raises:
        CheckpointError: the file is unreadable, damaged, or not a Keras 2 weight file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = os.fspath(path)
        self._sets: dict[str, Any] = {}
        self.layers: list[tuple[str, list[str]]] = []
        try:
            self._file = h5py.File(path, "r")
        except _FAILURES as error:
            raise CheckpointError(f"{path}: not a readable HDF5 file: {_text_of(error)}") from None
        try:
            super().__init__(path, self._scan(path))
        except _FAILURES as error:
            self.close()
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"{path}: not a readable Keras weight file: {_text_of(error)}") from None

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        kind, data = self.stored_type(name), self._sets[name]
        shape = self.tensors[name].shape
        if not shape or 0 in shape:
            yield from [self.array(name).reshape(-1)] if 0 not in shape else []
            return
        row = math.prod(shape[1:])
        rows = max(1, CHUNK // (row * kind.size))
        buffer = np.empty((min(rows, shape[0]), *shape[1:]), dtype=kind.numpy)
        for start in range(0, shape[0], rows):
            stop = min(start + rows, shape[0])
            self._fill(name, data, buffer[: stop - start], np.s_[start:stop])
            yield buffer[: stop - start].reshape(-1)

    def array(self, name: str) -> np.ndarray:
        kind, tensor = self.stored_type(name), self.tensors[name]
        values = np.frombuffer(self._room(tensor.size), dtype=kind.numpy).reshape(tensor.shape)
        if tensor.size:
            self._fill(name, self._sets[name], values, ())
        return values

    def close(self) -> None:
        self._sets.clear()
        self._file.close()

    def _fill(self, name: str, data: Any, values: np.ndarray, selection: object) -> None:
        try:
            data.read_direct(values, source_sel=selection)
        except _FAILURES as error:
            raise CheckpointError(f"{self.path}: tensor {quoted(name)} cannot be read: {_text_of(error)}") from None

    def _scan(self, path: str) -> dict[str, StoredTensor]:
        tensors: dict[str, StoredTensor] = {}
        root = self._file
        if "layer_names" not in _names(root) and _has(root, "model_weights"):
            root = _own(self._file, "model_weights")
            if _has(self._file, "optimizer_weights"):
                for name in _data_sets(_own(self._file, "optimizer_weights"), "optimizer_weights"):
                    tensors[name] = StoredTensor(name, None, (), 0, "belongs to the optimizer")
        if "layer_names" not in _names(root):
            raise CheckpointError(
                f"{path}: has no attribute layer_names: not a Keras 2 weight file (Keras 3 has another layout); save "
                "the model with bert4keras' model.save_weights"
            )
        length = os.path.getsize(path)
        for layer in _attribute(root, "layer_names"):
            group, weights = _own(root, layer), []
            for weight in _attribute(group, "weight_names"):
                name = weight if weight not in tensors else f"{layer}/{weight}"
                data = _own(group, weight)
                if name in tensors or not isinstance(data, h5py.Dataset):
                    raise CheckpointError(
                        f"{path}: weight {quoted(weight)} of layer {quoted(layer)} occurs twice or is not a data set"
                    )
                tensors[name] = _describe(path, name, data, length)
                self._sets[name] = data
                weights.append(name)
            self.layers.append((layer, weights))
        return tensors


def _describe(path: str, name: str, data: Any, length: int) -> StoredTensor:
    if data.shape is None:
        raise CheckpointError(f"{path}: weight {quoted(name)} is empty")
    if data.is_virtual or data.external:
        raise CheckpointError(f"{path}: weight {quoted(name)} lies in another file, which is not followed")
    kind, shape = _element_type(data.dtype), tuple(map(int, data.shape))
    obstacle = "" if kind else f"has HDF5 type {data.dtype}, which holds no weights"
    size = math.prod(shape) * (kind.size if kind else 0)
    if size > _HIGHEST_RATIO * length:
        raise CheckpointError(
            f"{path}: weight {quoted(name)} of shape {list(shape)} cannot fit into {length} bytes: damaged"
        )
    if kind and data.chunks and math.prod(map(int, data.chunks)) * kind.size > max(size, _LARGEST_CHUNK):
        raise CheckpointError(
            f"{path}: weight {quoted(name)} of shape {list(shape)} is stored in chunks of {list(data.chunks)}, larger "
            "than its shape: damaged"
        )
    return StoredTensor(name, kind, shape, size, obstacle)


def _element_type(dtype: np.dtype) -> ElementType | None:
    """Return our type for a numpy type of either byte order (HDF5 swaps bytes on reading)."""
    spelling = f"{dtype.kind}{dtype.itemsize}"
    return next((kind for kind in ELEMENT_TYPES if kind.numpy[1:] == spelling), None)


def _own(group: Any, name: str) -> Any:
    """Return the member of a group. Refuse links, which may lead to another file, directly or indirectly."""
    at = group
    for part in filter(None, name.split("/")):
        if _has(at, part) and at.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise CheckpointError(
                f"{group.file.filename}: {quoted(name)} is a link, possibly to another file, which is not followed"
            )
        at = at[part]
    return at


def _has(group: Any, name: str) -> bool:
    """Return whether a group has a member, without following links as `in` does."""
    return bool(group.id.links.exists(name.encode()))


def _names(group: Any) -> set[str]:
    """Return the attribute names, with the numbers of split attributes removed."""
    return {name.rstrip("0123456789") for name in group.attrs}


def _attribute(group: Any, name: str) -> list[str]:
    """Return the list of names in an attribute, which may be split into name0, name1, ..."""
    pieces = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(pieces)}" in group.attrs and name not in group.attrs:
        pieces.append(group.attrs[f"{name}{len(pieces)}"])
    if sum(len(piece) for piece in pieces) > _MANY_LAYERS:
        raise ValueError(f"more than {_MANY_LAYERS:,} entries in {name}")
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for piece in pieces for item in piece]


def _data_sets(group: Any, prefix: str) -> list[str]:
    found: list[str] = []
    group.visititems(lambda name, item: found.append(f"{prefix}/{name}") if isinstance(item, h5py.Dataset) else None)
    return found


def _text_of(error: BaseException) -> str:
    return printable(first_line(error), 300)
