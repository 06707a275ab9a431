"""The command line of a training script: options, help, one-line errors, reports, and a clean end.

The help shows a script's own options first, then the options of transformers' `TrainingArguments` that most trainings
need; --help_all shows all of them.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import HfArgumentParser, TrainingArguments

from kexue_hf.errors import InputError, KexueError
from kexue_hf.files.whole_file import whole_file
from kexue_hf.trainers.checked_options import one_line_errors
from kexue_hf.trainers.whole_checkpoints import last_whole_checkpoint

COMMON = {
    "output_dir": "folder for the model and its checkpoints",
    "learning_rate": "highest learning rate",
    "num_train_epochs": "passes over the training data",
    "max_steps": "number of steps, instead of epochs",
    "per_device_train_batch_size": "rows per batch on each device",
    "gradient_accumulation_steps": "batches per step",
    "warmup_steps": "steps while the learning rate rises; below 1: fraction of all steps",
    "logging_steps": "steps between two reports of the loss; below 1: fraction of all steps",
    "eval_strategy": "when to evaluate: no, steps or epoch",
    "save_strategy": "when to write a checkpoint: no, steps or epoch",
    "save_steps": "steps between two checkpoints",
    "save_total_limit": "how many checkpoints to keep",
    "seed": "seed of all random numbers",
    "bf16": "compute in bfloat16",
    "use_cpu": "train on the CPU",
}
# A run reports its loss this many times, but at least every `_MAX_LOGGING_STEPS` steps.
_LOSS_LINES, _MAX_LOGGING_STEPS = 20, 500
# Seconds before the process group is left.
_PAUSE = 0.05


class _Format(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default is None or action.default is False or action.required
        return action.help if none else super()._get_help_string(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        # Hides the second spelling of each option, with hyphens.
        name = next(name for name in action.option_strings if name.startswith("--"))
        if action.nargs in (0, "?"):
            return name
        return f"{name} {'...' if action.choices is None else '{' + ','.join(map(str, action.choices)) + '}'}"


class ScriptParser(HfArgumentParser):
    """Parse the options of a script and transformers' TrainingArguments.

    Args:
        script: name of the script.
        description: text above the options in --help.
        classes: the dataclasses of the script's options and of the TrainingArguments.
    """

    def __init__(self, script: str, description: str, classes: Sequence[type]) -> None:
        super().__init__(classes, prog=script, description=description, formatter_class=_Format)
        required = [f"--{action.dest} ..." for action in self._actions if action.required]
        self.usage = " ".join([f"{script}.py", *required, "--output_dir ... [options]"])
        self.add_argument("--help_all", action="store_true", help="show all options of transformers too, and exit")
        # The default of transformers is 500 steps, more than most trainings here take.
        self.set_defaults(logging_steps=1 / _LOSS_LINES)
        self._own = {*getattr(classes[0], "__dataclass_fields__", {}), "help", "help_all"}

    def format_help(self) -> str:
        """Return the description, the script's options, and the common options of transformers."""
        return self._help(COMMON)

    def _help(self, shown: dict[str, str] | None) -> str:
        made = self._get_formatter()
        made.add_usage(self.usage, self._actions, [])
        made.add_text(self.description)
        own = [action for action in self._actions if action.dest in self._own]
        theirs = [action for action in self._actions if action.dest not in self._own]
        if shown is not None:
            theirs = [action for name in shown for action in theirs if action.dest == name]
        title = "options of transformers' TrainingArguments"
        title += " (--help_all shows all)" if shown is not None else ""
        for heading, actions in (("options", own), (title, theirs)):
            made.start_section(heading)
            for action in actions:
                if actions is theirs and shown is not None:
                    action.help = shown[action.dest]
                made.add_argument(action)
            made.end_section()
        return made.format_help()

    def error(self, message: str) -> Any:
        """Raise InputError instead of printing the usage."""
        raise InputError(f"{message} (see --help)")

    def parse(self, arguments: list[str] | None) -> tuple[Any, Any]:
        """Return the script's options and the TrainingArguments.

        Raises:
            InputError: an option is unknown, missing or invalid.
        """
        given = sys.argv[1:] if arguments is None else arguments
        if any(argument in ("--help_all", "--help-all") for argument in given):
            print(self._help(None))
            raise SystemExit(0)
        with one_line_errors("wrong options"):
            options, training, *_ = self.parse_args_into_dataclasses(arguments)
        if training.logging_steps == 1 / _LOSS_LINES and training.max_steps > 0:
            training.logging_steps = min(_MAX_LOGGING_STEPS, math.ceil(training.max_steps / _LOSS_LINES))
        return options, training


def run_script(
    script: str,
    description: str,
    options_class: type,
    run: Callable[[Any, Any], Any],
    arguments: list[str] | None,
    training_class: type = TrainingArguments,
) -> None:
    """Run a script. Errors and Ctrl-C print one line and exit with code 2.

    Args:
        script: name of the script.
        description: text above the options in --help.
        options_class: dataclass of the script's options.
        run: called with the options and the TrainingArguments.
        arguments: the command line; None for that of this process.
        training_class: TrainingArguments, or a subclass with other defaults.
    """
    training = None
    try:
        options, training = ScriptParser(script, description, (options_class, training_class)).parse(arguments)
        run(options, training)
    except KexueError as error:
        # An error from a data loader's worker starts with the worker's traceback.
        message = str(error).strip().splitlines()[-1].removeprefix("kexue_hf.errors.InputError: ")
        print(f"{script}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"\n{script}: error: {_interrupted(training)}", file=sys.stderr)
        sys.exit(2)


def leave_process_group() -> None:
    """Leave the process group, if this process is in one.

    If the interpreter's exit destroyed the group, threads of the group could still be running and abort a process that
    has finished its work.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        # Whoever frees a gloo group holds the GIL and waits for its threads, one of which may need the GIL to free the
        # tensors of the last collective: a deadlock in torch 2.13. While this thread sleeps, the other one can.
        time.sleep(_PAUSE)
        torch.distributed.destroy_process_group()


def print_figures(figures: dict[str, Any]) -> None:
    """Print one figure per line, with aligned names."""
    width = max(map(len, figures), default=0)
    for name, value in figures.items():
        print(f"{name:>{width}}: {value:.4f}" if isinstance(value, float) else f"{name:>{width}}: {value}")


def write_report(path: str | None, figures: Any) -> None:
    """Write the figures as JSON; do nothing if `path` is None."""
    if path:
        # Serialized before the file is opened, so that an error keeps the old report.
        content = json.dumps(figures, indent=2, ensure_ascii=False)
        with whole_file(path, overwrite=True) as file:
            file.write(content + "\n")


def _interrupted(training: Any) -> str:
    found = None if training is None else last_whole_checkpoint(training.output_dir)
    if found is None:
        return "interrupted; no checkpoint was written"
    return f"interrupted; {found[0]} is kept: run the same command with --resume to continue from there"


__all__ = ["COMMON", "ScriptParser", "leave_process_group", "print_figures", "run_script", "write_report"]
