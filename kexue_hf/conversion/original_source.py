"""Opens an original checkpoint, its configuration and its vocabulary as one source, checked against each other."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kexue_hf.conversion.derived_weights import add_constants
from kexue_hf.conversion.families import choose
from kexue_hf.conversion.formats.tensorflow import TensorFlowCheckpoint
from kexue_hf.conversion.formats.weight_source import WeightSource
from kexue_hf.conversion.kept_tokens import kept_vocabulary
from kexue_hf.conversion.keras_head import Head, check_kind
from kexue_hf.conversion.source import (
    SourceConfig,
    SourceFiles,
    SourceVocabulary,
    find_source,
    load_json_object,
    read_config,
    read_lines,
    read_vocabulary,
    source_vocabulary,
)
from kexue_hf.conversion.weight_table import Plan, WeightMap, plan_from_keras, plan_from_tensorflow
from kexue_hf.errors import InputError


@dataclass(frozen=True)
class OpenedSource:
    """A source that was read as far as its plan: all that can be wrong with it, apart from the values, is right.

    `lines` are the tokens of its vocabulary, without added ones.
    """

    files: SourceFiles
    weights: WeightSource
    table: WeightMap
    config: SourceConfig
    vocabulary: SourceVocabulary
    plan: Plan
    lines: list[str]

    def __enter__(self) -> "OpenedSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.weights.close()


def open_source(
    source: str | os.PathLike[str],
    *,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    task_names: Sequence[str] | None = None,
    head: str = "auto",
    keep_tokens: str | os.PathLike[str] | None = None,
) -> OpenedSource:
    """Open a source and match its tensors with the model's parameters. Arguments and errors as `convert`."""
    check_kind(head)
    files = find_source(source, config, vocab)
    raw = load_json_object(files.config)
    weights = _open_weights(files)
    try:
        table = choose(family, weights.tensors, raw)
        if task_names is not None and "num_tasks" not in table.CONFIG_READ_OFF:
            raise InputError(f"--task-names: {source} is a {table.FAMILY}, which has no tasks")
        settings = read_config(files.config, table, task_names)
        kept: list[str] | None = None
        if keep_tokens is not None:
            kept = kept_vocabulary(keep_tokens, read_lines(files.vocab, table))
            settings = replace(settings, fields=settings.fields | {"vocab_size": len(kept)})
        plan = _plan(weights, table, settings.sizes, head)
        if head not in ("auto", "none") and "classifier" not in plan.parts:
            raise InputError(f"--head {head}: {source} has no classifier")
        if kept is None:
            vocabulary = read_vocabulary(files.vocab, settings.fields["vocab_size"], table=table)
            lines = read_lines(files.vocab, table)
        else:
            vocabulary = source_vocabulary(
                files.vocab, {token: index for index, token in enumerate(kept)}, table=table
            )
            lines = kept
        weights = add_constants(weights, plan, table.CONSTANTS_SAVED, settings.sizes)
    except BaseException:
        weights.close()
        raise
    return OpenedSource(files, weights, table, settings, vocabulary, plan, lines)


def _open_weights(files: SourceFiles) -> WeightSource:
    if files.kind == "tensorflow":
        return TensorFlowCheckpoint(files.path)
    from kexue_hf.conversion.formats.keras import KerasWeights  # imports h5py

    return KerasWeights(files.path)


def _plan(weights: WeightSource, table: WeightMap, sizes: dict[str, int], head: str) -> Plan:
    layers = getattr(weights, "layers", None)
    if layers is not None:
        return plan_from_keras(table, weights.tensors, layers, sizes, head)
    tensors, left = dict(weights.tensors), []
    if head == "none":
        heads = {name for name, (own, _) in table.TENSORFLOW.items() if table.PARAMETERS[own][0] == "classifier"}
        left = [name for name in tensors if name in heads]
    plan = plan_from_tensorflow(table, {name: tensor for name, tensor in tensors.items() if name not in left}, sizes)
    plan.dropped += [(name, "left out (--head none)") for name in left]
    if head not in ("auto", "none"):
        plan.head = Head("output_weights", head, said=True)
    return plan


__all__ = ["OpenedSource", "open_source"]
