"""Make checkpoints for the tests: hand-made bundles that use every feature of the format, and golden copies.

The bundles are built here from index messages, not by the package's writer, so that tests cover files that the writer
never makes: several shards, slices, foreign byte order.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from kexue_hf.conversion.formats.tensorflow import TensorFlowCheckpoint
from kexue_hf.conversion.formats.tensorflow_index import (
    BundleEntry,
    BundleHeader,
    build_table,
    encode_entry,
    encode_header,
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
    """Write a checkpoint with its tensors distributed over the shards in turn.

    Args:
        change: called with every entry before it is written. extra: additional rows of the index.
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


def read_all(prefix: Path | str) -> dict[str, np.ndarray]:
    with TensorFlowCheckpoint(prefix) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


def golden_copy(case: str, folder: Path) -> Path:
    """Copy the source files of a golden case into a folder, where tests may damage them."""
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
