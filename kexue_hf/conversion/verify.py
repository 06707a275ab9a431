"""Compares a converted folder with its source, tensor by tensor, from the files alone."""

import os
from dataclasses import dataclass

import numpy as np

from kexue_hf.conversion.any_source import open_any
from kexue_hf.conversion.convert import config_fields
from kexue_hf.conversion.exported_vocabulary import export_vocabulary
from kexue_hf.conversion.families import OtherFamilyError
from kexue_hf.conversion.formats.transfer import transfer
from kexue_hf.conversion.formats.weight_source import FLOATING
from kexue_hf.conversion.missing_weights import missing_weights
from kexue_hf.conversion.original_source import OpenedSource
from kexue_hf.conversion.saved_folder import SavedFolder, open_folder
from kexue_hf.conversion.formats.weight_source import Move
from kexue_hf.conversion.weight_table import canonical
from kexue_hf.errors import ConversionError

# Settings that decide which weights there are and what a head reads.
_COMPARED = ("add_pooling_layer", "classifier_pooling", "pooling", "position_embedding_type")


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
    head: str = "auto",
    keep_tokens: str | os.PathLike[str] | None = None,
) -> VerificationReport:
    """Convert `against` again, in memory and piece by piece, and compare with `folder`.

    Values have to be equal bit for bit; where the folder holds another floating-point type, equal to the source's
    values cast to it. The configuration and the vocabulary have to agree as well. `config`, `vocab`, `head` and
    `keep_tokens` are what `convert` was given.

    Raises:
        InputError, CheckpointError, ConversionError: one of the two cannot be read at all.
    """
    with open_folder(folder) as saved, _open_against(saved, against, config, vocab, head, keep_tokens) as source:
        differences = _compare_configs(saved, source) + _compare_vocabularies(saved, source)
        moved = [*source.plan.moves, *source.plan.constants]
        known = {move.target for move in moved} | set(saved.table.TWINS)
        own = {canonical(saved.table, name, known): name for name in saved.weights.tensors}
        for move in moved:
            differences += _compare(saved, source, move, own.get(move.target))
        absent = [name for name in missing_weights(saved.raw, saved.weights.tensors) if name not in known]
        differences += [f"tensor {name}, which config.json asks for, is in neither" for name in absent]
        extra = sorted(set(own) - known)
        differences += [f"tensor {own[name]} is in the folder and not in the source" for name in extra]
        return VerificationReport(len(source.plan.moves), differences)


def _open_against(
    saved: SavedFolder,
    against: str | os.PathLike[str],
    config: str | os.PathLike[str] | None,
    vocab: str | os.PathLike[str] | None,
    head: str,
    keep_tokens: str | os.PathLike[str] | None,
) -> OpenedSource:
    family = saved.table.FAMILY
    try:
        opened, _ = open_any(against, family=family, config=config, vocab=vocab, head=head, keep_tokens=keep_tokens)
        return opened
    except OtherFamilyError as error:
        raise ConversionError(
            f"{saved.path} is a {family}, and {against} looks like {error.found}: it was not made from it"
        ) from None


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
    fixed = saved.table.CONFIG_FIXED
    derived, _ = config_fields(source, None)
    return (
        [
            f"config.json: {key} is {saved.raw[key]!r}, from the source {value!r}"
            for key, value in fixed.items()
            if saved.raw.get(key, value) != value
        ]
        + [
            f"config.json: {key} is {saved.config.fields[key]!r}, from the source {value!r}"
            for key, value in source.config.fields.items()
            if saved.config.fields[key] != value
        ]
        + [
            f"config.json: {key} is {saved.raw[key]!r}, from the source {derived[key]!r}"
            for key in _COMPARED
            if key in derived and saved.raw.get(key, derived[key]) != derived[key]
            # Without a classifier nothing reads it.
            if key != "classifier_pooling" or "classifier" in source.plan.parts
        ]
    )


def _compare_vocabularies(saved: SavedFolder, source: OpenedSource) -> list[str]:
    """A model that has grown since may be the source's: as `export` writes it out, added tokens and all."""
    if saved.config.fields["vocab_size"] != source.config.fields["vocab_size"]:
        return []  # Reported already; and a size that no tensor has confirmed is not to be trusted.
    expected, recorded = source.vocabulary.fingerprint, saved.raw.get("vocab_fingerprint")
    try:
        found = export_vocabulary(saved)
    except ConversionError as error:
        return [str(error)]
    differences = []
    if recorded not in (expected, found.own_fingerprint if found.fingerprint == expected else expected):
        differences.append(f"config.json: vocab_fingerprint is {recorded}, from the source {expected}")
    if expected not in (found.fingerprint, found.own_fingerprint):
        differences.append(f"{saved.path / 'vocab.txt'}: another vocabulary than the source's")
    return differences
