"""Read a HuggingFace folder: weights (one safetensors file or several), configuration, tokenizer and vocabulary.

transformers 5 saves a BERT tokenizer as `tokenizer.json` without `vocab.txt`; its WordPiece vocabulary is read from
there.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kexue_hf.conversion.families import convertible, load_weight_map
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.formats.weight_source import StoredTensor, WeightSource
from kexue_hf.conversion.source import (
    SourceConfig,
    SourceVocabulary,
    load_json_object,
    read_config,
    read_vocabulary,
    source_vocabulary,
)
from kexue_hf.conversion.weight_map import WeightMap
from kexue_hf.errors import CheckpointError, ConversionError, InputError, quoted
from kexue_hf.files.model_folder import why_no_model
from kexue_hf.files.regular_file import check_folder

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def open_safetensors(folder: Path) -> WeightSource:
    """Open `model.safetensors`, or all files of its index.

    Raises:
        CheckpointError: a file is missing, truncated or malformed, or the index names a missing tensor.
    """
    if (folder / WEIGHTS).exists():
        return SafetensorsFile(folder / WEIGHTS)
    return ShardedSafetensors(folder / INDEX)


class ShardedSafetensors(WeightSource):
    """Several safetensors files with an index (tensor -> file), as one source. Errors as `open_safetensors`."""

    def __init__(self, index: Path) -> None:
        places = load_json_object(index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise CheckpointError(f"{index}: expected an object weight_map, tensor -> file")
        self._shards: dict[str, SafetensorsFile] = {}
        self._owner: dict[str, SafetensorsFile] = {}
        with contextlib.ExitStack() as opened:
            for name in dict.fromkeys(places.values()):
                if not name or Path(name).name != name or "\0" in name:
                    raise CheckpointError(f"{index}: names {quoted(name)}, expected a file name without a folder")
                self._shards[name] = opened.enter_context(SafetensorsFile(index.with_name(name)))
            tensors: dict[str, StoredTensor] = {}
            for tensor, name in places.items():
                shard = self._shards[name]
                if tensor not in shard.tensors:
                    raise CheckpointError(f"{index}: tensor {quoted(tensor)} is missing from {quoted(name)}")
                tensors[tensor], self._owner[tensor] = shard.tensors[tensor], shard
            opened.pop_all()
        super().__init__(str(index), tensors)

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        return self._owner[name].chunks(name)

    @property
    def files(self) -> list[Path]:
        return [Path(self.path), *(path for shard in self._shards.values() for path in shard.files)]

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()


FILES = ("tokenizer_config.json", "added_tokens.json")


@dataclass(frozen=True)
class SavedTokenizer:
    """The added tokens by id (including those that are lines of `vocab.txt`), segmenter words, lower-casing."""

    added: dict[int, str]
    user_words: tuple[str, ...]
    do_lower_case: bool


def read_tokenizer(folder: Path) -> SavedTokenizer:
    """Read the tokenizer settings that `save_pretrained` wrote. Missing files are fine.

    Raises:
        ConversionError: a file does not have the form that transformers writes.
    """
    path, older = (folder / name for name in FILES)
    fields = load_json_object(path) if path.is_file() else {}
    added: dict[int, str] = {}
    # The older file comes first: transformers prefers the newer one where both have an id.
    if older.is_file():
        added |= {_id(older, index): _text(older, token) for token, index in load_json_object(older).items()}
    rows = fields.get("added_tokens_decoder") or {}
    for index, row in rows.items():
        added[_id(path, index)] = _text(path, row.get("content") if isinstance(row, dict) else row)
    words = fields.get("user_words") or []
    return SavedTokenizer(added, tuple(words), bool(fields.get("do_lower_case", True)))


def _id(path: Path, value: Any) -> int:
    try:
        index = int(value)
    except (TypeError, ValueError):
        index = -1
    if index < 0:
        raise ConversionError(f"{path}: the id of an added token should be 0 or more, got {value!r:.60}")
    return index


def _text(path: Path, value: Any) -> str:
    if not isinstance(value, str):
        raise ConversionError(f"{path}: a token should be a text, got {value!r:.60}")
    return value


_CONFIG = "tokenizer_config.json"
_FLAGS = ("lstrip", "normalized", "rstrip", "single_word", "special")


@dataclass(frozen=True)
class FolderVocabulary:
    """A tokenizer's vocabulary with its added tokens, and the settings to keep.

    `base` is the vocabulary without added tokens (token -> id); `added` maps an added token to its `AddedToken` flags.
    """

    path: Path
    vocabulary: SourceVocabulary
    base: dict[str, int]
    added: dict[str, dict[str, bool]]
    user_words: tuple[str, ...]
    do_lower_case: bool


def read_folder_vocabulary(
    folder: Path, vocab: Path | None, rows: int, weight_map: WeightMap | None = None
) -> FolderVocabulary:
    """Read the vocabulary and the tokenizer settings of a folder.

    Args:
        vocab: a `vocab.txt` to use in place of the folder's own.
        rows: number of rows of the model's embeddings.
        weight_map: weight map of the family; by default that of the family in config.json.

    Raises:
        InputError: there is no vocabulary.
        ConversionError: it is not a BERT vocabulary, or belongs to another model.
    """
    path = vocab or next(
        (folder / name for name in ("vocab.txt", "tokenizer.json") if (folder / name).is_file()), None
    )
    if path is None:
        raise InputError(
            f"{folder}: has no vocabulary, neither vocab.txt nor tokenizer.json; put one there, or name it with "
            "--vocab"
        )
    if not path.exists():
        raise InputError(f"{path}: no such file (the vocabulary, --vocab)")
    settings = load_json_object(folder / _CONFIG) if (folder / _CONFIG).is_file() else {}
    weight_map = weight_map or _weight_map_of(folder)
    added: dict[int, dict[str, Any]] = {}
    if path.suffix == ".json":
        raw = load_json_object(path)
        ids = _word_pieces(path, raw)
        added |= _added_in_json(path, raw)
    else:
        ids = read_vocabulary(path, None, weight_map=weight_map).ids
        if vocab is None and (folder / "tokenizer.json").is_file():
            added |= _added_in_json(folder / "tokenizer.json", load_json_object(folder / "tokenizer.json"))
    saved = read_tokenizer(folder)
    given = settings.get("added_tokens_decoder") or {}
    for index, token in saved.added.items():
        flags = given.get(str(index))
        added[index] = {"content": token} | (flags if isinstance(flags, dict) else {})
    base, ids = ids, dict(ids)
    for index, row in sorted(added.items()):
        ids.setdefault(row["content"], index)
    beyond = max(ids.values(), default=-1) + 1
    if beyond > rows:
        raise ConversionError(
            f"{path}: has {beyond} tokens, the model has embeddings for {rows}; give the vocabulary that the weights "
            "were trained with (--vocab)"
        )
    return FolderVocabulary(
        path,
        source_vocabulary(path, ids, "words" if saved.user_words else None, weight_map),
        base,
        {row["content"]: {flag: bool(row.get(flag, False)) for flag in _FLAGS} for row in added.values()},
        saved.user_words,
        _lower_cases(folder, settings),
    )


def _weight_map_of(folder: Path) -> WeightMap:
    """Return the weight map of a folder's model; WoBERT's, which has BERT's special tokens, for unknown models."""
    family = load_json_object(folder / "config.json").get("model_type") if (folder / "config.json").is_file() else None
    return load_weight_map(family if family in convertible() else "wobert")


def _lower_cases(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether the tokenizer lower-cases, by tokenizer_config.json or tokenizer.json; true by default."""
    lower, path = settings.get("do_lower_case"), folder / "tokenizer.json"
    if not isinstance(lower, bool) and path.is_file():
        normalizer = load_json_object(path).get("normalizer")
        lower = normalizer.get("lowercase") if isinstance(normalizer, dict) else None
    return lower if isinstance(lower, bool) else True


def _word_pieces(path: Path, raw: dict[str, Any]) -> dict[str, int]:
    model = raw.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if (
        not isinstance(model, dict)
        or model.get("type", "WordPiece") != "WordPiece"
        or not isinstance(vocabulary, dict)
    ):
        kind = model.get("type") if isinstance(model, dict) else None
        raise ConversionError(f"{path}: expected BERT's WordPiece vocabulary, got {kind or 'none'}; is it a BERT?")
    if not all(type(index) is int and index >= 0 for index in vocabulary.values()):
        raise ConversionError(f"{path}: every token should have an id of 0 or more")
    return {str(token): index for token, index in vocabulary.items()}


def _added_in_json(path: Path, raw: dict[str, Any]) -> dict[int, dict[str, Any]]:
    rows = raw.get("added_tokens") or []
    if not all(type(row.get("id")) is int and isinstance(row.get("content"), str) for row in rows):
        raise ConversionError(f"{path}: added_tokens should be a list of tokens with id and content")
    return {row["id"]: row for row in rows}


@dataclass(frozen=True)
class SavedFolder:
    """A folder open for reading: its weights, its weight map, the raw config.json, and its fields."""

    path: Path
    weights: SafetensorsFile
    weight_map: WeightMap
    raw: dict[str, Any]
    config: SourceConfig

    def __enter__(self) -> "SavedFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.weights.close()


def open_folder(folder: str | os.PathLike[str]) -> SavedFolder:
    """Open a folder that `convert` or `save_pretrained` wrote.

    Raises:
        InputError: there is no such folder, or its family cannot be converted.
        CheckpointError: its weights are missing or damaged.
        ConversionError: its config.json is invalid.
    """
    if not os.fspath(folder):
        raise InputError("FOLDER is empty; name a folder that convert or save_pretrained wrote")
    path = Path(folder)
    if reason := why_no_model(path):
        raise InputError(reason)
    check_folder(path)
    raw = load_json_object(path / "config.json")
    family = raw.get("model_type")
    if not isinstance(family, str):
        raise InputError(f"{path / 'config.json'}: lacks model_type; expected one of {', '.join(convertible())}")
    if family not in convertible():
        hint = "; kexue-hf convert turns one with WoBERT's weights into a WoBERT" if family == "bert" else ""
        raise InputError(
            f"{path / 'config.json'}: model_type is {family!r:.60}, expected one of {', '.join(convertible())}{hint}"
        )
    weight_map = load_weight_map(family)
    if (path / "model.safetensors.index.json").exists():
        raise CheckpointError(
            f"{path}: expected one weight file, got several; save the model with a larger max_shard_size"
        )
    config = read_config(path / "config.json", weight_map)
    return SavedFolder(path, SafetensorsFile(path / "model.safetensors"), weight_map, raw, config)
