"""Read and write the index of a TensorFlow checkpoint: a LevelDB table of protocol-buffer messages.

Table (github.com/google/leveldb, doc/table_format.md): data blocks, an empty meta block, an index block (last key of a
data block -> its offset and size), and a footer of 48 bytes with the handles of these two blocks and a magic number. A
block holds entries (length of the shared prefix, length of the rest of the key, length of the value, rest of the key,
value), restart offsets and their count. After each block come one byte for its compression and a masked CRC-32C of
both. TensorFlow writes no compressed blocks, and the reader refuses them.

Messages (tensorflow/core/protobuf/tensor_bundle.proto): BundleHeaderProto and BundleEntryProto, parsed here without
the protobuf library. Unknown fields are skipped, as protocol buffers require.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from crc32c import crc32c


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the variable-length integer (below 2**64) at `at`, and the position after it.

    Each byte holds seven bits, lowest first.

    Raises:
        ValueError: the data ends inside the integer, or the integer is longer than 64 bits.
    """
    value = shift = 0
    end = len(data)
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
        shift += 7
        if shift > 63:
            break
    else:
        raise ValueError("a number is cut off")
    raise ValueError("a number is longer than 64 bits")


def write_varint(value: int) -> bytes:
    """Return the variable-length encoding of an unsigned integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
BIG_ENDIAN = 1
_FORMAT_VERSION = 1
# numpy's limit; TensorFlow's own is 254.
_LARGEST_RANK = 32


@dataclass
class BundleHeader:
    """The number of data files, the byte order (0 little, 1 big), and the lowest reader version that may read it."""

    shards: int = 1
    endianness: int = 0
    min_consumer: int = 0


@dataclass
class BundleEntry:
    """The location of a tensor. `dtype` is TensorFlow's number, `crc` is masked; `slices` > 0: stored in slices."""

    dtype: int = 0
    shape: list[int] = field(default_factory=list)
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: int = 0


def parse_header(data: bytes) -> BundleHeader:
    """Parse a BundleHeaderProto; ValueError if it is malformed."""
    header = BundleHeader(shards=0)
    for number, kind, value in _fields(data):
        if number == 1 and kind == VARINT:
            header.shards = _number(value)
        elif number == 2 and kind == VARINT:
            header.endianness = _number(value)
        elif number == 3 and kind == BYTES:
            for part, part_kind, part_value in _fields(_bytes(value)):
                if part == 2 and part_kind == VARINT:
                    header.min_consumer = _number(part_value)
    return header


def parse_entry(data: bytes) -> BundleEntry:
    """Parse a BundleEntryProto; ValueError if it is malformed, a size is negative, or it has too many dimensions."""
    entry = BundleEntry()
    for number, kind, value in _fields(data):
        if number == 1 and kind == VARINT:
            entry.dtype = _number(value)
        elif number == 2 and kind == BYTES:
            entry.shape = _parse_shape(_bytes(value))
        elif number == 3 and kind == VARINT:
            entry.shard = _number(value)
        elif number == 4 and kind == VARINT:
            entry.offset = _number(value)
        elif number == 5 and kind == VARINT:
            entry.size = _number(value)
        elif number == 6 and kind == FIXED32:
            entry.crc = _number(value)
        elif number == 7:
            entry.slices += 1
    if max(entry.offset, entry.size, entry.shard, *entry.shape, 0) >> 63:
        raise ValueError("a size is negative")
    return entry


def encode_header(header: BundleHeader) -> bytes:
    """Return an encoded BundleHeaderProto, filled as TensorFlow's writer fills it."""
    version = _varint_field(1, _FORMAT_VERSION)
    endianness = _varint_field(2, header.endianness) if header.endianness else b""
    return _varint_field(1, header.shards) + endianness + _bytes_field(3, version)


def encode_entry(entry: BundleEntry) -> bytes:
    """Return an encoded BundleEntryProto, without zero fields, as protocol buffers encode it."""
    dimensions = b"".join(_bytes_field(2, _varint_field(1, size) if size else b"") for size in entry.shape)
    out = _varint_field(1, entry.dtype) + _bytes_field(2, dimensions)
    for number, value in ((3, entry.shard), (4, entry.offset), (5, entry.size)):
        out += _varint_field(number, value) if value else b""
    return out + write_varint(6 << 3 | FIXED32) + struct.pack("<I", entry.crc)


def _parse_shape(data: bytes) -> list[int]:
    shape = []
    for number, kind, value in _fields(data):
        if number == 2 and kind == BYTES:
            size = 0
            for part, part_kind, part_value in _fields(_bytes(value)):
                if part == 1 and part_kind == VARINT:
                    size = _number(part_value)
            shape.append(size)
            if len(shape) > _LARGEST_RANK:
                raise ValueError(f"a tensor has more than {_LARGEST_RANK} dimensions")
        elif number == 3 and kind == VARINT and value:
            raise ValueError("a tensor has no known shape")
    return shape


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        value: int | bytes
        if kind == VARINT:
            value, at = read_varint(data, at)
        elif kind == BYTES:
            length, at = read_varint(data, at)
            if at + length > len(data):
                raise ValueError("a field runs past its message")
            value = data[at : at + length]
            at += length
        elif kind in (FIXED32, FIXED64):
            width = 4 if kind == FIXED32 else 8
            if at + width > len(data):
                raise ValueError("a field runs past its message")
            value = int.from_bytes(data[at : at + width], "little")
            at += width
        else:
            raise ValueError(f"unknown kind of field {kind}")
        yield tag >> 3, kind, value


def _number(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _varint_field(number: int, value: int) -> bytes:
    return write_varint(number << 3 | VARINT) + write_varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return write_varint(number << 3 | BYTES) + write_varint(len(value)) + value


_DELTA = 0xA282EAD8


def masked_crc(*pieces: bytes | bytearray | memoryview) -> int:
    """Return the masked CRC-32C of the concatenated pieces."""
    value = 0
    for piece in pieces:
        value = crc32c(piece, value)
    return mask(value)


def mask(crc: int) -> int:
    """Return the stored form of a CRC-32C: rotated and offset (LevelDB, `util/crc32c.h`)."""
    return (((crc >> 15) | (crc << 17)) + _DELTA) & 0xFFFFFFFF


class CompressedBlockError(ValueError):
    """A block of the table is compressed. The message names the compression."""


MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5
# Keys share prefixes, so a hostile table could make each key longer than the one before. These limits stop it.
_LONGEST_KEY = 1 << 14
_ALL_KEYS = 1 << 24
# TensorFlow's blocks have less than 300 KB.
_LARGEST_BLOCK = 1 << 24
_BLOCK = 1 << 16
_ENTRIES_PER_RESTART = 16


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a table, in key order, and verify the checksum of every block.

    Raises:
        CompressedBlockError: a block is compressed.
        ValueError: the data is not a table, or is damaged.
    """
    if len(data) < _FOOTER:
        raise ValueError(f"it has {len(data)} bytes, expected at least {_FOOTER}")
    footer = data[-_FOOTER:]
    (magic,) = struct.unpack_from("<Q", footer, 40)
    if magic != MAGIC:
        raise ValueError(f"wrong magic number {magic:#018x} at its end")
    _, _, at = _read_handle(footer, 0)
    offset, size, _ = _read_handle(footer, at)
    last = None
    key_bytes = previous_end = 0
    for _, handle in _read_block(data, offset, size):
        offset, size, end = _read_handle(handle, 0)
        if end != len(handle):
            raise ValueError("an entry of its index block is malformed")
        if offset < previous_end:
            raise ValueError("its blocks overlap or are not in order")
        previous_end = offset + size + _TRAILER
        for key, value in _read_block(data, offset, size):
            if last is not None and key <= last:
                raise ValueError("its keys are not in order")
            last = key
            key_bytes += len(key)
            if key_bytes > _ALL_KEYS:
                raise ValueError(f"its keys have more than {_ALL_KEYS:,} bytes")
            yield key, value


def _read_handle(data: bytes, at: int) -> tuple[int, int, int]:
    offset, at = read_varint(data, at)
    size, at = read_varint(data, at)
    return offset, size, at


def _read_block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if offset + size + _TRAILER > len(data) - _FOOTER:
        raise ValueError(f"a block of {size} bytes at {offset} lies outside its {len(data)} bytes")
    if size > _LARGEST_BLOCK:
        raise ValueError(f"a block of {size} bytes is larger than {_LARGEST_BLOCK}")
    content = data[offset : offset + size]
    kind, crc = struct.unpack_from("<BI", data, offset + size)
    if masked_crc(content, bytes([kind])) != crc:
        raise ValueError(f"checksum of the block at {offset} does not match: the file is damaged")
    if kind != 0:
        raise CompressedBlockError("snappy" if kind == 1 else f"type {kind}")
    if len(content) < 4:
        raise ValueError("a block is too short")
    (restarts,) = struct.unpack_from("<I", content, len(content) - 4)
    end = len(content) - 4 - 4 * restarts
    if end < 0:
        raise ValueError(f"a block of {len(content)} bytes claims {restarts} restart points")
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(content, at)
        own, at = read_varint(content, at)
        length, at = read_varint(content, at)
        if shared > len(key) or at + own + length > end or shared + own > _LONGEST_KEY:
            raise ValueError("an entry runs past its block")
        key = key[:shared] + content[at : at + own]
        at += own
        yield key, content[at : at + length]
        at += length


def build_table(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the uncompressed table of entries (key, value), which must come in key order."""
    table = bytearray()
    handles = _Block(entries_per_restart=1)
    block, last = _Block(), b""
    for last, value in entries:
        block.add(last, value)
        if len(block) >= _BLOCK:
            handles.add(last, _append_block(table, block))
            block = _Block()
    if len(block):
        handles.add(last, _append_block(table, block))
    footer = _append_block(table, _Block()) + _append_block(table, handles)
    return bytes(table) + footer.ljust(_FOOTER - 8, b"\0") + struct.pack("<Q", MAGIC)


def _append_block(table: bytearray, block: "_Block") -> bytes:
    offset, content = len(table), block.finish()
    table += content + b"\0" + struct.pack("<I", masked_crc(content, b"\0"))
    return write_varint(offset) + write_varint(len(content))


class _Block:
    """A block under construction. Each key shares a prefix with the one before, except at restart points."""

    def __init__(self, entries_per_restart: int = _ENTRIES_PER_RESTART) -> None:
        self._content = bytearray()
        self._restarts = [0]
        self._per_restart = entries_per_restart
        self._count = 0
        self._last = b""

    def __len__(self) -> int:
        return len(self._content)

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._count and self._count % self._per_restart == 0:
            self._restarts.append(len(self._content))
        elif self._count:
            limit = min(len(key), len(self._last))
            while shared < limit and key[shared] == self._last[shared]:
                shared += 1
        self._content += write_varint(shared) + write_varint(len(key) - shared) + write_varint(len(value))
        self._content += key[shared:] + value
        self._last, self._count = key, self._count + 1

    def finish(self) -> bytes:
        return bytes(self._content) + struct.pack(f"<{len(self._restarts) + 1}I", *self._restarts, len(self._restarts))
