"""Reads a safetensors file in small pieces, for the way back and for `verify`; needs neither torch nor safetensors.

Whatever the safetensors package refuses is refused: values that overlap, leave gaps, or do not fill the file; keys
that occur twice; numbers that are no sizes.

Writes a safetensors file as a stream: the header first, then one tensor after another.

The safetensors package wants all tensors in memory at once. Format: 8 bytes little-endian length of the header, the
header (JSON: name -> dtype, shape, data_offsets), the values without gaps.
"""

import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np

from kexue_hf.conversion.formats.transfer import transfer
from kexue_hf.conversion.formats.weight_source import BY_SAFETENSORS, CHUNK, ElementType, StoredTensor, WeightSource
from kexue_hf.conversion.formats.weight_source import Move
from kexue_hf.errors import CheckpointError, quoted
from kexue_hf.files.regular_file import open_regular


def write_safetensors(
    path: str | os.PathLike[str],
    source: WeightSource,
    moves: Iterable[Move],
    dtype: ElementType | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> int:
    """Write the moves' results; return the size of the file in bytes.

    Args:
        dtype: cast every tensor to this type; None keeps each as it is.
        on_bytes: called with the number of bytes just written.

    Raises:
        CheckpointError, ConversionError: as `transfer`. OSError: the file cannot be written. What was written until
        then stays.
    """
    # Wide types first, so that every tensor begins at a multiple of its element's width.
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
    """Write to an unbuffered file until everything is written (a call may write less when the disk gets full)."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[file.write(rest) :]


# 100,000 tensors have less; the library's own limit of 100 MB would take gigabytes as Python objects.
_LARGEST_HEADER = 1 << 24
_LARGEST_RANK = 64
_LARGEST_NUMBER = 1 << 64
# Bits of a value of the types that the package has and this reader has not.
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
        kind = self.readable(name)
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
        """A stretch of a tensor's bytes. CheckpointError if the file ends before."""
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
    """Name, type, shape, and where the values lie, of each tensor of a header, in the order of the values.

    Raises:
        ValueError: it is no header.
    """
    if not text.startswith(b"{"):
        raise ValueError("its header is no JSON object")
    header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_twins, parse_constant=_no_constant)
    json.dumps(header, ensure_ascii=False).encode()  # ValueError for half a surrogate pair
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    ):
        raise ValueError("its __metadata__ is no object of texts")
    rows = []
    for name, row in header.items():
        if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"tensor {quoted(name)} should have dtype, shape and data_offsets")
        type_name, shape, place = row["dtype"], row["shape"], row["data_offsets"]
        if not isinstance(type_name, str) or (type_name not in BY_SAFETENSORS and type_name not in _OTHER_TYPES):
            raise ValueError(f"tensor {quoted(name)} has the unknown type {type_name!r:.60}")
        if not _are_sizes(shape) or not _are_sizes(place) or len(place) != 2 or len(shape) > _LARGEST_RANK:
            raise ValueError(f"tensor {quoted(name)} has a shape or data_offsets that are none: {shape!r:.60}")
        rows.append((name, type_name, tuple(shape), (place[0], place[1])))
    return sorted(rows, key=lambda row: row[3])


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in its header")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < _LARGEST_NUMBER for number in value)
