"""The classes of the encoder inside a SimSiam folder, and its code, which is saved with the folder.

An encoder of transformers, or of an imported package, is known by its model type. The code of any other encoder, for
example WoBERT's where kexue_hf is not installed, is in the same folder as SimSiam's.
"""

from os import PathLike
from typing import Any

from transformers import CONFIG_MAPPING, MODEL_MAPPING
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module


def config_class_of(values: dict[str, Any], folder: str = "", **hub: Any) -> Any:
    """Return the class of an encoder's configuration.

    Args:
        values: the configuration as a dictionary.
        folder: SimSiam's folder or its name on the Hub, in which unknown code is looked up.
        hub: options of the download, such as `revision` and `token`.

    Raises:
        ValueError: the model type is unknown, and this module is not itself code of a folder that the user trusts.
    """
    model_type, references = values.get("model_type"), values.get("auto_map") or {}
    if model_type in CONFIG_MAPPING:
        return CONFIG_MAPPING[model_type]
    # Where this package is installed, nobody has agreed to run code of the folder.
    trusted = __name__.startswith("transformers_modules.")
    if not (trusted and folder and {"AutoConfig", "AutoModel"} <= references.keys()):
        raise _unknown(model_type)
    from transformers import AutoModel

    # Only code of this folder, where `save_encoder_code` has put it.
    config_class, model_class = (
        get_class_from_dynamic_module(references[name].split("--")[-1], folder, **hub)
        for name in ("AutoConfig", "AutoModel")
    )
    # As AutoModel itself does with code from a folder. A table of our own would not do: transformers loads this module
    # twice, once for the configuration and once for the model.
    AutoModel.register(config_class, model_class, exist_ok=True)
    return config_class


def model_class_of(config: Any) -> Any:
    """Return the class of the encoder with this configuration.

    Raises:
        ValueError: it is unknown.
    """
    found = MODEL_MAPPING.get(type(config), None)
    # Some model types have several base classes, the first of which is the usual one.
    found = found[0] if isinstance(found, list | tuple) else found
    if found is None:
        raise _unknown(config.model_type)
    return found


def _unknown(model_type: Any) -> ValueError:
    return ValueError(
        f"expected an encoder of transformers or of an imported package, got the model type {model_type!r}: import "
        "the package that defines it, or register its classes with AutoConfig and AutoModel"
    )


def save_encoder_code(encoder: Any, folder: str | PathLike[str]) -> None:
    """Copy the encoder's Python files into an existing folder, unless transformers has its class."""
    if not type(encoder).__module__.startswith("transformers."):
        custom_object_save(encoder, folder)


__all__ = ["config_class_of", "model_class_of", "save_encoder_code"]
