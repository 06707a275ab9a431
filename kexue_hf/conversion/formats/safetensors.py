"""Read and write safetensors files in chunks, without torch and without the safetensors package.

The package needs all tensors in memory at once to write them. Format: 8 bytes little-endian length of the header, the
header (JSON: name -> dtype, shape, data_offsets), then the values without gaps. The reader refuses what the package
refuses: values that overlap, leave gaps or do not fill the file, repeated keys, and invalid sizes.
"""

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from kexue_hf.conversion.formats.transfer import transfer
from kexue_hf.conversion.formats.weight_source import (
    BY_SAFETENSORS,
    CHUNK,
    ElementType,
    Move,
    StoredTensor,
    WeightSource,
)
from kexue_hf.errors import CheckpointError, quoted
from kexue_hf.files.regular_file import open_regular


def write_safetensors(
    path: str | os.PathLike[str],
    source: WeightSource,
    moves: Iterable[Move],
    dtype: ElementType | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> int:
    """Write the moved tensors; return the size of the file in bytes. An error leaves a partial file.

    Args:
        dtype: cast every tensor to this type; None keeps the stored types.
        on_bytes: called with the number of bytes just written.

    Raises:
        CheckpointError, ConversionError: as `transfer`.
        OSError: the file cannot be written.
    """
    # Wide types come first, so that every tensor is aligned to the size of its elements.
    ordered = sorted(moves, key=lambda move: -(dtype or move.type).size)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for move in ordered:
        kind = dtype or move.type
        begin, end = end, end + math.prod(move.shape) * kind.size
        header[move.target] = {"dtype": kind.safetensors, "shape": list(move.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb", buffering=0) as file:
        write_all(file, struct.pack("<Q", len(text)) + text)
        for move in ordered:
            for piece in transfer(source, move, dtype or move.type):
                write_all(file, piece)
                if on_bytes:
                    on_bytes(len(piece))
        os.fsync(file.fileno())
    return 8 + len(text) + end


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write all data to an unbuffered file, whose `write` may accept only part of it."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


# Enough for 100,000 tensors. The package allows 100 MB, which would take gigabytes as Python objects.
_LARGEST_HEADER = 1 << 24
_LARGEST_RANK = 64
_LARGEST_NUMBER = 1 << 64
# Bits per value of the types that the package knows and this reader does not.
_OTHER_TYPES = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}  # fmt: skip


class SafetensorsFile(WeightSource):
    """A safetensors file, open for reading.

    Raises:
        CheckpointError: the file is missing, truncated or malformed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = os.fspath(path)
        try:
            self._file: Any = open_regular(path, buffering=0, error=CheckpointError)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
        self._chunk = memoryview(bytearray(CHUNK))
        try:
            self._places: dict[str, int] = {}
            super().__init__(path, self._read_header(path))
        except (ValueError, RecursionError, OSError) as error:
            self.close()
            message = (
                error if isinstance(error, CheckpointError) else f"{path}: not a readable safetensors file: {error}"
            )
            raise CheckpointError(str(message)) from None
        except BaseException:
            self.close()
            raise

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        kind = self.stored_type(name)
        self._file.seek(self._places[name])
        rest = self.tensors[name].size
        while rest:
            piece = self._chunk[: min(CHUNK, rest)]
            got = 0
            while got < len(piece):
                count = self._file.readinto(piece[got:])
                if not count:
                    raise CheckpointError(f"{self.path}: ends inside tensor {quoted(name)}: the file is truncated")
                got += count
            rest -= len(piece)
            yield np.frombuffer(piece, dtype=kind.numpy)

    def read_bytes(self, name: str, start: int, size: int) -> bytes:
        """Return `size` bytes of a tensor from byte `start` on; CheckpointError if the file ends before."""
        self._file.seek(self._places[name] + start)
        data = b""
        while len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                raise CheckpointError(f"{self.path}: ends inside tensor {quoted(name)}: the file is truncated")
            data += more
        return data

    def close(self) -> None:
        self._file.close()

    def _read_header(self, path: str) -> dict[str, StoredTensor]:
        length = os.fstat(self._file.fileno()).st_size
        size = int.from_bytes(self._file.read(8) or b"", "little")
        if length < 8 or size > min(_LARGEST_HEADER, length - 8):
            raise ValueError(f"its header of {size} bytes does not fit into its {length} bytes: truncated?")
        tensors: dict[str, StoredTensor] = {}
        room, filled = length - 8 - size, 0
        for name, type_name, shape, (begin, end) in _rows(self._file.read(size)):
            kind = BY_SAFETENSORS.get(type_name)
            bits = 8 * kind.size if kind else _OTHER_TYPES[type_name]
            if end > room:
                raise ValueError(f"tensor {quoted(name)} lies outside it: truncated?")
            if begin != filled or end < begin:
                raise ValueError(f"tensor {quoted(name)} does not begin where the one before it ends")
            if math.prod(shape) * bits != 8 * (end - begin):
                raise ValueError(f"tensor {quoted(name)} of shape {list(shape)} does not have {end - begin} bytes")
            filled = end
            self._places[name] = 8 + size + begin
            obstacle = "" if kind else f"has type {type_name}, which this reader does not know"
            tensors[name] = StoredTensor(name, kind, shape, end - begin, obstacle)
        if filled != room:
            raise ValueError(f"{room - filled} bytes follow its last tensor")
        return tensors


def _rows(text: bytes) -> list[tuple[str, str, tuple[int, ...], tuple[int, int]]]:
    """Return (name, type, shape, data_offsets) of each tensor in a header, in the order of the values.

    Raises:
        ValueError: the header is invalid.
    """
    if not text.startswith(b"{"):
        raise ValueError("its header is not a JSON object")
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    json.dumps(header, ensure_ascii=False).encode()  # ValueError for half a surrogate pair
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise ValueError("its __metadata__ is not an object of texts")
    rows = []
    for name, row in header.items():
        if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {quoted(name)} should have dtype, shape and data_offsets")
        type_name, shape, place = row["dtype"], row["shape"], row["data_offsets"]
        if not isinstance(type_name, str) or (type_name not in BY_SAFETENSORS and type_name not in _OTHER_TYPES):
            raise ValueError(f"tensor {quoted(name)} has the unknown type {type_name!r:.60}")
        if not _are_sizes(shape) or not _are_sizes(place) or len(place) != 2 or len(shape) > _LARGEST_RANK:
            raise ValueError(f"tensor {quoted(name)} has an invalid shape or data_offsets: {shape!r:.60}")
        rows.append((name, type_name, tuple(shape), (place[0], place[1])))
    return sorted(rows, key=lambda row: row[3])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in its header")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < _LARGEST_NUMBER for number in value)
