"""Compare a converted folder with its source, tensor by tensor, reading only the files."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from kexue_hf.conversion.convert import config_fields
from kexue_hf.conversion.exported_vocabulary import export_vocabulary
from kexue_hf.conversion.families import OtherFamilyError, described
from kexue_hf.conversion.formats.transfer import transfer
from kexue_hf.conversion.formats.weight_source import FLOATING, Move
from kexue_hf.conversion.missing_weights import missing_weights
from kexue_hf.conversion.open_source import OpenedSource, open_source
from kexue_hf.conversion.saved_folder import SavedFolder, open_folder
from kexue_hf.conversion.source import SourceConfig
from kexue_hf.conversion.weight_plan import canonical
from kexue_hf.errors import ConversionError, KexueError

_BLOCK = 1 << 24
# Settings that decide which weights exist and what a head reads.
_COMPARED = ("add_pooling_layer", "classifier_pooling", "pooling", "position_embedding_type")


@dataclass(frozen=True)
class VerificationReport:
    """The result of a comparison.

    `compared` counts the source's tensors. `differences` has a line for each difference, those of single values last;
    it is empty if the folder equals its source. Of `tensors`, `absent` are only in one, `unfit` differ in shape or
    type, and `changed` in values only. `missing` more, which config.json requires, are in neither.
    """

    compared: int
    differences: list[str]
    tensors: int
    absent: int
    unfit: int
    changed: int
    missing: int = 0

    @property
    def summary(self) -> str:
        """How many tensors differ, and whether training can be the reason."""
        counts = f"{self.absent + self.unfit + self.changed:,} of {self.tensors:,} tensors differ"
        if self.missing:
            return f"{counts}, and {self.missing:,} that config.json requires are in neither"
        if not self.changed or self.unfit:
            return counts
        if not self.absent:
            return f"{counts}, in their values only: the folder may have been trained since"
        return (
            f"{counts}: {self.absent:,} are only in one, the others differ in their values only; the folder may have "
            "been trained since, with another head"
        )


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
    with open_folder(folder) as saved:
        other = partial(_other_family, saved, against, config, vocab, head, keep_tokens)
        with _open_against(saved, against, config, vocab, head, keep_tokens, other) as source:
            if _sizes(saved.config) != _sizes(source.config) and (found := other()):
                raise _wrong_source(saved, against, found)
            return _compare_all(saved, source)


def _sizes(config: SourceConfig) -> dict[str, int]:
    """Return the sizes of the network, without that of the vocabulary, which can grow."""
    return {key: size for key, size in config.sizes.items() if key != "vocab_size"}


def _compare_all(saved: SavedFolder, source: OpenedSource) -> VerificationReport:
    moves = [*source.plan.moves, *source.plan.derived]
    known = {move.target for move in moves} | set(saved.weight_map.TWINS)
    own = {canonical(saved.weight_map, name, known): name for name in saved.weights.tensors}
    absent = [f"tensor {move.target} is missing from the folder" for move in moves if move.target not in own]
    unfit, changed = list[str](), list[str]()
    for move in moves:
        if move.target in own:
            difference, fits = _compare(saved, source, move, own[move.target])
            if difference:
                (changed if fits else unfit).append(difference)
    missing = [name for name in missing_weights(saved.raw, saved.weights.tensors) if name not in known]
    required = [f"tensor {name}, which config.json requires, is in neither" for name in missing]
    twins = {name: saved.weight_map.TWINS.get(full) for full, name in own.items()}
    tied = {name: own[twin] for name, twin in twins.items() if twin in own and own[twin] != name}
    changed += filter(None, (_twin_difference(saved, *names) for names in tied.items()))
    extra = sorted(set(own) - known)
    absent += [f"tensor {own[name]} is in the folder but not in the source" for name in extra]
    return VerificationReport(
        len(source.plan.moves),
        [
            *_compare_configs(saved, source),
            *_compare_vocabularies(saved, source),
            *absent,
            *required,
            *unfit,
            *changed,
        ],
        len(moves) + len(extra) + len(tied),
        len(absent),
        len(unfit),
        len(changed),
        len(missing),
    )


def _twin_difference(saved: SavedFolder, name: str, twin: str) -> str:
    """Return how a tensor differs from the one that it is stored beside and tied to; empty if it does not."""
    one, other = (saved.weights.tensors[each] for each in (name, twin))
    if one.shape == other.shape and one.type == other.type and one.type is not None:
        size = one.type.size * math.prod(one.shape)
        blocks = ((at, min(_BLOCK, size - at)) for at in range(0, size, _BLOCK))
        if all(saved.weights.read_bytes(name, *each) == saved.weights.read_bytes(twin, *each) for each in blocks):
            return ""
    return f"tensor {name} differs from {twin}, to which it is tied, so transformers would not tie them"


def _open_against(
    saved: SavedFolder,
    against: str | os.PathLike[str],
    config: str | os.PathLike[str] | None,
    vocab: str | os.PathLike[str] | None,
    head: str,
    keep_tokens: str | os.PathLike[str] | None,
    other: Callable[[], str | None],
) -> OpenedSource:
    family = saved.weight_map.FAMILY
    try:
        opened, _ = open_source(against, family=family, config=config, vocab=vocab, head=head, keep_tokens=keep_tokens)
        return opened
    except OtherFamilyError as error:
        raise _wrong_source(saved, against, error.found) from None
    except ConversionError:
        if (found := other()) is None:
            raise
        raise _wrong_source(saved, against, found) from None


def _other_family(
    saved: SavedFolder,
    against: str | os.PathLike[str],
    config: str | os.PathLike[str] | None,
    vocab: str | os.PathLike[str] | None,
    head: str,
    keep_tokens: str | os.PathLike[str] | None,
) -> str | None:
    """Return the description of the family that a source is recognised as; None if it is the folder's, or unknown.

    Some families accept checkpoints that look like another one, which then do not fit.
    """
    try:
        opened, _ = open_source(against, config=config, vocab=vocab, head=head, keep_tokens=keep_tokens)
    except KexueError:
        return None
    opened.weights.close()
    found = opened.weight_map.FAMILY
    return None if found == saved.weight_map.FAMILY else described(found)


def _wrong_source(saved: SavedFolder, against: str | os.PathLike[str], found: str) -> ConversionError:
    return ConversionError(
        f"{saved.path} is a {saved.weight_map.FAMILY}, but {against} looks like {found}: give the source of the folder"
    )


def _compare(saved: SavedFolder, source: OpenedSource, move: Move, name: str) -> tuple[str, bool]:
    """Return the difference of a tensor, empty if it has none, and whether its shape and type fit."""
    stored = saved.weights.tensors[name]
    if stored.shape != move.shape:
        return f"tensor {name} is {list(stored.shape)}, from the source {list(move.shape)}", False
    if stored.type is None or stored.type.name not in FLOATING:
        kind = stored.type.name if stored.type else "unknown"
        return f"tensor {name} has type {kind}, expected a floating-point type", False
    different = at = 0
    width = stored.type.size
    try:
        for chunk in transfer(source.weights, move, stored.type):
            saved_chunk = np.frombuffer(saved.weights.read_bytes(name, at, len(chunk)), dtype=np.uint8)
            unequal = (saved_chunk != np.frombuffer(chunk, dtype=np.uint8)).reshape(-1, width).any(axis=1)
            different += int(unequal.sum())
            at += len(chunk)
    except ConversionError as error:
        return str(error), False
    return (f"tensor {name}: {different:,} of {at // width:,} values differ" if different else ""), True


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
