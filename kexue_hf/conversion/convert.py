"""TensorFlow checkpoint or Keras weights -> a HuggingFace folder, without TensorFlow, torch or transformers.

Strict: every tensor is mapped or dropped on purpose, checksums are verified, shapes and the vocabulary are compared
with the configuration; and the folder appears whole or not at all.
"""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kexue_hf.conversion.constants import add_constants
from kexue_hf.conversion.element_types import BY_NAME, ElementType
from kexue_hf.conversion.families import choose
from kexue_hf.conversion.model_card import auto_class, check_language, check_license, conversion, model_card
from kexue_hf.conversion.progress import progress_bar
from kexue_hf.conversion.python_files import auto_map, python_files, references
from kexue_hf.conversion.safetensors_writer import write_safetensors
from kexue_hf.conversion.saved_vocabulary import (
    SourceVocabulary,
    language_of,
    read_lines,
    read_vocabulary,
    repeated_lines,
)
from kexue_hf.conversion.source_config import SourceConfig, load_json_object, read_config
from kexue_hf.conversion.source_files import SourceFiles, find_source
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.conversion.tf_checkpoint_reader import TensorFlowCheckpoint
from kexue_hf.conversion.weight_source import WeightSource
from kexue_hf.conversion.weight_table import Plan, WeightMap, plan_from_keras, plan_from_tensorflow
from kexue_hf.errors import InputError

DTYPES = ("float32", "float16", "bfloat16")
# The special tokens, besides [PAD], whose ids a configuration holds.
_AROUND = ("bos_token", "eos_token")


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did: where the result lies, which family, what went into it and what was left behind."""

    output: Path
    family: str
    architecture: str
    auto_class: str
    mapped: int
    dropped: list[tuple[str, str]]
    parameters: int
    bytes: int
    seconds: float
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class OpenedSource:
    """A source that was read as far as its plan: all that can be wrong with it, apart from the values, is right."""

    files: SourceFiles
    weights: WeightSource
    table: WeightMap
    config: SourceConfig
    vocabulary: SourceVocabulary
    plan: Plan

    def __enter__(self) -> "OpenedSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.weights.close()


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    task_names: Sequence[str] | None = None,
    dtype: str | None = None,
    license: str | None = None,
    language: str | None = None,
    cased: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> ConversionReport:
    """Convert a checkpoint into a folder that every Auto class loads.

    Args:
        source: a folder as the originals unpack, a TensorFlow checkpoint prefix, or a Keras weight file.
        output: the folder to make.
        family: "auto", or the family that the checkpoint has to be of.
        config, vocab: the configuration and the vocabulary, where they do not lie beside the checkpoint.
        task_names: what a matcher's tasks are called, in the order of their ids; None for what the configuration says.
        dtype: "float32", "float16" or "bfloat16"; None keeps every tensor as it is stored, bit for bit.
        license: what the card says, as the Hub spells it ("apache-2.0").
        language: what the card says, as the Hub spells it ("en"); None for what the vocabulary looks like.
        cased: the vocabulary tells capitals apart: the tokenizer is not to lower-case.
        overwrite: replace a model folder at `output`, when the new one is complete.
        progress: show a bar on stderr.

    Raises:
        CheckpointError: the source is missing, damaged, or of another kind.
        ConversionError: the source does not fit a model of the family, its configuration, or its vocabulary.
        InputError: an argument is wrong, or does not decide between several files.
        OutputError: the result cannot be written. Whatever is raised, nothing new is at `output`.
    """
    started = time.perf_counter()
    check_output(output, overwrite=overwrite)
    check_license(license)
    check_language(language)
    wanted = element_type(dtype)
    with open_source(source, family=family, config=config, vocab=vocab, task_names=task_names) as opened:
        plan = opened.plan
        total = sum(opened.weights.tensors[move.source].size for move in plan.moves)
        fields, architecture = config_fields(opened, wanted)
        files = opened.files
        sources = (Path(source), files.path.parent, files.config, files.vocab, *opened.weights.files)
        with staged_folder(output, overwrite=overwrite, need=total, keep=sources) as folder:
            with progress_bar(total, show=progress) as on_bytes:
                moved = [*plan.moves, *plan.constants]
                size = write_safetensors(folder / "model.safetensors", opened.weights, moved, wanted, on_bytes)
            write_json(folder / "config.json", fields)
            write_lines(folder / "vocab.txt", read_lines(files.vocab, opened.table))
            write_json(folder / "tokenizer_config.json", tokenizer_fields(opened, cased))
            used = references(opened.table.FAMILY, opened.vocabulary.kind)
            for path in python_files(opened.table.FAMILY, used):
                shutil.copyfile(path, folder / path.name)
            name = Path(os.path.realpath(output)).name
            origin = conversion(opened.table.FAMILY, files.path.name, plan, wanted)
            card = model_card(
                name,
                opened.table.FAMILY,
                architecture,
                origin,
                license,
                opened.vocabulary.kind,
                language or language_of(opened.vocabulary),
            )
            (folder / "README.md").write_text(card, encoding="utf-8")
        return ConversionReport(
            Path(output),
            opened.table.FAMILY,
            architecture,
            auto_class(architecture),
            len(plan.moves),
            plan.dropped,
            plan.parameters,
            size,
            time.perf_counter() - started,
            [*notes_on(opened, fields["dtype"], family), *repeated_lines(files.vocab, opened.table)],
        )


def open_source(
    source: str | os.PathLike[str],
    *,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    task_names: Sequence[str] | None = None,
) -> OpenedSource:
    """Open a source and match its tensors with the model's parameters. Arguments and errors as `convert`."""
    files = find_source(source, config, vocab)
    raw = load_json_object(files.config)
    weights, plan_of = _open_weights(files)
    try:
        table = choose(family, weights.tensors, raw)
        if task_names is not None and "num_tasks" not in table.CONFIG_READ_OFF:
            raise InputError(f"--task-names: {source} is a {table.FAMILY}, which has no tasks")
        settings = read_config(files.config, table, task_names)
        plan = plan_of(table, settings.sizes)
        vocabulary = read_vocabulary(files.vocab, settings.fields["vocab_size"], table=table)
        weights = add_constants(weights, plan, table.CONSTANTS_SAVED, settings.sizes)
    except BaseException:
        weights.close()
        raise
    return OpenedSource(files, weights, table, settings, vocabulary, plan)


def element_type(dtype: str | None) -> ElementType | None:
    """The type that a `--dtype` names. InputError if it names none."""
    if dtype is None:
        return None
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: choose one of {', '.join(DTYPES)}, or leave it out to keep what is stored")
    return BY_NAME[dtype]


def _open_weights(files: SourceFiles) -> tuple[WeightSource, Callable[[WeightMap, dict[str, int]], Plan]]:
    if files.kind == "tensorflow":
        checkpoint = TensorFlowCheckpoint(files.path)
        return checkpoint, lambda table, sizes: plan_from_tensorflow(table, checkpoint.tensors, sizes)
    from kexue_hf.conversion.keras_h5_reader import KerasWeights  # imports h5py

    keras = KerasWeights(files.path)
    return keras, lambda table, sizes: plan_from_keras(table, keras.tensors, keras.layers, sizes)


def config_fields(opened: OpenedSource, wanted: ElementType | None) -> tuple[dict[str, Any], str]:
    """The content of config.json, in the order in which transformers sorts it, and the architecture."""
    plan, raw, table = opened.plan, opened.config.raw, opened.table
    architecture = next(name for parts, name in table.ARCHITECTURES if parts <= plan.parts)
    hinted = raw.get("architectures")
    if "classifier" in plan.parts and isinstance(hinted, list) and hinted[:1] and hinted[0] in table.CLASSIFIERS:
        # One choice has one score.
        if plan.sizes["num_labels"] == 1 or not hinted[0].endswith("ForMultipleChoice"):
            architecture = hinted[0]
    special = opened.vocabulary.special
    stored = Counter[str]()
    for move in plan.moves:
        stored[move.type.name] += opened.weights.tensors[move.source].size
    derived: dict[str, Any] = {
        "add_pooling_layer": "pooler" in plan.parts,
        "classifier_pooling": _classifier_pooling(raw.get("classifier_pooling"), plan.parts, table),
        "num_tasks": plan.sizes.get("num_tasks"),
        "pooling": raw.get("pooling") if raw.get("pooling") in table.POOLINGS else table.POOLINGS[0],
        "position_embedding_type": "absolute" if "positions" in plan.parts else "rotary",
        "task_embedding_size": plan.sizes.get("task_embedding_size"),
        "task_names": raw.get("task_names") or [f"task_{number}" for number in range(plan.sizes.get("num_tasks", 0))],
    }
    if "auto_map" in table.CONFIG_DERIVED:
        derived["auto_map"] = auto_map(table.MODEL_TYPE)
    fields: dict[str, Any] = {
        **opened.config.fields,
        **{key: value for key, value in derived.items() if key in table.CONFIG_DERIVED},
        **table.CONFIG_FIXED,
        **{f"{role}_id": opened.vocabulary.ids[token] for role in _AROUND if (token := special.get(role))},
        "architectures": [architecture],
        "dtype": wanted.name if wanted else stored.most_common(1)[0][0],
        "model_type": table.MODEL_TYPE,
        "pad_token_id": opened.vocabulary.ids["[PAD]"],
        "tie_word_embeddings": True,
        "tokenizer_class": table.TOKENIZERS[opened.vocabulary.kind].rpartition(".")[2],
        "vocab_fingerprint": opened.vocabulary.fingerprint,
    }
    if "classifier" in plan.parts:
        labels = _labels(raw, plan.sizes["num_labels"])
        fields |= {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        }
    return dict(sorted(fields.items())), architecture


def _classifier_pooling(hint: object, parts: frozenset[str], table: WeightMap) -> str:
    """What a classifier reads: what the tensors allow, and a hint where they do not decide."""
    if hint in table.POOLINGS and (hint != "pooler" or "pooler" in parts):
        return str(hint)
    return "pooler" if "pooler" in parts else table.POOLINGS[0]


def _labels(raw: dict[str, Any], count: int) -> list[str]:
    """The classes' names, where the configuration has one for each."""
    named = raw.get("id2label")
    if isinstance(named, dict) and set(named) == {str(number) for number in range(count)}:
        return [str(named[str(number)]) for number in range(count)]
    return [f"LABEL_{number}" for number in range(count)]


def tokenizer_fields(opened: OpenedSource, cased: bool) -> dict[str, Any]:
    """The content of tokenizer_config.json, as the tokenizer's own `save_pretrained` writes it."""
    reference = opened.table.TOKENIZERS[opened.vocabulary.kind]
    ids, special = opened.vocabulary.ids, opened.vocabulary.special
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    fields = {
        **special,
        "added_tokens_decoder": {
            str(ids[token]): {"content": token, **flags}
            for token in sorted(filter(None, special.values()), key=ids.__getitem__)
        },
        "do_lower_case": not cased,
        "model_max_length": opened.config.fields["max_position_embeddings"],
        "tokenizer_class": reference.rpartition(".")[2],
    }
    if "/" in reference:
        fields |= {
            "auto_map": {"AutoTokenizer": [reference.rpartition("/")[2], None]},
            **opened.table.TOKENIZER_FIELDS,
        }
    return dict(sorted(fields.items()))


def notes_on(opened: OpenedSource, dtype: str, asked: str = "") -> list[str]:
    """What its user should know of a result, one sentence each; `asked` is the family that was asked for."""
    notes = []
    if "num_tasks" in opened.table.CONFIG_READ_OFF and not opened.config.raw.get("task_names"):
        notes.append("what the tasks are called is not said: they are task_0, task_1, ... (--task-names names them)")
    if opened.table.CAVEAT and asked == "auto":
        notes.append(opened.table.CAVEAT)
    if dtype in ("float16", "bfloat16"):
        notes.append(f"the weights are {dtype}: to train them, load with dtype='float32' or convert --dtype float32")
    if opened.config.ignored:
        notes.append(f"settings without a meaning for this model were left out: {', '.join(opened.config.ignored)}")
    if opened.vocabulary.kind == "characters":
        tokenizer = opened.table.TOKENIZERS["characters"]
        advice = "is this a character BERT?" if "/" in tokenizer else f"its tokenizer is {tokenizer}"
        notes.append(f"the vocabulary has no Chinese word of two or more characters: {advice}")
    if opened.vocabulary.special["mask_token"] is None:
        notes.append("the vocabulary has no [MASK]: the tokenizer has no mask token")
    for token, index in opened.table.NETWORK_IDS.items():
        found = next((other for other, number in opened.vocabulary.ids.items() if number == index), None)
        if found != token:
            notes.append(
                f"token {index} of the vocabulary (line {index + 1}) is {found!r:.60} and not {token}, for which the "
                f"original code takes it whatever the vocabulary says: the weights were trained so, and config.json "
                f"says mask_token_id {index}, which is not the tokenizer's"
            )
    if "pooler" not in opened.plan.parts and "add_pooling_layer" in opened.table.CONFIG_DERIVED:
        notes.append("the checkpoint has no pooler: add_pooling_layer is false")
    return notes


def write_lines(path: Path, tokens: Iterable[str]) -> None:
    """Write a vocabulary, one token a line."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{token}\n" for token in tokens)


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write a JSON file as transformers does, but for its characters, which stay readable."""
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
