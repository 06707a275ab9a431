"""A HuggingFace folder of ours -> a TensorFlow checkpoint or Keras weights, for whoever still runs bert4keras."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kexue_hf.conversion.convert import element_type
from kexue_hf.conversion.derived_weights import add_constants
from kexue_hf.conversion.exported_vocabulary import export_vocabulary
from kexue_hf.conversion.formats.tensorflow import write_state_file, write_tensorflow
from kexue_hf.conversion.formats.transfer import progress_bar
from kexue_hf.conversion.formats.weight_source import WeightSource
from kexue_hf.conversion.saved_folder import FILES, SavedFolder, open_folder
from kexue_hf.conversion.source import HINTS
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.conversion.weight_table import Plan, WeightMap, plan_to_keras, plan_to_tensorflow
from kexue_hf.errors import ConversionError, InputError

CHECKPOINT = "bert_model.ckpt"
# tf.keras takes HDF5 only under the ending .h5, and newer ones another layout under .weights.h5.
KERAS_WEIGHTS = "best_model.h5"

# The originals compute with their own, and have no key for it.
_NOT_EXPORTED = ("layer_norm_eps",)


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote: the checkpoint's path, what went into it, what was left behind, how it is loaded."""

    output: Path
    checkpoint: Path
    family: str
    mapped: int
    dropped: list[tuple[str, str]]
    parameters: int
    seconds: float
    usage: str
    notes: list[str] = field(default_factory=list)


def export(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    to: str = "tf",
    *,
    dtype: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> ExportReport:
    """Write a folder back in the original format, with `bert_config.json` and `vocab.txt` beside the weights.

    Tokens that were added to the tokenizer become lines of `vocab.txt`; what the format cannot say is in the notes.

    Args:
        folder: what `convert` or `save_pretrained` wrote.
        output: the folder to make.
        to: "tf" (bert_model.ckpt.*) or "keras" (best_model.h5).
        dtype, overwrite, progress: as in `convert`.

    Raises:
        InputError, CheckpointError, ConversionError, OutputError: as `convert`.
    """
    started = time.perf_counter()
    if to not in ("tf", "keras"):
        raise InputError(f"--to {to}: choose tf or keras")
    check_output(output, overwrite=overwrite)
    wanted = element_type(dtype)
    with open_folder(folder) as saved:
        tensors, sizes = saved.weights.tensors, saved.config.sizes
        weights: WeightSource = saved.weights
        if saved.raw.get("tie_word_embeddings") is False:
            raise ConversionError(
                f"{folder}: has an output layer of its own (tie_word_embeddings false); the original format has only "
                "the one that is shared with the word embeddings"
            )
        _check_settings(saved)
        if to == "tf":
            plan = plan_to_tensorflow(saved.table, tensors, sizes)
            weights = add_constants(saved.weights, plan, saved.table.CONSTANTS_TENSORFLOW, sizes)
        else:
            plan, layers = plan_to_keras(saved.table, tensors, sizes)
            weights = _add_keras_constants(saved, plan, layers)
        vocabulary = export_vocabulary(saved)
        total = sum(tensors[move.source].size for move in plan.moves)
        name = CHECKPOINT if to == "tf" else KERAS_WEIGHTS
        sources = (
            saved.path,
            *saved.weights.files,
            *(saved.path / name for name in ("config.json", "vocab.txt", *FILES)),
        )
        with staged_folder(output, overwrite=overwrite, need=total, keep=sources) as stage:
            with progress_bar(total, show=progress) as on_bytes:
                if to == "tf":
                    write_tensorflow(stage / name, weights, [*plan.moves, *plan.constants], wanted, on_bytes)
                    write_state_file(stage / name)
                else:
                    from kexue_hf.conversion.formats.keras import write_keras  # imports h5py

                    moved = [*plan.moves, *plan.constants]
                    write_keras(stage / name, weights, moved, layers, wanted, on_bytes)
            text = json.dumps(_bert_config(saved), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
            (stage / "bert_config.json").write_text(text, encoding="utf-8")
            (stage / "vocab.txt").write_bytes(vocabulary.content)
        return ExportReport(
            Path(output),
            Path(output) / name,
            saved.table.FAMILY,
            len(plan.moves),
            plan.dropped,
            plan.parameters,
            time.perf_counter() - started,
            _usage(Path(output), to, plan.parts, saved.table),
            _notes(saved, [move.target for move in plan.constants] if to == "tf" else []) + vocabulary.notes,
        )


def _check_settings(saved: SavedFolder) -> None:
    for key, value in saved.table.CONFIG_FIXED.items():
        if saved.raw.get(key, value) != value:
            raise ConversionError(
                f"{saved.path / 'config.json'}: {key} is {saved.raw[key]!r}; {saved.table.ORIGINAL} has only {value!r}"
            )


def _bert_config(saved: SavedFolder) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in reversed(saved.table.ACTIVATIONS.items())}
    fields = {key: value for key, value in saved.config.fields.items() if key not in _NOT_EXPORTED}
    fields["hidden_act"] = names[fields["hidden_act"]]
    return fields | saved.table.CONFIG_TELLING | {key: saved.raw[key] for key in HINTS if saved.raw.get(key)}


def _add_keras_constants(saved: SavedFolder, plan: Plan, layers: list[tuple[str, list[str]]]) -> WeightSource:
    """Let the constants of the original's layers be part of the plan: Keras reads layers by their place."""
    names = {f"{layer}/embeddings:0": function for layer, function in saved.table.CONSTANTS_KERAS.items()}
    place = next(number for number, (layer, _) in enumerate(layers) if layer.startswith("Transformer-"))
    layers[place:place] = [(name.partition("/")[0], [name]) for name in names]
    return add_constants(saved.weights, plan, names, saved.config.sizes)


def _usage(output: Path, to: str, parts: frozenset[str], table: WeightMap) -> str:
    if not table.KERAS:
        return "\n".join(
            (
                f"  # with {table.ORIGINAL}, on TensorFlow 1",
                f'  config = modeling.BertConfig.from_json_file("{output}/bert_config.json")',
                "  model = modeling.BertModel(config, False, input_ids=input_ids, input_mask=input_mask)",
                f'  tf.train.Saver().restore(session, "{output}/{CHECKPOINT}")',
            )
        )
    switches = {"pooler": "with_pool", "nsp": "with_nsp", "mlm": "with_mlm"}
    heads = "".join(f", {switch}=True" for part, switch in switches.items() if part in parts)
    lines = ["  from bert4keras.models import build_transformer_model"]
    arguments = f'"{output}/bert_config.json"'
    if to == "tf":
        arguments += f', "{output}/{CHECKPOINT}"'
    # A matcher with a table of positions is a BERT's.
    model = "bert" if "positions" in parts else table.KERAS_MODEL
    if model != "bert":
        arguments += f', model="{model}"'
    lines.append(f"  model = build_transformer_model({arguments}{heads})")
    if to == "tf":
        return "\n".join(lines)
    if table.KERAS_NUMBERED:
        lines[-1:] = _CONDITIONED.format(arguments=arguments).splitlines()
    if "classifier" in parts:
        lines.append("  model = ...  # with your script's own Dense layer on top")
    return "\n".join([*lines, f'  model.load_weights("{output}/{KERAS_WEIGHTS}")'])


_CONDITIONED = """\
  c_in = keras.layers.Input(shape=(1,))
  c = ...  # with your script's own Embedding of the task
  model = build_transformer_model({arguments}, layer_norm_cond=c, additional_input_layers=c_in)"""


def _notes(saved: SavedFolder, zeros: list[str]) -> list[str]:
    notes = []
    if zeros:
        notes.append(
            f"{' and '.join(zeros)} are written as zeros: {saved.table.ORIGINAL} has them in its graph, without a use"
        )
    epsilon = saved.config.fields["layer_norm_eps"]
    if epsilon == saved.table.CONFIG_OPTIONAL["layer_norm_eps"]:
        return notes
    return [*notes, f"layer_norm_eps is {epsilon}; {saved.table.ORIGINAL} computes with its own 1e-12"]
