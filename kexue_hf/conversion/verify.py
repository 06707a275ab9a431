"""Compares a converted folder with its source, tensor by tensor, from the files alone."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kexue_hf.conversion.convert import OpenedSource, open_source
from kexue_hf.conversion.element_types import FLOATING
from kexue_hf.conversion.saved_folder import SavedFolder, open_folder
from kexue_hf.conversion.saved_vocabulary import read_vocabulary
from kexue_hf.conversion.transfer import transfer
from kexue_hf.conversion.weight_table import Move, canonical
from kexue_hf.errors import ConversionError


@dataclass(frozen=True)
class VerificationReport:
    """How many tensors were compared, and every difference as a line; none if the folder equals its source."""

    compared: int
    differences: list[str]


def verify(
    folder: str | os.PathLike[str],
    against: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
) -> VerificationReport:
    """Convert `against` again, in memory and piece by piece, and compare with `folder`.

    Values have to be equal bit for bit; where the folder holds another floating-point type, equal to the source's
    values cast to it. The configuration and the vocabulary have to agree as well.

    Raises:
        InputError, CheckpointError, ConversionError: one of the two cannot be read at all.
    """
    with open_folder(folder) as saved:
        family = saved.table.FAMILY
        with open_source(against, family=family, config=config, vocab=vocab) as source:
            differences = _compare_configs(saved, source) + _compare_vocabularies(saved, source)
            known = {move.target for move in source.plan.moves} | set(saved.table.TWINS)
            own = {canonical(saved.table, name, known): name for name in saved.weights.tensors}
            for move in source.plan.moves:
                differences += _compare(saved, source, move, own.get(move.target))
            extra = sorted(set(own) - known)
            differences += [f"tensor {own[name]} is in the folder and not in the source" for name in extra]
            return VerificationReport(len(source.plan.moves), differences)


def _compare(saved: SavedFolder, source: OpenedSource, move: Move, name: str | None) -> list[str]:
    if name is None:
        return [f"tensor {move.target} is missing in the folder"]
    stored = saved.weights.tensors[name]
    if stored.shape != move.shape:
        return [f"tensor {name} is {list(stored.shape)}, from the source {list(move.shape)}"]
    if stored.type is None or stored.type.name not in FLOATING:
        return [f"tensor {name} has type {stored.type.name if stored.type else 'unknown'}, no floating-point type"]
    different = at = 0
    width = stored.type.size
    try:
        for piece in transfer(source.weights, move, stored.type):
            there = np.frombuffer(saved.weights.read_bytes(name, at, len(piece)), dtype=np.uint8)
            unequal = (there != np.frombuffer(piece, dtype=np.uint8)).reshape(-1, width).any(axis=1)
            different += int(unequal.sum())
            at += len(piece)
    except ConversionError as error:
        return [str(error)]
    return [f"tensor {name}: {different:,} of {at // width:,} values differ"] if different else []


def _compare_configs(saved: SavedFolder, source: OpenedSource) -> list[str]:
    return [
        f"config.json: {key} is {saved.config.fields[key]!r}, from the source {value!r}"
        for key, value in source.config.fields.items()
        if saved.config.fields[key] != value
    ]


def _compare_vocabularies(saved: SavedFolder, source: OpenedSource) -> list[str]:
    differences = []
    expected = source.vocabulary.fingerprint
    recorded = saved.raw.get("vocab_fingerprint")
    if recorded != expected:
        differences.append(f"config.json: vocab_fingerprint is {recorded}, from the source {expected}")
    path = Path(saved.path) / "vocab.txt"
    try:
        found = read_vocabulary(path, saved.config.fields["vocab_size"]).fingerprint
    except ConversionError as error:
        return [*differences, str(error)]
    if found != expected:
        differences.append(f"{path}: another vocabulary than the source's")
    return differences
