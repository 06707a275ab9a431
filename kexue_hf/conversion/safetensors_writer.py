"""Writes a safetensors file as a stream: the header first, then one tensor after another.

The safetensors package wants all tensors in memory at once. Format: 8 bytes little-endian length of the header, the
header (JSON: name -> dtype, shape, data_offsets), the values without gaps.
"""

import json
import math
import os
import struct
from collections.abc import Callable, Iterable
from typing import BinaryIO

from kexue_hf.conversion.element_types import ElementType
from kexue_hf.conversion.transfer import transfer
from kexue_hf.conversion.weight_source import WeightSource
from kexue_hf.conversion.weight_table import Move


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
