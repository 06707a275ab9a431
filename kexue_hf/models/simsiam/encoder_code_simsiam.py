"""The classes of the encoder inside a SimSiam folder, and its code, which is saved with the folder.

An encoder of transformers, or of an imported package, is known by its model type. The code of any other encoder, for
example WoBERT's where kexue_hf is not installed, is in the same folder as SimSiam's.
"""

from os import PathLike
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_MAPPING
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module


def encoder_class(config: Any, auto_class: str, folder: str = "") -> Any:
    """Return the encoder's class that `auto_class` ("AutoConfig" or "AutoModel") would load.

    Args:
        config: the encoder's configuration, or its dictionary.
        folder: SimSiam's folder or its name on the Hub.

    Raises:
        ValueError: the model type is unknown, and this module is not itself code of a folder that the user trusts.
    """
    known = _known(config, auto_class)
    if known is not None:
        return known
    model_type, references = (
        (config.get("model_type"), config.get("auto_map"))
        if isinstance(config, dict)
        else (config.model_type, getattr(config, "auto_map", None))
    )
    # Where this package is installed, the user has not agreed to run code of the folder.
    trusted = __name__.startswith("transformers_modules.")
    if not (trusted and folder and references and auto_class in references):
        raise ValueError(
            f"expected an encoder of transformers or of an imported package, got the model type {model_type!r}: "
            "import the package that defines it"
        )
    # Only code of this folder, where `save_encoder_code` has put it.
    return get_class_from_dynamic_module(references[auto_class].split("--")[-1], folder)


def _known(config: Any, auto_class: str) -> Any:
    if auto_class == "AutoModel":
        return MODEL_MAPPING.get(type(config), None)
    # Not `get`, which a lazy mapping of transformers does not treat as an optional lookup.
    model_type = config.get("model_type")
    return CONFIG_MAPPING[model_type] if model_type in CONFIG_MAPPING else None  # noqa: SIM401


def save_encoder_code(encoder: Any, folder: str | PathLike[str]) -> None:
    """Copy the encoder's Python files into the folder, unless transformers has its class."""
    if not type(encoder).__module__.startswith("transformers."):
        Path(folder).mkdir(parents=True, exist_ok=True)
        custom_object_save(encoder, folder)


__all__ = ["encoder_class", "save_encoder_code"]
