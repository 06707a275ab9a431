"""Checks of a training script's options, made before it reads anything: a wrong option costs one line and no time."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError, KexueError
from kexue_hf.files.hub_names import check_model_name


@contextmanager
def one_line_errors(what: str) -> Iterator[None]:
    """Convert a library's errors about bad input to an InputError of one line.

    Args:
        what: start of the message, such as the file or option that failed.
    """
    try:
        yield
    except KexueError:
        raise
    except (ValueError, OSError, ImportError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what}: {reason}") from error


def check_model(name: str) -> None:
    """Raise InputError if `--model` is neither a local folder nor a name that can be downloaded from the Hub."""
    try:
        check_model_name(name)
    except InputError as error:
        raise InputError(f"--model {name} cannot be used: it{str(error).removeprefix(name)}") from None


def check_range(options: dict[str, float | None], low: float, high: float = float("inf")) -> None:
    """Raise InputError for the first option (name to value) that is not within low..high; None is skipped."""
    for name, value in options.items():
        if value is not None and not low <= value <= high:
            expected = f"from {low} to {high}" if high < float("inf") else f"{low} or more"
            raise InputError(f"--{name} must be {expected}, got {value}")


def check_training(arguments: Any, dropout: float | None, report: str | None) -> None:
    """Check transformers' TrainingArguments and the options that all scripts share.

    Args:
        arguments: transformers' TrainingArguments.
        dropout: value of `--dropout`.
        report: path of `--report`.

    Raises:
        InputError: a number is out of range, an output cannot be written after the training, or
            `--resume_from_checkpoint` is given, which the scripts replace with `--resume`.
    """
    check_range(
        {
            "batch_size": arguments.per_device_train_batch_size,
            "per_device_eval_batch_size": arguments.per_device_eval_batch_size,
            "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        },
        1,
    )
    # The range of numpy's seeds.
    check_range({"seed": arguments.seed, "data_seed": arguments.data_seed}, 0, 2**32 - 1)
    check_range({"dropout": dropout}, 0, 1)
    if arguments.resume_from_checkpoint is not None:
        raise InputError(
            "--resume_from_checkpoint has no effect here: leave it out; --resume continues from the last complete "
            "checkpoint in --output_dir"
        )
    folder = Path(arguments.output_dir)
    if next(path for path in (folder, *folder.absolute().parents) if path.exists()).is_file():
        raise InputError(f"--output_dir must be a folder, got {folder}, which is a file or lies in one")
    if report is not None and (not Path(report).absolute().parent.is_dir() or Path(report).is_dir()):
        raise InputError(f"--report must be a file in an existing folder, got {report}")


def check_output_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise InputError if a training would replace a model, or mix its checkpoints with those of another.

    Args:
        folder: value of `--output_dir`.
        resume, overwrite: the options that allow files of an earlier training.
    """
    if resume or overwrite:
        return
    found = [path.name for path in (folder / "config.json", *sorted(folder.glob("checkpoint-*"))) if path.exists()]
    if found:
        raise InputError(
            f"--output_dir {folder} holds the files of an earlier training ({found[0]}): use another folder, --resume "
            "to continue it, or --overwrite to replace it"
        )


def remove_checkpoints(options: Any, arguments: Any) -> None:
    """Remove the checkpoints of an earlier training that --overwrite replaces, so that no later --resume finds them.

    Args:
        options: options with `resume` and `overwrite`.
        arguments: transformers' TrainingArguments.
    """
    if options.overwrite and not options.resume and arguments.process_index == 0:
        for checkpoint in Path(arguments.output_dir).glob("checkpoint-*"):
            shutil.rmtree(checkpoint)


__all__ = [
    "check_model",
    "check_output_folder",
    "check_range",
    "check_training",
    "one_line_errors",
    "remove_checkpoints",
]
