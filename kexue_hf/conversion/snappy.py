"""Raw snappy decompression (github.com/google/snappy, format_description.txt).

Indexes written by TensorFlow 1.15 and 2.x are not compressed; older builds and other tools may do it, and a block is
at most some hundred kilobytes, so plain Python serves and no dependency is needed.
"""

from kexue_hf.conversion.varint import read_varint

# A copy of 64 bytes takes 3 bytes, so nothing valid expands more. It bounds what a damaged length can ask for.
_HIGHEST_RATIO = 24


def decompress(data: bytes, largest: int = 1 << 32) -> bytes:
    """Decompress one raw snappy block of at most `largest` bytes of content.

    Raises:
        ValueError: the data is not a snappy block, or not all of one.
    """
    length, at = read_varint(data, 0)
    if length > min(largest, _HIGHEST_RATIO * len(data)):
        raise ValueError(f"snappy block of {len(data)} bytes claims {length} bytes of content")
    out = bytearray()
    end = len(data)
    while at < end:
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            size = tag >> 2
            if size >= 60:
                width = size - 59
                size = int.from_bytes(data[at : at + width], "little")
                at += width
            size += 1
            if at + size > end:
                raise ValueError("snappy literal runs past its block")
            out += data[at : at + size]
            at += size
        else:
            if kind == 1:
                size, width, high = ((tag >> 2) & 7) + 4, 1, (tag >> 5) << 8
            else:
                size, width, high = (tag >> 2) + 1, 2 if kind == 2 else 4, 0
            if at + width > end:
                raise ValueError("snappy copy is cut off")
            offset = high | int.from_bytes(data[at : at + width], "little")
            at += width
            if not 0 < offset <= len(out):
                raise ValueError(f"snappy copy reaches back {offset} bytes of {len(out)}")
            _repeat(out, offset, size)
        if len(out) > length:
            raise ValueError("snappy block holds more than it claims")
    if len(out) != length:
        raise ValueError(f"snappy block holds {len(out)} bytes and claims {length}")
    return bytes(out)


def _repeat(out: bytearray, offset: int, size: int) -> None:
    """Append `size` bytes read from `offset` back; the source may overlap what is being written, as a run does."""
    start = len(out) - offset
    if offset >= size:
        out += out[start : start + size]
    else:
        pattern = bytes(out[start:])
        out += (pattern * (size // offset + 1))[:size]
