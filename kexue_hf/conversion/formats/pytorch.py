"""Read a `pytorch_model.bin`, a pickle, with torch's restricted unpickler, which runs no code from the file."""

import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from kexue_hf.conversion.formats.weight_source import BY_NAME, CHUNK, StoredTensor, WeightSource
from kexue_hf.errors import CheckpointError, InputError, quoted

_FAILURES = (
    pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, OSError,
)  # fmt: skip


class PyTorchWeights(WeightSource):
    """The tensors of a file that `torch.save` wrote.

    Raises:
        CheckpointError: the file is missing or damaged, or holds anything but tensors.
        InputError: torch is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = os.fspath(path)
        self._values = _load(path)
        tensors = {}
        for name, value in self._values.items():
            kind = BY_NAME.get(str(value.dtype).removeprefix("torch."))
            obstacle = "" if kind else f"has type {value.dtype}, which this reader does not know"
            size = value.numel() * value.element_size()
            tensors[name] = StoredTensor(name, kind, tuple(value.shape), size, obstacle)
        super().__init__(path, tensors)

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        import torch

        kind, flat = self.stored_type(name), self._values[name].detach().reshape(-1)
        rows = max(1, CHUNK // kind.size)
        for start in range(0, len(flat), rows):
            # Go through bytes, because numpy has no bfloat16.
            piece = flat[start : start + rows].contiguous().view(torch.uint8).numpy()
            yield piece.view(kind.numpy)

    def close(self) -> None:
        self._values = {}


def _load(path: str) -> dict[str, Any]:
    if not os.path.isfile(path):
        raise CheckpointError(f"{path}: expected a regular file; give a folder that holds one")
    try:
        import torch
    except ImportError:
        raise InputError(f"{path}: reading a PyTorch file needs torch: pip install torch") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Unreadable files raise an error anyway.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _FAILURES as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path}: torch.load(weights_only=True) refuses it: it is damaged, or holds objects other than tensors, "
            f"which could run code: {reason:.150}"
        ) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path}: expected a dict of tensors, got {type(state).__name__}")
    odd = next((name for name, value in state.items() if not _is_weight(name, value, torch)), None)
    if odd is not None:
        raise CheckpointError(f"{path}: expected a dict of dense tensors, but {odd!r:.60} is not one")
    for name, value in state.items():
        size, stored = value.numel() * value.element_size(), value.untyped_storage().nbytes()
        # With a stride of 0, a small file could expand to any amount of memory.
        if size > stored:
            raise CheckpointError(
                f"{path}: tensor {quoted(name)} claims {size:,} bytes, but the file holds {stored:,} bytes of it"
            )
    return dict(state)


def _is_weight(name: object, value: Any, torch: Any) -> bool:
    return isinstance(name, str) and isinstance(value, torch.Tensor) and _is_plain(value, torch)


def _is_plain(value: Any, torch: Any) -> bool:
    return bool(value.layout == torch.strided and value.device.type == "cpu")


__all__ = ["PyTorchWeights"]
