"""The two protocol-buffer messages of a checkpoint index: BundleHeaderProto and BundleEntryProto.

Field numbers from tensorflow/core/protobuf/tensor_bundle.proto. Reading them takes a few lines; the protobuf library
is not needed. Unknown fields are skipped, as protocol buffers demand.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from kexue_hf.conversion.varint import read_varint, write_varint

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
BIG_ENDIAN = 1
_FORMAT_VERSION = 1
# numpy's limit; TensorFlow's own is 254.
_LARGEST_RANK = 32


@dataclass
class BundleHeader:
    """Number of data files, byte order (0 little, 1 big), lowest reader version that may read the file."""

    shards: int = 1
    endianness: int = 0
    min_consumer: int = 0


@dataclass
class BundleEntry:
    """Where one tensor lies. `dtype` is TensorFlow's number, `crc` masked; `slices` > 0: it is in pieces elsewhere."""

    dtype: int = 0
    shape: list[int] = field(default_factory=list)
    shard: int = 0
    offset: int = 0
    size: int = 0
    crc: int = 0
    slices: int = 0


def parse_header(data: bytes) -> BundleHeader:
    """Read a BundleHeaderProto; ValueError if it is malformed."""
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
    """Read a BundleEntryProto; ValueError if it is malformed, a size is negative, or it has too many dimensions."""
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
    """Write a BundleHeaderProto, as TensorFlow's own writer fills it."""
    version = _varint_field(1, _FORMAT_VERSION)
    endianness = _varint_field(2, header.endianness) if header.endianness else b""
    return _varint_field(1, header.shards) + endianness + _bytes_field(3, version)


def encode_entry(entry: BundleEntry) -> bytes:
    """Write a BundleEntryProto; zeros are left out, as protocol buffers do."""
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
