"""Resolve the model names given to commands: local folders, or names on the Hub. Anything else is an error at once.

Without this check, huggingface_hub retries an unreachable Hub for a minute and prints a line for each attempt.
"""

import os
import re
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError

_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
# A name with one of these endings is a file.
_FILE = re.compile(
    r".*\.(ckpt|index|meta|h5|hdf5|weights|bin|pt|pth|safetensors|zip|gz|tgz|tar|txt|json)", re.IGNORECASE
)
_SECONDS = 5

_FILES = ["config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"]
_WEIGHTS = ["model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_PICKLE = ["pytorch_model.bin"]


def is_hub_name(name: str) -> bool:
    """Return whether a name can be a name on the Hub. A path with a slash that exists is one of this machine."""
    if not _NAME.fullmatch(name) or _FILE.fullmatch(name) or len(name) > 96 or ".." in name:
        return False
    return "/" not in name or not os.path.exists(name)


def check_model_name(name: str) -> str:
    """Return what to load a model from: the name, or its folder in the cache if the Hub cannot be reached.

    Raises:
        InputError: there is no such folder, and the name is not valid on the Hub or the Hub cannot be reached.
    """
    if os.path.isdir(name):
        return name
    if not is_hub_name(name):
        raise InputError(f"{name} is not a folder; expected the folder of a transformers model, or a name on the Hub")
    reason = _unreachable()
    if reason is None:
        return name
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json")
    if not isinstance(cached, str):
        raise InputError(f"{name} is not a folder, and cannot be downloaded from the Hub ({reason})")
    # Return the folder, not the name: transformers asks the Hub for some files despite local_files_only.
    return str(Path(cached).parent)


def commit_of(name: str) -> str | None:
    """Return the last loaded commit of a Hub name, or that of a folder in the cache; None for anything else."""
    from huggingface_hub import try_to_load_from_cache

    place = name if os.path.isdir(name) else try_to_load_from_cache(name, "config.json")
    found = re.search(r"snapshots[/\\]([0-9a-f]{40})(?![0-9a-f])", str(place))
    return found and found[1]


def _fetch(name: str) -> Path:
    place = check_model_name(name)
    if place != name:
        return Path(place)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(name, allow_patterns=[*_FILES, *_WEIGHTS]))
        # Download PyTorch weights only if there are no safetensors.
        if not list(folder.glob("*.safetensors")):
            snapshot_download(name, allow_patterns=_PICKLE)
        return folder
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} is not a folder, and cannot be downloaded from the Hub ({reason})") from None


def local_source(source: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Return a source of weights; download a name on the Hub first, and return its folder.

    Paths, including checkpoint prefixes, are returned unchanged. Errors as `check_model_name`.
    """
    name = os.fspath(source)
    if os.path.exists(name) or os.path.exists(f"{name}.index") or not is_hub_name(name):
        return source
    return _fetch(name)


def _unreachable() -> str | None:
    """Return why the Hub cannot be reached; None if it answers."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    session: Any = get_session()
    try:
        session.head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception as error:  # the session may be requests or httpx
        return f"{constants.ENDPOINT}: {(str(error).splitlines() or [type(error).__name__])[0]}"
    return None


__all__ = ["check_model_name", "commit_of", "is_hub_name", "local_source"]
