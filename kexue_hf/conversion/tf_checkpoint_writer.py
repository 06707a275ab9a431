"""Writes a TensorFlow checkpoint (tensor bundle) that TensorFlow itself loads: one data file and its index."""

import os
from collections.abc import Callable, Iterable

from crc32c import crc32c

from kexue_hf.conversion.bundle_messages import BundleEntry, BundleHeader, encode_entry, encode_header
from kexue_hf.conversion.checksum import mask
from kexue_hf.conversion.element_types import ElementType
from kexue_hf.conversion.safetensors_writer import write_all
from kexue_hf.conversion.sorted_table import build_table
from kexue_hf.conversion.transfer import transfer
from kexue_hf.conversion.weight_source import WeightSource
from kexue_hf.conversion.weight_table import Move


def write_tensorflow(
    prefix: str | os.PathLike[str],
    source: WeightSource,
    moves: Iterable[Move],
    dtype: ElementType | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> int:
    """Write the moves' results to `prefix`.index and `prefix`.data-00000-of-00001; return the bytes of data.

    Arguments and errors as `write_safetensors`. The index is written last: without it there is no checkpoint.
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
    """Write the file `checkpoint` beside a checkpoint: the text in which TensorFlow looks up the latest one."""
    folder, name = os.path.split(os.fspath(prefix))
    with open(os.path.join(folder, "checkpoint"), "w", encoding="utf-8") as file:
        file.write(f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n')
