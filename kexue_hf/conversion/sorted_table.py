"""The sorted string table of LevelDB, in which TensorFlow keeps a checkpoint's index.

File: data blocks, one (empty) meta block, an index block of (last key of a data block -> where it lies), and a footer
of 48 bytes with the places of the two last and a magic number. Block: entries (shared length, own length, value
length, own part of the key, value), restart offsets and their count; behind each block one byte of compression kind
and a masked CRC-32C of both. Format: github.com/google/leveldb, doc/table_format.md.
"""

import struct
from collections.abc import Iterable, Iterator

from kexue_hf.conversion.checksum import masked_crc
from kexue_hf.conversion.snappy import decompress
from kexue_hf.conversion.varint import read_varint, write_varint

MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5
# Variable names are far shorter; a damaged or hostile table could otherwise grow each key out of the one before.
_LONGEST_KEY = 1 << 14
# All keys together, and what a block may hold when it is decompressed: TensorFlow's are below 300 KB.
_ALL_KEYS = 1 << 24
_LARGEST_BLOCK = 1 << 24
_BLOCK = 1 << 16
_ENTRIES_PER_RESTART = 16


def read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) of a whole table, in key order.

    Raises:
        ValueError: this is not a table, or it is damaged (every block's checksum is verified).
    """
    if len(data) < _FOOTER:
        raise ValueError(f"{len(data)} bytes are too few for a table")
    footer = data[-_FOOTER:]
    (magic,) = struct.unpack_from("<Q", footer, 40)
    if magic != MAGIC:
        raise ValueError(f"wrong magic number {magic:#018x} at its end")
    _, _, at = _read_handle(footer, 0)
    offset, size, _ = _read_handle(footer, at)
    last = None
    key_bytes = beginning = 0
    for _, place in _read_block(data, offset, size):
        offset, size, end = _read_handle(place, 0)
        if end != len(place):
            raise ValueError("an entry of its block list is malformed")
        if offset < beginning:
            raise ValueError("its blocks overlap or are not in order")
        beginning = offset + size + _TRAILER
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
    if kind == 1:
        content = decompress(content, _LARGEST_BLOCK)
    elif kind != 0:
        raise ValueError(f"unknown compression kind {kind}")
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
    """The table of the given entries, which have to be in the order of their keys; not compressed, as TensorFlow's."""
    table = bytearray()
    places = _Block(entries_per_restart=1)
    block, last = _Block(), b""
    for last, value in entries:
        block.add(last, value)
        if len(block) >= _BLOCK:
            places.add(last, _append_block(table, block))
            block = _Block()
    if len(block):
        places.add(last, _append_block(table, block))
    footer = _append_block(table, _Block()) + _append_block(table, places)
    return bytes(table) + footer.ljust(_FOOTER - 8, b"\0") + struct.pack("<Q", MAGIC)


def _append_block(table: bytearray, block: "_Block") -> bytes:
    offset, content = len(table), block.finish()
    table += content + b"\0" + struct.pack("<I", masked_crc(content, b"\0"))
    return write_varint(offset) + write_varint(len(content))


class _Block:
    """A block under construction: keys share their beginning with the one before, except at restart points."""

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
