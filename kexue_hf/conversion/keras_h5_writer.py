"""Writes Keras 2 weight files (HDF5) that bert4keras' `model.load_weights` accepts.

Keras matches layers by their place in the file, so they come in the order in which Keras lists the layers of a model.
"""

import os
from collections.abc import Callable, Iterable

import h5py
import numpy as np

from kexue_hf.conversion.element_types import BY_NAME, ElementType
from kexue_hf.conversion.transfer import transfer
from kexue_hf.conversion.weight_source import WeightSource
from kexue_hf.conversion.weight_table import Move

# HDF5 keeps attributes in the object's header, which holds 64 KB; Keras splits longer ones, and so do we.
_ATTRIBUTE_LIMIT = 64_512


def write_keras(
    path: str | os.PathLike[str],
    source: WeightSource,
    moves: Iterable[Move],
    layers: Iterable[tuple[str, list[str]]],
    dtype: ElementType | None = None,
    on_bytes: Callable[[int], object] | None = None,
) -> int:
    """Write the moves' results, grouped into layers; return the bytes of the values.

    Args:
        layers: (layer, the names of its weights, which are targets of moves, in order).

    Others, and errors, as `write_safetensors`. HDF5 has no bfloat16: such tensors are widened to float32, exactly.
    """
    by_target = {move.target: move for move in moves}
    layers = list(layers)
    total = 0
    with h5py.File(path, "w") as file:
        _set_names(file, "layer_names", [layer for layer, _ in layers])
        file.attrs["backend"] = b"tensorflow"
        file.attrs["keras_version"] = b"2.3.1"
        for layer, names in layers:
            group = file.create_group(layer)
            _set_names(group, "weight_names", names)
            for name in names:
                move = by_target[name]
                kind = dtype or move.type
                kind = BY_NAME["float32"] if kind.name == "bfloat16" else kind
                values = np.empty(move.shape, dtype=kind.numpy)
                room, at = values.reshape(-1).view(np.uint8), 0
                for piece in transfer(source, move, kind):
                    room[at : at + len(piece)] = piece
                    at += len(piece)
                group.create_dataset(name, data=values)
                total += at
                if on_bytes:
                    on_bytes(at)
    with open(path, "rb") as written:
        os.fsync(written.fileno())
    return total


def _set_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Store a list of names as an attribute, in pieces name0, name1, ... where it is too long for one."""
    encoded = np.array([name.encode("utf-8") for name in names])
    pieces = 1
    while any(piece.nbytes > _ATTRIBUTE_LIMIT for piece in np.array_split(encoded, pieces)):
        pieces += 1
    if pieces == 1:
        group.attrs[attribute] = encoded
    else:
        for number, piece in enumerate(np.array_split(encoded, pieces)):
            group.attrs[f"{attribute}{number}"] = piece
