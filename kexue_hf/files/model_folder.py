"""Check where a model is to be loaded from, and say what lies there instead of one. Imports no library."""

import os
import shlex
from pathlib import Path

from kexue_hf.errors import InputError
from kexue_hf.files.hub_names import check_model_name
from kexue_hf.files.regular_file import check_folder

_EXPECTED = "expected the folder of a transformers model"
# Endings of weights of TensorFlow and Keras that `convert` reads; tf_model.h5 is a format of transformers 4.
_ORIGINAL = (".index", ".h5", ".hdf5", ".weights")
_TRANSFORMERS = (".safetensors", ".bin")


def check_model_place(name: str | os.PathLike[str]) -> str:
    """Return what to load a model from: a folder, a name on the Hub, or its folder in the cache.

    Raises:
        InputError: it is neither; the message says what it is instead, as far as its name tells.
    """
    text = os.fspath(name)
    if not text.strip():
        raise InputError("no model: expected a folder or a name on the Hub, got an empty string")
    path = Path(text)
    if path.is_dir():
        if reason := why_no_model(path):
            raise InputError(reason)
        check_folder(text)
    elif path.is_file():
        convertible = path.suffix in _ORIGINAL
        raise InputError(f"{text} is a file; {_convert(text) if convertible else _EXPECTED}")
    elif Path(f"{text}.index").is_file():
        raise InputError(f"{text} is a checkpoint of TensorFlow; {_convert(text)}")
    return check_model_name(text)


def why_no_model(folder: Path) -> str | None:
    """Return the message on a folder without config.json or with original weights only; None for any other."""
    if not folder.is_dir():
        return f"{folder}: there is no such folder; {_EXPECTED}"
    names = sorted(os.listdir(folder))
    original = next((name for name in names if name.endswith(_ORIGINAL) and name != "tf_model.h5"), None)
    # The official T-TA has a config.json of its own.
    if original is not None and not any(name.endswith(_TRANSFORMERS) for name in names):
        return f"{folder} holds original weights, {original}; {_convert(folder)}"
    if (folder / "config.json").exists():
        return None
    if "adapter_config.json" in names:
        return (
            f"{folder}: an adapter of PEFT; expected a whole model: merge it (merge_and_unload) and save the result, "
            "or publish the adapter with `hf upload`"
        )
    checkpoints = [path for path in folder.glob("checkpoint-*") if (path / "config.json").is_file()]
    if checkpoints:
        last = max(checkpoints, key=lambda path: (len(path.name), path.name))
        return f"{folder}: no config.json here; name a checkpoint of the training, like {last}"
    return f"{folder}: no config.json here; {_EXPECTED}"


def _convert(source: str | Path) -> str:
    return f"kexue-hf convert {shlex.quote(str(source))} OUTPUT makes a model folder of it"


__all__ = ["check_model_place", "why_no_model"]
