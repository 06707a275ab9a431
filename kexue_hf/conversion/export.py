"""Export a HuggingFace folder to a TensorFlow checkpoint or to Keras weights, for use with bert4keras."""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kexue_hf.conversion.convert import element_type
from kexue_hf.conversion.derived_weights import add_derived_weights
from kexue_hf.conversion.exported_vocabulary import export_vocabulary
from kexue_hf.conversion.formats.tensorflow import write_state_file, write_tensorflow
from kexue_hf.conversion.formats.transfer import progress_bar
from kexue_hf.conversion.formats.weight_source import WeightSource
from kexue_hf.conversion.saved_folder import FILES, SavedFolder, open_folder
from kexue_hf.conversion.source import HINTS
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.conversion.weight_plan import Plan, plan_to_keras, plan_to_tensorflow
from kexue_hf.errors import ConversionError, InputError

CHECKPOINT = "bert_model.ckpt"
# tf.keras reads HDF5 only from .h5 files. Newer versions expect another layout in .weights.h5.
KERAS_WEIGHTS = "best_model.h5"

# The originals have no key for it and use a constant.
_NOT_EXPORTED = ("layer_norm_eps",)


@dataclass(frozen=True)
class ExportReport:
    """The result of an export. `usage` is the code that loads it; other fields as in `ConversionReport`."""

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
    """Write a folder in the original format, with `bert_config.json` and `vocab.txt` beside the weights.

    Tokens that were added to the tokenizer become lines of `vocab.txt`. The notes list what the format cannot store.

    Args:
        folder: a folder that `convert` or `save_pretrained` wrote.
        output: the folder to write.
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
                f"{folder}: expected an output layer tied to the word embeddings, as the original format has it, but "
                "tie_word_embeddings is false; tie them and save the model again"
            )
        _check_settings(saved)
        if to == "tf":
            plan = plan_to_tensorflow(saved.weight_map, tensors, sizes)
            weights = add_derived_weights(saved.weights, plan, saved.weight_map.DERIVED_TENSORFLOW, sizes)
        else:
            plan, layers = plan_to_keras(saved.weight_map, tensors, sizes)
            weights = _add_keras_layers(saved, plan, layers)
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
                    write_tensorflow(stage / name, weights, [*plan.moves, *plan.derived], wanted, on_bytes)
                    write_state_file(stage / name)
                else:
                    from kexue_hf.conversion.formats.keras import write_keras  # imports h5py

                    moves = [*plan.moves, *plan.derived]
                    write_keras(stage / name, weights, moves, layers, wanted, on_bytes)
            text = json.dumps(_bert_config(saved), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
            (stage / "bert_config.json").write_text(text, encoding="utf-8")
            (stage / "vocab.txt").write_bytes(vocabulary.content)
        return ExportReport(
            Path(output),
            Path(output) / name,
            saved.weight_map.FAMILY,
            len(plan.moves),
            plan.dropped,
            plan.parameters,
            time.perf_counter() - started,
            _usage(Path(output), to, plan.parts, saved.weight_map),
            _notes(saved, [move.target for move in plan.derived] if to == "tf" else []) + vocabulary.notes,
        )


def _check_settings(saved: SavedFolder) -> None:
    for key, value in saved.weight_map.CONFIG_FIXED.items():
        if saved.raw.get(key, value) != value:
            raise ConversionError(
                f"{saved.path / 'config.json'}: {key} is {saved.raw[key]!r}, expected {value!r}: "
                f"{saved.weight_map.ORIGINAL} has no other"
            )


def _bert_config(saved: SavedFolder) -> dict[str, Any]:
    names = {ours: theirs for theirs, ours in reversed(saved.weight_map.ACTIVATIONS.items())}
    fields = {key: value for key, value in saved.config.fields.items() if key not in _NOT_EXPORTED}
    fields["hidden_act"] = names[fields["hidden_act"]]
    return fields | saved.weight_map.CONFIG_TELLING | {key: saved.raw[key] for key in HINTS if saved.raw.get(key)}


def _add_keras_layers(saved: SavedFolder, plan: Plan, layers: list[tuple[str, list[str]]]) -> WeightSource:
    """Add the original's layers of derived weights to the plan, in front of the encoder: Keras matches by position."""
    names = {f"{layer}/embeddings:0": function for layer, function in saved.weight_map.DERIVED_KERAS.items()}
    place = next(number for number, (layer, _) in enumerate(layers) if layer.startswith("Transformer-"))
    layers[place:place] = [(name.partition("/")[0], [name]) for name in names]
    return add_derived_weights(saved.weights, plan, names, saved.config.sizes)


def _usage(output: Path, to: str, parts: frozenset[str], weight_map: WeightMap) -> str:
    if not weight_map.KERAS:
        return "\n".join(
            (
                f"  # with {weight_map.ORIGINAL}, on TensorFlow 1",
                f'  config = modeling.BertConfig.from_json_file("{output}/bert_config.json")',
                "  model = modeling.BertModel(config, False, input_ids=input_ids, input_mask=input_mask)",
                f'  tf.train.Saver().restore(session, "{output}/{CHECKPOINT}")',
            )
        )
    switches = {"pooler": "with_pool", "nsp": "with_nsp", "mlm": "with_mlm"}
    task = ', application="lm"' if weight_map.CONFIG_FIXED.get("is_decoder") else ""
    heads = task + "".join(f", {switch}=True" for part, switch in switches.items() if part in parts)
    lines = ["  from bert4keras.models import build_transformer_model"]
    arguments = f'"{output}/bert_config.json"'
    if to == "tf":
        arguments += f', "{output}/{CHECKPOINT}"'
    # A matcher with position embeddings has a BERT encoder.
    model = "bert" if "positions" in parts else weight_map.KERAS_MODEL
    if model != "bert":
        arguments += f', model="{model}"'
    lines.append(f"  model = build_transformer_model({arguments}{heads})")
    if to == "tf":
        return "\n".join(lines)
    if weight_map.KERAS_NUMBERED:
        lines[-1:] = _CONDITIONED.format(arguments=arguments).splitlines()
    if "classifier" in parts:
        lines.append("  model = ...  # add your script's Dense layer on top")
    return "\n".join([*lines, f'  model.load_weights("{output}/{KERAS_WEIGHTS}")'])


_CONDITIONED = """\
  c_in = keras.layers.Input(shape=(1,))
  c = ...  # your script's Embedding of the task
  model = build_transformer_model({arguments}, layer_norm_cond=c, additional_input_layers=c_in)"""


def _notes(saved: SavedFolder, zeros: list[str]) -> list[str]:
    notes = []
    if zeros:
        notes.append(
            f"{' and '.join(zeros)} are written as zeros: {saved.weight_map.ORIGINAL} has them in its graph but does "
            "not use them"
        )
    epsilon = saved.config.fields["layer_norm_eps"]
    if epsilon == saved.weight_map.CONFIG_OPTIONAL["layer_norm_eps"]:
        return notes
    return [*notes, f"layer_norm_eps is {epsilon}, but {saved.weight_map.ORIGINAL} always uses 1e-12"]
