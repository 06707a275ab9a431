"""Checkpoints for the tests: hand-made ones with every freedom of the format, and copies of the golden ones.

The bundle is put together here from the messages on, apart from the package's own writer, so that the reader is also
tested on what that writer never writes: several shards, compressed blocks, slices, foreign byte order.
"""

import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from kexue_hf.conversion.formats.tensorflow import TensorFlowCheckpoint
from kexue_hf.conversion.formats.tensorflow_index import (
    MAGIC,
    BundleEntry,
    BundleHeader,
    build_table,
    encode_entry,
    encode_header,
    write_varint,
)
from kexue_hf.conversion.formats.weight_source import BY_NAME

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CONVERTED = ("wobert_tf_ckpt", "wobert_mlm_only_tf_ckpt", "wobert_keras_h5", "wonezha_tf_ckpt", "roformer_tf_ckpt")

Tensors = Mapping[str, tuple[str, np.ndarray]]
"""name -> (name of the element type, values in its storage type)"""


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def make_bundle(
    prefix: Path,
    tensors: Tensors,
    shards: int = 1,
    header: BundleHeader | None = None,
    change: Callable[[str, BundleEntry], object] | None = None,
    extra: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write a checkpoint, its tensors dealt out to the shards in turn.

    Args:
        change: called with every entry before it is written. extra: more rows of the index.
    """
    data = [bytearray() for _ in range(shards)]
    rows = {b"": encode_header(header or BundleHeader(shards=shards))} | dict(extra or {})
    for number, (name, (kind, values)) in enumerate(tensors.items()):
        raw, shard = values.tobytes(), number % shards
        entry = BundleEntry(
            dtype=BY_NAME[kind].tensorflow,
            shape=list(values.shape),
            shard=shard,
            offset=len(data[shard]),
            size=len(raw),
            crc=masked(raw),
        )
        if change:
            change(name, entry)
        data[shard] += raw
        rows[name.encode()] = encode_entry(entry)
    for shard, raw in enumerate(data):
        Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}").write_bytes(raw)
    Path(f"{prefix}.index").write_bytes(build_table(sorted(rows.items())))


def compressed_table(rows: list[tuple[bytes, bytes]], compress: Callable[[bytes], bytes]) -> bytes:
    """A table of one data block, which `compress` has compressed."""
    block = b"".join(
        write_varint(0) + write_varint(len(key)) + write_varint(len(value)) + key + value for key, value in rows
    ) + struct.pack("<II", 0, 1)
    packed = compress(block)
    table = packed + b"\x01" + struct.pack("<I", masked(packed + b"\x01"))
    place = write_varint(0) + write_varint(len(packed))
    index = write_varint(0) + write_varint(1) + write_varint(len(place)) + b"z" + place + struct.pack("<II", 0, 1)
    offset = len(table)
    table += index + b"\0" + struct.pack("<I", masked(index + b"\0"))
    footer = write_varint(0) + write_varint(0) + write_varint(offset) + write_varint(len(index))
    return table + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def literal_snappy(data: bytes) -> bytes:
    """Valid snappy that copies nothing: literals of at most 60 bytes."""
    out = bytearray(write_varint(len(data)))
    for start in range(0, len(data), 60):
        piece = data[start : start + 60]
        out += bytes([(len(piece) - 1) << 2]) + piece
    return bytes(out)


def read_all(prefix: Path | str) -> dict[str, np.ndarray]:
    with TensorFlowCheckpoint(prefix) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


def golden_copy(case: str, folder: Path) -> Path:
    """A golden case's source files, in a folder of their own where they may be damaged."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (GOLDEN / case).iterdir():
        if path.suffix not in (".npz",) and path.name != "case.json":
            shutil.copyfile(path, folder / path.name)
    return folder


def edit_bundle(prefix: Path, edit: Callable[[dict[str, tuple[str, np.ndarray]]], Any]) -> None:
    """Read a checkpoint, let `edit` change its tensors, and write it again."""
    with TensorFlowCheckpoint(prefix) as checkpoint:
        tensors = {
            name: (tensor.type.name, checkpoint.read(name))
            for name, tensor in checkpoint.tensors.items()
            if tensor.type
        }
    edit(tensors)
    make_bundle(prefix, tensors)
