"""The models of this process: each is loaded once, checked against the folder that the caller saw, and kept.

An engine unpickles a callable for every task or batch, so the callable itself cannot keep the model.
"""

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.files.regular_file import READ, open_regular

_BLOCK = 1 << 20
# Models of a process, the last used: each kind once, and one more. Workers that alternate between more callables load
# a model again with every batch.
KEPT = 4
# Callables are made before a pool forks, and importing this module in a spawned process sets it anew.
_IMPORTED_IN = os.getpid()


def folder_digest(model: str) -> str:
    """Return a digest of the content of a model folder; empty for a name on the Hub.

    Raises:
        InputError: a file of the folder is not a regular file.
    """
    folder = Path(model)
    if not os.path.isdir(folder):
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in folder.iterdir() if path.name.endswith(READ) and path.is_file()):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        _add_file(digest, path)
    return digest.hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return a digest of the content of a file.

    Raises:
        InputError: it is not a regular file.
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    _add_file(digest, path)
    return digest.hexdigest()


def _add_file(digest: "hashlib.blake2b", path: str | os.PathLike[str]) -> None:
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)


@functools.lru_cache(maxsize=KEPT)
def loaded_model(loader: str, model: str, digest: str, device: str, dtype: str) -> tuple[Any, Any]:
    """Return a model in evaluation mode on its device, and its tokenizer.

    Args:
        loader: name of a function of `model_loading`.
        model: a folder, or a name on the Hub.
        digest: `folder_digest` of the model where the callable was made.

    Raises:
        InputError: the model cannot be loaded, or the folder holds other files than it did there.
    """
    from kexue_hf.batch import model_loading

    if digest and os.path.isdir(model) and folder_digest(model) != digest:
        raise InputError(
            f"{model}: its files differ from those that the callable was made with: make it again, or copy the same "
            "folder to every machine"
        )
    found: tuple[Any, Any] = getattr(model_loading, loader)(model, device, dtype)
    return found


@contextlib.contextmanager
def torch_threads(number: int | None) -> Iterator[None]:
    """Set the number of torch's threads within the block.

    None leaves the number to the engine or to OMP_NUM_THREADS, except in a pool's process (`num_proc`), which gets 1:
    its siblings use the other cores.

    Raises:
        InputError: several threads in a forked process, which hangs if its parent has used threads.
    """
    import torch

    if number is not None and number > 1 and os.getpid() != _IMPORTED_IN:
        raise InputError(f"threads must be 1 in a forked process, as those of num_proc, got {number}: leave it out")
    if number is None and _in_a_pool():
        number = 1
    before = torch.get_num_threads()
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_a_pool() -> bool:
    """Return whether this process was started by multiprocessing, or by the variant of it that `datasets` uses."""
    modules = (sys.modules.get(name) for name in ("multiprocessing", "multiprocess"))
    return any(module is not None and module.parent_process() is not None for module in modules)


__all__ = ["KEPT", "file_digest", "folder_digest", "loaded_model", "torch_threads"]
