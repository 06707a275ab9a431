"""What a training script checks before it reads anything, so that a wrong option costs one line and no time.

The end of a training of several processes.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from kexue_hf.errors import InputError, KexueError
from kexue_hf.files.hub_names import check_model_name


def leave_process_group() -> None:
    """Leave the group of processes, if this one is in any.

    Left to the end of the interpreter, the group's threads may still run then, and abort a process that has done all
    its work.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn what libraries raise for bad input into an InputError of one line.

    Args:
        what: had been tried, to begin the message with.
    """
    try:
        yield
    except KexueError:
        raise
    except (ValueError, OSError, ImportError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what}: {reason}") from error


def check_model(name: str) -> None:
    """Raise InputError for a `--model` that is not a folder and cannot be downloaded from the Hub."""
    try:
        check_model_name(name)
    except InputError as error:
        raise InputError(f"--model {name} cannot be used: it{str(error).removeprefix(name)}") from None


def check_range(options: dict[str, float | None], low: float, high: float = float("inf")) -> None:
    """Raise InputError for the first option, by name, that is not within low..high; None is left out."""
    for name, value in options.items():
        if value is not None and not low <= value <= high:
            expected = f"from {low} to {high}" if high < float("inf") else f"{low} or more"
            raise InputError(f"--{name} must be {expected}, got {value}")


def check_training(arguments: Any, dropout: float | None, report: str | None) -> None:
    """Raise InputError for numbers out of range, for places that cannot be written to after the training, and for the
    option of transformers that a script's own --resume takes the place of.

    Args:
        arguments: transformers' TrainingArguments.
        report: where a file of figures is wanted.
    """
    check_range(
        {
            "batch_size": arguments.per_device_train_batch_size,
            "per_device_eval_batch_size": arguments.per_device_eval_batch_size,
            "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        },
        1,
    )
    # What numpy takes.
    check_range({"seed": arguments.seed, "data_seed": arguments.data_seed}, 0, 2**32 - 1)
    check_range({"dropout": dropout}, 0, 1)
    if arguments.resume_from_checkpoint is not None:
        raise InputError(
            "--resume_from_checkpoint has no effect here: --resume goes on from the last whole checkpoint in "
            "--output_dir; leave it out"
        )
    folder = Path(arguments.output_dir)
    if next(path for path in (folder, *folder.absolute().parents) if path.exists()).is_file():
        raise InputError(f"--output_dir must be a folder, {folder} is a file or lies in one")
    if report is not None and (not Path(report).absolute().parent.is_dir() or Path(report).is_dir()):
        raise InputError(f"--report must be a file in a folder that exists, got {report}")


def check_nothing_is_replaced(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise InputError where a training would replace a model, or leave its checkpoints among another's.

    Args:
        folder: the output.
        resume, overwrite: what the user said is to happen to what is there.
    """
    if resume or overwrite:
        return
    found = [path.name for path in (folder / "config.json", *sorted(folder.glob("checkpoint-*"))) if path.exists()]
    if found:
        raise InputError(
            f"--output_dir {folder} holds what an earlier training left ({found[0]}): give another folder, --resume "
            "to go on with it, or --overwrite to replace it"
        )


def remove_checkpoints(options: Any, arguments: Any) -> None:
    """Remove the checkpoints of an earlier training where --overwrite replaces it: no later --resume may find them.

    Args:
        options: with `resume` and `overwrite`. arguments: transformers' TrainingArguments.
    """
    if options.overwrite and not options.resume and arguments.process_index == 0:
        for checkpoint in Path(arguments.output_dir).glob("checkpoint-*"):
            shutil.rmtree(checkpoint)


__all__ = [
    "check_model",
    "check_nothing_is_replaced",
    "check_range",
    "check_training",
    "leave_process_group",
    "one_line",
    "remove_checkpoints",
]
