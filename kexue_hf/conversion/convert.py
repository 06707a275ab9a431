"""Convert an original checkpoint, or a folder of another implementation, to a HuggingFace folder.

Conversion needs neither TensorFlow nor transformers, and torch only to read PyTorch files.

It is strict: every tensor is mapped or dropped on purpose, checksums are verified, shapes and the vocabulary are
compared with the configuration, and the output folder appears complete or not at all.
"""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kexue_hf.conversion.formats.safetensors import write_safetensors
from kexue_hf.conversion.formats.transfer import progress_bar
from kexue_hf.conversion.formats.weight_source import BY_NAME, ElementType
from kexue_hf.conversion.keras_head import head_note
from kexue_hf.conversion.model_card import auto_class, check_language, check_license, conversion, model_card
from kexue_hf.conversion.open_source import OpenedSource, open_source
from kexue_hf.conversion.python_files import auto_map, python_files, references
from kexue_hf.conversion.saved_folder import FolderVocabulary
from kexue_hf.conversion.source import language_of
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.conversion.weight_plan import Plan
from kexue_hf.errors import ConversionError, InputError

DTYPES = ("float32", "float16", "bfloat16")
# The class of a classifier, by what it classifies.
_ENDINGS = {
    "text": "ForSequenceClassification",
    "token": "ForTokenClassification",
    "choice": "ForMultipleChoice",
}
_OF_CHARACTERS = "if this is a character BERT, kexue-hf extend makes a model of words of the same source"
# Special tokens other than [PAD] whose ids go into the configuration.
_AROUND = ("bos_token", "eos_token")


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion.

    `mapped` counts tensors, `dropped` lists (tensor, reason), `parameters` counts values, `bytes` is the size of the
    weights, `notes` are sentences for the user.
    """

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


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    family: str = "auto",
    config: str | os.PathLike[str] | None = None,
    vocab: str | os.PathLike[str] | None = None,
    task_names: Sequence[str] | None = None,
    head: str = "auto",
    keep_tokens: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    license: str | None = None,
    language: str | None = None,
    cased: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> ConversionReport:
    """Convert a checkpoint into a folder that every Auto class loads.

    Args:
        source: an unpacked folder of an original, a TensorFlow checkpoint prefix, a Keras weight file, or a
            transformers folder of WoBERT or NEZHA from another implementation (safetensors or pytorch_model.bin).
        output: the folder to write.
        family: "auto", or the expected family of the checkpoint.
        config, vocab: the configuration and the vocabulary, if they are not beside the checkpoint.
        task_names: names of a matcher's tasks, in the order of their ids; None takes them from the configuration.
        head: kind of the classifier on the encoder: "text", "token" or "choice"; "none" leaves it out, with all layers
            that the family does not have. "auto" decides by the layers and the configuration, defaults to "text", and
            adds a note.
        keep_tokens: a file of the ids that bert4keras got as `keep_tokens`, for weights that hold only these tokens'
            embeddings, together with the full model's configuration and vocabulary.
        dtype: "float32", "float16" or "bfloat16"; None keeps every tensor as stored, bit for bit.
        license: licence identifier of the Hub for the card ("apache-2.0").
        language: language code of the Hub for the card ("en"); None derives it from the vocabulary.
        cased: make a tokenizer that does not lower-case.
        overwrite: replace a model folder at `output` once the new one is complete.
        progress: show a progress bar on stderr.

    Raises:
        CheckpointError: the source is missing, damaged, or not a checkpoint.
        ConversionError: the source does not fit the family, its configuration, or its vocabulary.
        InputError: an argument is wrong, or several files match.
        OutputError: the result cannot be written. After any of these errors, `output` is unchanged.
    """
    started = time.perf_counter()
    check_output(output, overwrite=overwrite)
    check_license(license)
    check_language(language)
    wanted = element_type(dtype)
    opened, tokenizer = open_source(
        source,
        family=family,
        config=config,
        vocab=vocab,
        task_names=task_names,
        head=head,
        keep_tokens=keep_tokens,
    )
    with opened:
        plan = opened.plan
        total = sum(opened.weights.tensors[move.source].size for move in plan.moves)
        fields, architecture = config_fields(opened, wanted)
        files = opened.files
        sources = (Path(source), files.path.parent, files.config, files.vocab, *opened.weights.files)
        with staged_folder(output, overwrite=overwrite, need=total, keep=sources) as folder:
            with progress_bar(total, show=progress) as on_bytes:
                moves = [*plan.moves, *plan.derived]
                size = write_safetensors(folder / "model.safetensors", opened.weights, moves, wanted, on_bytes)
            write_json(folder / "config.json", fields)
            write_lines(folder / "vocab.txt", opened.tokens)
            write_json(folder / "tokenizer_config.json", _tokenizer_fields(opened, tokenizer, cased))
            used = references(opened.weight_map.FAMILY, opened.vocabulary.kind)
            for path in python_files(opened.weight_map.FAMILY, used):
                shutil.copyfile(path, folder / path.name)
            name = Path(os.path.realpath(output)).name
            origin = conversion(opened.weight_map.FAMILY, files.path.name, plan, wanted)
            card = model_card(
                name,
                opened.weight_map.FAMILY,
                architecture,
                origin,
                license,
                opened.vocabulary.kind,
                language or language_of(opened.vocabulary),
            )
            (folder / "README.md").write_text(card, encoding="utf-8")
        return ConversionReport(
            Path(output),
            opened.weight_map.FAMILY,
            architecture,
            auto_class(architecture),
            len(plan.moves),
            plan.dropped,
            plan.parameters,
            size,
            time.perf_counter() - started,
            [*notes_on(opened, fields["dtype"], family), *_repeated_lines(opened.tokens, opened.weight_map)],
        )


def element_type(dtype: str | None) -> ElementType | None:
    """Return the element type that a `--dtype` names; None for None.

    Raises:
        InputError: there is no such type.
    """
    if dtype is None:
        return None
    if dtype not in DTYPES:
        raise InputError(
            f"--dtype {dtype}: choose one of {', '.join(DTYPES)}, or leave it out to keep the stored types"
        )
    return BY_NAME[dtype]


def config_fields(opened: OpenedSource, wanted: ElementType | None) -> tuple[dict[str, Any], str]:
    """Return the content of config.json, sorted as transformers sorts it, and the architecture."""
    plan, raw, weight_map = opened.plan, opened.config.raw, opened.weight_map
    architecture = next(name for parts, name in weight_map.ARCHITECTURES if parts <= plan.parts)
    if "classifier" in plan.parts:
        architecture = _classifier(opened, architecture)
    special = opened.vocabulary.special
    stored = Counter[str]()
    for move in plan.moves:
        stored[move.type.name] += opened.weights.tensors[move.source].size
    derived: dict[str, Any] = {
        "add_pooling_layer": "pooler" in plan.parts,
        "classifier_pooling": _classifier_pooling(raw.get("classifier_pooling"), plan, weight_map),
        "num_tasks": plan.sizes.get("num_tasks"),
        "pooling": raw.get("pooling") if raw.get("pooling") in weight_map.POOLINGS else weight_map.POOLINGS[0],
        "position_embedding_type": "absolute" if "positions" in plan.parts else "rotary",
        "task_embedding_size": plan.sizes.get("task_embedding_size"),
        "task_names": raw.get("task_names") or [f"task_{number}" for number in range(plan.sizes.get("num_tasks", 0))],
    }
    if "auto_map" in weight_map.CONFIG_DERIVED:
        derived["auto_map"] = auto_map(weight_map.MODEL_TYPE)
    fields: dict[str, Any] = {
        **opened.config.fields,
        **{key: value for key, value in derived.items() if key in weight_map.CONFIG_DERIVED},
        **weight_map.CONFIG_FIXED,
        **{f"{role}_id": opened.vocabulary.ids[token] for role in _AROUND if (token := special.get(role))},
        "architectures": [architecture],
        "dtype": wanted.name if wanted else stored.most_common(1)[0][0],
        "model_type": weight_map.MODEL_TYPE,
        "pad_token_id": opened.vocabulary.ids["[PAD]"],
        "tie_word_embeddings": True,
        "tokenizer_class": weight_map.TOKENIZERS[opened.vocabulary.kind].rpartition(".")[2],
        "vocab_fingerprint": opened.vocabulary.fingerprint,
    }
    if (correction := _correction(raw.get("correction"))) is not None:
        fields["correction"] = correction
    if "classifier" in plan.parts:
        labels = _labels(raw, plan.sizes["num_labels"])
        fields |= {
            "id2label": {str(number): label for number, label in enumerate(labels)},
            "label2id": {label: number for number, label in enumerate(labels)},
        }
    return dict(sorted(fields.items())), architecture


def _classifier(opened: OpenedSource, default: str) -> str:
    """Return the class of a model with a classifier: by `--head`, the layer's input, a hint, or the default."""
    plan, weight_map, head = opened.plan, opened.weight_map, opened.plan.head
    labels, names = plan.sizes["num_labels"], (default, *weight_map.CLASSIFIERS)
    if head is not None and (head.explicit or head.kind == "token"):
        name = next((name for name in names if name.endswith(_ENDINGS[head.kind or "text"])), None)
        if name is None or (head.kind == "choice" and labels != 1):
            why = f"has {labels} outputs, expected 1" if name else f"a {weight_map.FAMILY} has no such head"
            raise ConversionError(f"--head {head.kind}: the classifier {head.layer!r} cannot be of that kind: {why}")
        return name
    hint = _hinted_classifier(opened)
    # The layer's input separates tokens from texts. A choice has one score, so more labels rule it out.
    excluded = [*([_ENDINGS["token"]] if head and head.kind else []), *([_ENDINGS["choice"]] if labels != 1 else [])]
    return default if hint is None or hint.endswith(tuple(excluded)) else hint


def _hinted_classifier(opened: OpenedSource) -> str | None:
    named = opened.config.raw.get("architectures")
    return named[0] if isinstance(named, list) and named and named[0] in opened.weight_map.CLASSIFIERS else None


def _classifier_pooling(hint: object, plan: Plan, weight_map: WeightMap) -> str:
    """Return the pooling of a classifier: from tensors and layers, or from the hint where they do not decide."""
    parts = plan.parts
    if plan.head and plan.head.pooling in weight_map.POOLINGS:
        return str(plan.head.pooling)
    if hint in weight_map.POOLINGS and (hint != "pooler" or "pooler" in parts):
        return str(hint)
    return "pooler" if "pooler" in parts else weight_map.POOLINGS[0]


def _correction(hint: object) -> dict[str, Any] | None:
    """Return the settings that `calibrate_correction` saved; None if the configuration holds no valid ones."""
    if not isinstance(hint, dict) or not isinstance(hint.get("threshold", ""), int | float | None):
        return None
    return {str(key): value for key, value in hint.items() if isinstance(value, int | float | None)}


def _labels(raw: dict[str, Any], count: int) -> list[str]:
    """Return the label names of the configuration if it has one for each label, else LABEL_0, LABEL_1, ..."""
    named = raw.get("id2label")
    if isinstance(named, dict) and set(named) == {str(number) for number in range(count)}:
        return [str(named[str(number)]) for number in range(count)]
    return [f"LABEL_{number}" for number in range(count)]


def tokenizer_fields(
    opened: OpenedSource,
    cased: bool,
    added: Mapping[int, Mapping[str, Any]] | None = None,
    user_words: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the content of tokenizer_config.json, as the tokenizer's `save_pretrained` writes it.

    Args:
        cased: whether the tokenizer does not lower-case.
        added: added tokens other than the special ones: id -> content and flags.
        user_words: words for the segmenter.
    """
    reference = opened.weight_map.TOKENIZERS[opened.vocabulary.kind]
    ids, special = opened.vocabulary.ids, opened.vocabulary.special
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    decoder = {**(added or {}), **{ids[token]: {"content": token, **flags} for token in special.values() if token}}
    fields = {
        **special,
        "added_tokens_decoder": {str(index): dict(decoder[index]) for index in sorted(decoder)},
        "do_lower_case": not cased,
        "model_max_length": opened.config.fields["max_position_embeddings"],
        "tokenizer_class": reference.rpartition(".")[2],
    }
    if "/" in reference:
        fields |= {
            "auto_map": {"AutoTokenizer": [reference.rpartition("/")[2], None]},
            **opened.weight_map.TOKENIZER_FIELDS,
        }
        if user_words:
            fields["user_words"] = list(user_words)
    return dict(sorted(fields.items()))


def notes_on(opened: OpenedSource, dtype: str, requested_family: str = "") -> list[str]:
    """Return notes for the user, one sentence each."""
    notes = []
    if "num_tasks" in opened.weight_map.CONFIG_READ_OFF and not opened.config.raw.get("task_names"):
        notes.append("the tasks have no names and are called task_0, task_1, ... (name them with --task-names)")
    if opened.weight_map.CAVEAT and requested_family == "auto":
        notes.append(opened.weight_map.CAVEAT)
    if dtype in ("float16", "bfloat16"):
        purpose = "to train them, or to use them on a CPU" if dtype == "float16" else "to train them"
        notes.append(f"the weights are {dtype}: {purpose}, load with dtype='float32' or convert --dtype float32")
    if opened.config.ignored:
        notes.append(f"settings that this model does not have were left out: {', '.join(opened.config.ignored)}")
    if opened.vocabulary.kind == "characters":
        tokenizer = opened.weight_map.TOKENIZERS["characters"]
        advice = _OF_CHARACTERS if "/" in tokenizer else f"its tokenizer is {tokenizer}"
        notes.append(f"the vocabulary has no Chinese word of two or more characters: {advice}")
    if opened.vocabulary.special.get("mask_token", "") is None:
        notes.append("the vocabulary has no [MASK]: the tokenizer has no mask token")
    for token, index in opened.weight_map.NETWORK_IDS.items():
        found = next((other for other, number in opened.vocabulary.ids.items() if number == index), None)
        if found != token:
            notes.append(
                f"token {index} of the vocabulary (line {index + 1}) is {found!r:.60}, expected {token}: the original "
                f"code uses id {index} as {token} whatever the vocabulary says, so config.json says mask_token_id "
                f"{index}, which differs from the tokenizer's"
            )
    head = opened.plan.head
    # A family with a single classifier class leaves no doubt.
    if head is not None and not head.explicit and opened.weight_map.CLASSIFIERS and _hinted_classifier(opened) is None:
        notes.append(head_note(head, (opened.plan.sizes["hidden_size"], opened.plan.sizes["num_labels"])))
    if "pooler" not in opened.plan.parts and "add_pooling_layer" in opened.weight_map.CONFIG_DERIVED:
        notes.append("the checkpoint has no pooler: add_pooling_layer is false")
    return notes


def _repeated_lines(tokens: Iterable[str], weight_map: WeightMap) -> list[str]:
    """Return a note if a vocabulary has equal lines, after which bert4keras' ids differ from line numbers."""
    seen: dict[str, int] = {}
    for number, line in enumerate(tokens, 1):
        token = line.strip()  # bert4keras strips lines, so all white-space lines are equal.
        if token in seen and weight_map.ORIGINAL == "bert4keras":
            note = (
                f"lines {seen[token]} and {number} of the vocabulary are the same token, {token!r:.60}: an id is the "
                "line number here, as in Google's BERT, and the last of equal lines counts; bert4keras gives every "
                "later token a lower id, so its outputs differ"
            )
            return [note]
        seen[token] = number
    return []


def _tokenizer_fields(opened: OpenedSource, tokenizer: FolderVocabulary | None, cased: bool) -> dict[str, Any]:
    if tokenizer is None:
        return tokenizer_fields(opened, cased)
    added = {tokenizer.vocabulary.ids[token]: {"content": token, **row} for token, row in tokenizer.added.items()}
    return tokenizer_fields(opened, cased or not tokenizer.do_lower_case, added, tokenizer.user_words)


def write_lines(path: Path, tokens: Iterable[str]) -> None:
    """Write a vocabulary, one token a line."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{token}\n" for token in tokens)


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Write a JSON file as transformers does, but with non-ASCII characters unescaped."""
    path.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


__all__ = [
    "DTYPES",
    "ConversionReport",
    "config_fields",
    "convert",
    "element_type",
    "notes_on",
    "tokenizer_fields",
    "write_json",
    "write_lines",
]
