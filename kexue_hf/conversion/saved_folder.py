"""A HuggingFace folder of ours, open for reading: the way back and `verify` begin here."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_hf.conversion.families import convertible, load_weight_map
from kexue_hf.conversion.safetensors_reader import SafetensorsFile
from kexue_hf.conversion.source_config import SourceConfig, load_json_object, read_config
from kexue_hf.conversion.weight_table import WeightMap
from kexue_hf.errors import CheckpointError, InputError
from kexue_hf.regular_file import check_folder


@dataclass(frozen=True)
class SavedFolder:
    """A folder: its weights, its weight map, config.json as it is, and its fields."""

    path: Path
    weights: SafetensorsFile
    table: WeightMap
    raw: dict[str, Any]
    config: SourceConfig

    def __enter__(self) -> "SavedFolder":
        return self

    def __exit__(self, *_: object) -> None:
        self.weights.close()


def open_folder(folder: str | os.PathLike[str]) -> SavedFolder:
    """Open a folder.

    Raises:
        InputError: there is no such folder, or its model is of no family that is converted.
        CheckpointError: its weights are missing or damaged. ConversionError: its config.json does not do.
    """
    if not os.fspath(folder):
        raise InputError("FOLDER is empty; name a folder that convert or save_pretrained wrote")
    path = Path(folder)
    if not (path / "config.json").exists():
        raise InputError(f"{path / 'config.json'}: missing; expected a folder that convert or save_pretrained wrote")
    check_folder(path)
    raw = load_json_object(path / "config.json")
    family = raw.get("model_type")
    if not isinstance(family, str):
        raise InputError(f"{path / 'config.json'}: lacks model_type")
    if family not in convertible():
        hint = "; kexue-hf convert makes a WoBERT of one that has WoBERT's weights" if family == "bert" else ""
        raise InputError(
            f"{path / 'config.json'}: model_type is {family!r:.60}, expected one of {', '.join(convertible())}{hint}"
        )
    table = load_weight_map(family)
    if (path / "model.safetensors.index.json").exists():
        raise CheckpointError(f"{path}: the weights are in several files; save the model in one (max_shard_size)")
    config = read_config(path / "config.json", table)
    return SavedFolder(path, SafetensorsFile(path / "model.safetensors"), table, raw, config)
