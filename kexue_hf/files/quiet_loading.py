"""Helpers for loading a model: silence the libraries, choose the device, shorten an error to one line."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

from kexue_hf.errors import InputError


@contextlib.contextmanager
def quiet_hub(*, bars: bool = False) -> Iterator[None]:
    """Silence huggingface_hub's log messages and all warnings inside the block.

    Args:
        bars: leave huggingface_hub's progress bars as they are.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    level, shown = logger.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        if not bars:
            disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if shown:
                enable_progress_bars()
            else:
                disable_progress_bars()


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the progress bars and log messages of transformers and huggingface_hub, and all warnings."""
    from transformers.utils import logging as transformers_logging

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    # transformers switches the bars of huggingface_hub too, so `quiet_hub` restores them last.
    with quiet_hub():
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()


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
    """Return the first line of an error's text, or the name of its class if the text is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


__all__ = ["chosen_device", "first_line", "quiet_hub", "quiet_libraries"]
