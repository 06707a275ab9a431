"""Compare a converted folder with its source, tensor by tensor, reading only the files."""

import os
from dataclasses import dataclass

import numpy as np

from kexue_hf.conversion.convert import config_fields
from kexue_hf.conversion.exported_vocabulary import export_vocabulary
from kexue_hf.conversion.families import OtherFamilyError
from kexue_hf.conversion.formats.transfer import transfer
from kexue_hf.conversion.formats.weight_source import FLOATING, Move
from kexue_hf.conversion.missing_weights import missing_weights
from kexue_hf.conversion.open_source import OpenedSource, open_source
from kexue_hf.conversion.saved_folder import SavedFolder, open_folder
from kexue_hf.conversion.weight_plan import canonical
from kexue_hf.errors import ConversionError

# Settings that decide which weights exist and what a head reads.
_COMPARED = ("add_pooling_layer", "classifier_pooling", "pooling", "position_embedding_type")


@dataclass(frozen=True)
class VerificationReport:
    """The number of tensors compared, and one line per difference (empty if the folder equals its source)."""

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
    """Convert `against` again, in memory and in chunks, and compare the result with `folder`.

    Values must be equal bit for bit. Where the folder has another floating-point type, they must equal the source's
    values cast to that type. The configuration and the vocabulary must agree too.

    Args:
        folder: the converted folder.
        against: its source.
        config, vocab, head, keep_tokens: the arguments that `convert` was given.

    Raises:
        InputError, CheckpointError, ConversionError: one of the two cannot be read.
    """
    with open_folder(folder) as saved, _open_against(saved, against, config, vocab, head, keep_tokens) as source:
        differences = _compare_configs(saved, source) + _compare_vocabularies(saved, source)
        moves = [*source.plan.moves, *source.plan.derived]
        known = {move.target for move in moves} | set(saved.weight_map.TWINS)
        own = {canonical(saved.weight_map, name, known): name for name in saved.weights.tensors}
        for move in moves:
            differences += _compare(saved, source, move, own.get(move.target))
        missing = [name for name in missing_weights(saved.raw, saved.weights.tensors) if name not in known]
        differences += [f"tensor {name}, which config.json requires, is in neither" for name in missing]
        extra = sorted(set(own) - known)
        differences += [f"tensor {own[name]} is in the folder but not in the source" for name in extra]
        return VerificationReport(len(source.plan.moves), differences)


def _open_against(
    saved: SavedFolder,
    against: str | os.PathLike[str],
    config: str | os.PathLike[str] | None,
    vocab: str | os.PathLike[str] | None,
    head: str,
    keep_tokens: str | os.PathLike[str] | None,
) -> OpenedSource:
    family = saved.weight_map.FAMILY
    try:
        opened, _ = open_source(against, family=family, config=config, vocab=vocab, head=head, keep_tokens=keep_tokens)
        return opened
    except OtherFamilyError as error:
        raise ConversionError(
            f"{saved.path} is a {family}, but {against} looks like {error.found}: give the source of the folder"
        ) from None


def _compare(saved: SavedFolder, source: OpenedSource, move: Move, name: str | None) -> list[str]:
    if name is None:
        return [f"tensor {move.target} is missing from the folder"]
    stored = saved.weights.tensors[name]
    if stored.shape != move.shape:
        return [f"tensor {name} is {list(stored.shape)}, from the source {list(move.shape)}"]
    if stored.type is None or stored.type.name not in FLOATING:
        kind = stored.type.name if stored.type else "unknown"
        return [f"tensor {name} has type {kind}, expected a floating-point type"]
    different = at = 0
    width = stored.type.size
    try:
        for chunk in transfer(source.weights, move, stored.type):
            saved_chunk = np.frombuffer(saved.weights.read_bytes(name, at, len(chunk)), dtype=np.uint8)
            unequal = (saved_chunk != np.frombuffer(chunk, dtype=np.uint8)).reshape(-1, width).any(axis=1)
            different += int(unequal.sum())
            at += len(chunk)
    except ConversionError as error:
        return [str(error)]
    return [f"tensor {name}: {different:,} of {at // width:,} values differ"] if different else []


def _compare_configs(saved: SavedFolder, source: OpenedSource) -> list[str]:
    fixed = saved.weight_map.CONFIG_FIXED
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
            # Only a classifier reads it.
            if key != "classifier_pooling" or "classifier" in source.plan.parts
        ]
    )


def _compare_vocabularies(saved: SavedFolder, source: OpenedSource) -> list[str]:
    """Compare the source's vocabulary with the folder's, with and without the tokens that were added since."""
    if saved.config.fields["vocab_size"] != source.config.fields["vocab_size"]:
        return []  # Reported already. An unconfirmed size must not decide how much memory to use.
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
