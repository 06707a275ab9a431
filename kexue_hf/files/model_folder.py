"""Check where a model is to be loaded from, and say what lies there instead of one. Imports no library."""

import glob
import os
import re
import shlex
from pathlib import Path

from kexue_hf.errors import InputError
from kexue_hf.files.hub_names import check_model_name
from kexue_hf.files.regular_file import check_folder

_EXPECTED = "expected the folder of a transformers model"
_KERAS = (".h5", ".hdf5", ".weights")
_PART_OF_TENSORFLOW = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")
_WEIGHTS = re.compile(r".*\.safetensors|pytorch_model.*\.bin")


def check_model_place(name: str | os.PathLike[str]) -> str:
    """Return what to load a model from: a folder, a name on the Hub, or its folder in the cache.

    Raises:
        InputError: it is neither; the message says what it is instead, as far as its name tells.
    """
    text = os.fspath(name)
    if not text.strip():
        raise InputError("no model: expected a folder or a name on the Hub, got an empty string")
    if (os.path.exists(text) or _original(Path(text))) and (reason := why_no_model(Path(text))):
        raise InputError(reason)
    if os.path.isdir(text):
        check_folder(text)
    return check_model_name(text)


def why_no_model(folder: Path) -> str | None:
    """Return what is wrong with a path that is no folder, lacks config.json or has original weights only; or None."""
    if not os.path.isdir(folder):
        if original := _original(folder):
            return f"{folder} is a file of original weights; {_convert(original)}"
        return f"{folder}{' is a file' if os.path.exists(folder) else ': there is no such folder'}; {_EXPECTED}"
    names = sorted(os.listdir(folder))
    # The official T-TA has a config.json of its own.
    if not any(map(_WEIGHTS.fullmatch, names)) and any(original := _original(folder / name) for name in names):
        return f"{folder} holds original weights, {Path(original).name}; {_convert(folder)}"
    if "config.json" in names:
        return None
    return adapter_or_training(folder) or f"{folder}: no config.json here; {_EXPECTED}"


def adapter_or_training(folder: Path) -> str | None:
    """Return what to do with a folder without config.json that holds an adapter or checkpoints of a training.

    Returns:
        None if it holds neither.
    """
    if (folder / "adapter_config.json").is_file():
        return (
            f"{folder}: an adapter of PEFT; expected a whole model: merge it (merge_and_unload) and save the result, "
            "or publish the adapter with `hf upload`"
        )
    checkpoints = [path for path in folder.glob("checkpoint-*") if (path / "config.json").is_file()]
    if checkpoints:
        last = max(checkpoints, key=lambda path: (len(path.name), path.name))
        return f"{folder}: no config.json here; name a checkpoint of the training, like {last}"
    return None


def _original(path: Path) -> str:
    """Return the checkpoint of TensorFlow or Keras, as `convert` takes it, that a path names; empty if none.

    The path is a file of the checkpoint, or the prefix of its files.
    """
    # tf_model.h5 is a format of transformers 4, which `convert` does not read.
    if path.name.endswith(_KERAS) and not path.name.startswith("tf_model") and os.path.isfile(path):
        return str(path)
    prefix = _PART_OF_TENSORFLOW.sub("", str(path))
    # Other libraries have files named .index, too.
    is_checkpoint = os.path.isfile(f"{prefix}.index") and glob.glob(f"{glob.escape(prefix)}.data-*")
    return prefix if is_checkpoint else ""


def _convert(source: str | Path) -> str:
    return f"kexue-hf convert {shlex.quote(str(source))} OUTPUT makes a model folder of it"


__all__ = ["adapter_or_training", "check_model_place", "why_no_model"]
