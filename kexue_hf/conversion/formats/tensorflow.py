"""Read and write TensorFlow checkpoints (tensor bundles, "V2"), without TensorFlow.

A checkpoint with prefix P is P.index, a sorted table of name -> BundleEntryProto, and data files
P.data-00000-of-0000N of raw little-endian values. The reader verifies every checksum, and compares every size with the
files before it allocates memory. The writer makes one data file and an index, which TensorFlow loads.

Values are read into one small buffer. Memory mapping is no faster (0.31 s either way for the checkpoint of
benchmarks/conversion.py), and a mapped file that is truncated or fails on a network drive kills the process with
SIGBUS.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from crc32c import crc32c

from kexue_hf.conversion.formats.safetensors import write_all
from kexue_hf.conversion.formats.tensorflow_index import (
    BIG_ENDIAN,
    BundleEntry,
    BundleHeader,
    CompressedBlockError,
    build_table,
    encode_entry,
    encode_header,
    mask,
    parse_entry,
    parse_header,
    read_table,
)
from kexue_hf.conversion.formats.transfer import transfer
from kexue_hf.conversion.formats.weight_source import (
    BY_TENSORFLOW,
    CHUNK,
    OTHER_TENSORFLOW_TYPES,
    ElementType,
    Move,
    StoredTensor,
    WeightSource,
)
from kexue_hf.errors import CheckpointError, quoted
from kexue_hf.files.regular_file import open_regular


def write_tensorflow(
    prefix: str | os.PathLike[str],
    source: WeightSource,
    moves: Iterable[Move],
    dtype: ElementType | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> int:
    """Write the moved tensors to `prefix`.index and `prefix`.data-00000-of-00001; return the number of bytes of data.

    The index is written last, so a partial checkpoint does not open. Arguments and errors as `write_safetensors`.
    """
    entries = {}
    offset = 0
    with open(f"{prefix}.data-00000-of-00001", "wb", buffering=0) as file:
        for move in sorted(moves, key=lambda move: move.target.encode()):
            kind = dtype or move.type
            crc = size = 0
            for piece in transfer(source, move, kind):
                crc = crc32c(piece, crc)
                write_all(file, piece)
                size += len(piece)
                if on_bytes:
                    on_bytes(len(piece))
            entries[move.target.encode()] = BundleEntry(
                dtype=kind.tensorflow, shape=list(move.shape), offset=offset, size=size, crc=mask(crc)
            )
            offset += size
        os.fsync(file.fileno())
    rows = [(b"", encode_header(BundleHeader())), *((key, encode_entry(entry)) for key, entry in entries.items())]
    with open(f"{prefix}.index", "wb") as file:
        file.write(build_table(rows))
        file.flush()
        os.fsync(file.fileno())
    return offset


def write_state_file(prefix: str | os.PathLike[str]) -> None:
    """Write the file `checkpoint`, in which TensorFlow looks up the latest checkpoint of a folder."""
    folder, name = os.path.split(os.fspath(prefix))
    with open(os.path.join(folder, "checkpoint"), "w", encoding="utf-8") as file:
        file.write(f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n')


# The index of a large model with optimizer slots has about a megabyte.
_LARGEST_INDEX = 1 << 24
_MAX_TENSORS = 1 << 18
_OUR_VERSION = 1


class TensorFlowCheckpoint(WeightSource):
    """A TensorFlow checkpoint, open for reading.

    Args:
        prefix: the path of its files without `.index` or `.data-...`.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or has an unsupported format or byte order.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        self._prefix = os.fspath(prefix)
        self._files: dict[int, Any] = {}
        self._chunk = memoryview(bytearray(CHUNK))
        header, self._entries = _read_index(f"{self._prefix}.index")
        self._shards = header.shards
        super().__init__(self._prefix, {name: self._describe(name, entry) for name, entry in self._entries.items()})
        try:
            self._check_shards()
        except BaseException:
            self.close()
            raise

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        kind = self.stored_type(name)
        for piece in self._pieces(name, None):
            yield np.frombuffer(piece, dtype=kind.numpy)

    def array(self, name: str) -> np.ndarray:
        kind, tensor = self.stored_type(name), self.tensors[name]
        room = self._room(tensor.size)
        for _ in self._pieces(name, room):
            pass
        return np.frombuffer(room, dtype=kind.numpy).reshape(tensor.shape)

    def _pieces(self, name: str, room: memoryview | None) -> Iterator[memoryview]:
        """Yield a tensor's bytes in chunks, read into `room` or into one reused buffer, and verify the checksum."""
        entry = self._entries[name]
        file = self._files[entry.shard]
        file.seek(entry.offset)
        crc = done = 0
        while done < entry.size:
            size = min(CHUNK, entry.size - done)
            piece = self._chunk[:size] if room is None else room[done : done + size]
            self._fill(piece, file, name)
            crc = crc32c(piece, crc)
            done += size
            yield piece
        if mask(crc) != entry.crc:
            raise CheckpointError(
                f"{self._shard_path(entry.shard)}: checksum of tensor {quoted(name)} does not match: the file is "
                "damaged; copy or download it again"
            )

    @property
    def files(self) -> list[Path]:
        prefix = Path(self._prefix)
        part = re.compile(re.escape(prefix.name) + r"\.(index|meta|data-\d{5}-of-\d{5})")
        return sorted(path for path in prefix.parent.iterdir() if part.fullmatch(path.name))

    def close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _fill(self, piece: memoryview, file: Any, name: str) -> None:
        got = 0
        while got < len(piece):
            try:
                count = file.readinto(piece[got:])
            except OSError as error:
                raise CheckpointError(
                    f"{self._prefix}: reading tensor {quoted(name)} failed: {error.strerror}"
                ) from None
            if not count:
                raise CheckpointError(
                    f"{self._prefix}: the data of tensor {quoted(name)} ended while it was being read"
                )
            got += count

    def _describe(self, name: str, entry: BundleEntry) -> StoredTensor:
        kind = BY_TENSORFLOW.get(entry.dtype)
        shape = tuple(entry.shape)
        obstacle = ""
        if entry.slices:
            kind = None
            obstacle = (
                f"is stored in {entry.slices} slices (a partitioned variable), which are not supported; load it in "
                "TensorFlow and save it without partitions"
            )
        elif kind is None:
            spelling = OTHER_TENSORFLOW_TYPES.get(entry.dtype, f"number {entry.dtype}")
            obstacle = f"has TensorFlow type {spelling}, which holds no weights"
        elif (expected := math.prod(shape) * kind.size) != entry.size:
            shown = f"{expected}" if expected >> 64 == 0 else "2**64 and more"
            raise CheckpointError(
                f"{self._prefix}.index: tensor {quoted(name)} of shape {_show(shape)} and type {kind.name} should "
                f"have {shown} bytes, the index says {entry.size}: the file is damaged"
            )
        return StoredTensor(name, kind, shape, entry.size, obstacle)

    def _check_shards(self) -> None:
        """Open the data files that the entries name, and compare their lengths with the entries."""
        ends: dict[int, tuple[int, str]] = {}
        for name, entry in self._entries.items():
            if not entry.slices:
                ends[entry.shard] = max(ends.get(entry.shard, (0, "")), (entry.offset + entry.size, name))
        for shard, (end, name) in sorted(ends.items()):
            if shard >= self._shards:
                raise CheckpointError(
                    f"{self._prefix}.index: tensor {quoted(name)} should be in data file {shard} of {self._shards}: "
                    "the file is damaged"
                )
            path = self._shard_path(shard)
            self._files[shard], length = _open_regular(path, "a data file of the checkpoint")
            if length < end:
                raise CheckpointError(
                    f"{path}: has {length} bytes, but tensor {quoted(name)} ends at byte {end}: the file is "
                    "truncated; copy or download it again"
                )

    def _shard_path(self, shard: int) -> str:
        return f"{self._prefix}.data-{shard:05d}-of-{self._shards:05d}"


def _read_index(path: str) -> tuple[BundleHeader, dict[str, BundleEntry]]:
    file, length = _open_regular(path, "the index of the checkpoint")
    with file:
        if length > _LARGEST_INDEX:
            raise CheckpointError(
                f"{path}: has {length:,} bytes, expected at most {_LARGEST_INDEX:,} in a checkpoint index"
            )
        data = file.read()
    header, entries = None, {}
    try:
        for key, value in read_table(data):
            if header is None:
                if key:
                    raise ValueError("its header is missing")
                header = parse_header(value)
            elif not key.startswith(b"\0"):  # such keys are slices, which the entry of the whole tensor counts
                entries[key.decode("utf-8")] = parse_entry(value)
                if len(entries) > _MAX_TENSORS:
                    raise ValueError(f"it has more than {_MAX_TENSORS:,} tensors")
    except CompressedBlockError as error:
        raise CheckpointError(
            f"{path}: expected uncompressed blocks, as TensorFlow writes them, got a compressed one ({error}); load "
            "the checkpoint in TensorFlow and save it again"
        ) from None
    except ValueError as error:
        raise CheckpointError(
            f"{path}: not a readable TensorFlow checkpoint index, the file is damaged: {error}; copy or download it "
            "again"
        ) from None
    if header is None:
        raise CheckpointError(f"{path}: the checkpoint index is empty")
    if header.endianness == BIG_ENDIAN:
        raise CheckpointError(
            f"{path}: the checkpoint was written on a big-endian machine, which is not supported; load and save it "
            "in TensorFlow on an ordinary machine"
        )
    if header.min_consumer > _OUR_VERSION:
        raise CheckpointError(
            f"{path}: the checkpoint requires a reader of format version {header.min_consumer}, this reader has "
            f"version {_OUR_VERSION}"
        )
    return header, entries


def _open_regular(path: str, what: str) -> tuple[BinaryIO, int]:
    """Open a regular file; return it and its length in bytes."""
    try:
        file = open_regular(path, buffering=0, error=CheckpointError)
        return file, os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: missing; it is {what}, keep all files of a checkpoint (.index, .data-...) together"
        ) from None
    except OSError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None


def _show(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, shape[:8])) + (", ...]" if len(shape) > 8 else "]")
