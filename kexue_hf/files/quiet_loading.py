"""What loading a model takes beside its files: silence, a device, and the error of a library in one line."""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from kexue_hf.errors import InputError


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence transformers' progress bars, log messages and all warnings inside the block."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def chosen_device(name: str) -> Any:
    """Return the torch device of a name; `auto` is a CUDA GPU if there is one, else the CPU.

    Other accelerators must be named: some have no double precision, in which correction compares its candidates.

    Raises:
        InputError: there is no such device.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type == "meta":  # meta tensors have no values
        raise InputError(f"no device {name!r}; expected auto, cpu, cuda, cuda:1 or another torch device")
    return device


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; its type if there is none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


__all__ = ["chosen_device", "first_line", "quiet_libraries"]
