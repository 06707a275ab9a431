"""The command line of a training script: options, help, errors, and what is said after Ctrl-C.

A script's own options come first in its help, then the ones of transformers' `TrainingArguments` that most trainings
need; --help_all shows all of them.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from transformers import HfArgumentParser, TrainingArguments

from kexue_hf.errors import InputError, KexueError
from kexue_hf.files.whole_file import whole_file
from kexue_hf.trainers.checked_options import one_line
from kexue_hf.trainers.whole_checkpoints import last_whole_checkpoint

COMMON = {
    "output_dir": "folder for the model and its checkpoints",
    "learning_rate": "highest learning rate",
    "num_train_epochs": "passes over the training data",
    "max_steps": "steps, in place of epochs",
    "per_device_train_batch_size": "rows of a step on each device",
    "gradient_accumulation_steps": "batches of a step",
    "warmup_steps": "steps in which the learning rate rises, or a share of all steps if below 1",
    "logging_steps": "steps between two lines with the loss, or a share of all steps if below 1",
    "eval_strategy": "when to evaluate: no, steps or epoch",
    "save_strategy": "when to write a checkpoint: no, steps or epoch",
    "save_steps": "steps between two checkpoints",
    "save_total_limit": "how many checkpoints to keep",
    "seed": "seed of all random numbers",
    "bf16": "compute in bfloat16",
    "use_cpu": "use no GPU",
}
# A run shows its loss so many times, and every so many steps at the latest where their number is known.
_LINES, _MOST_STEPS = 20, 500


class _Format(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        none = action.default is None or action.default is False or action.required
        return action.help if none else super()._get_help_string(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        # Each option can be written with hyphens too, which would fill a line each.
        name = next(name for name in action.option_strings if name.startswith("--"))
        if action.nargs in (0, "?"):
            return name
        return f"{name} {'...' if action.choices is None else '{' + ','.join(map(str, action.choices)) + '}'}"


class ScriptParser(HfArgumentParser):
    """Parses the options of a script and transformers' TrainingArguments.

    Args:
        script: the script's name.
        description: stands above the options in --help.
        classes: dataclasses of the script's options and of the training's.
    """

    def __init__(self, script: str, description: str, classes: Sequence[type]) -> None:
        super().__init__(classes, prog=script, description=description, formatter_class=_Format)
        required = [f"--{action.dest} ..." for action in self._actions if action.required]
        self.usage = " ".join([f"{script}.py", *required, "--output_dir ... [options]"])
        self.add_argument("--help_all", action="store_true", help="show all options of transformers, too, and exit")
        # Hidden where nothing is said: 500 steps, before which most trainings here are over.
        self.set_defaults(logging_steps=1 / _LINES)
        self._own = {*getattr(classes[0], "__dataclass_fields__", {}), "help", "help_all"}

    def format_help(self) -> str:
        """The description, the script's own options, and the common ones of transformers."""
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
        title += ", all of which are in --help_all" if shown is not None else ""
        for heading, actions in (("options", own), (title, theirs)):
            made.start_section(heading)
            for action in actions:
                if actions is theirs and shown is not None:
                    action.help = shown[action.dest]
                made.add_argument(action)
            made.end_section()
        return made.format_help()

    def error(self, message: str) -> Any:
        """Raise InputError, in place of a page about all options."""
        raise InputError(f"{message} (--help shows what there is)")

    def parse(self, arguments: list[str] | None) -> tuple[Any, Any]:
        """The script's options and the training's.

        Raises:
            InputError: an option is unknown, is missing, or has a value that cannot be.
        """
        given = sys.argv[1:] if arguments is None else arguments
        if any(argument in ("--help_all", "--help-all") for argument in given):
            print(self._help(None))
            raise SystemExit(0)
        with one_line("wrong options"):
            options, training, *_ = self.parse_args_into_dataclasses(arguments)
        if training.logging_steps == 1 / _LINES and training.max_steps > 0:
            training.logging_steps = min(_MOST_STEPS, math.ceil(training.max_steps / _LINES))
        return options, training


def run_script(
    script: str,
    description: str,
    options_class: type,
    run: Callable[[Any, Any], Any],
    arguments: list[str] | None,
    training_class: type = TrainingArguments,
) -> None:
    """Run a script: errors and Ctrl-C are one line, and exit code 2.

    Args:
        script: its name.
        description: stands above the options in --help.
        options_class: of the script's options.
        arguments: of the command line; None for this process'.
        training_class: TrainingArguments, perhaps with other defaults.
    """
    training = None
    try:
        options, training = ScriptParser(script, description, (options_class, training_class)).parse(arguments)
        run(options, training)
    except KexueError as error:
        # One from a loader's worker comes with its traceback before it.
        message = str(error).strip().splitlines()[-1].removeprefix("kexue_hf.errors.InputError: ")
        print(f"{script}: error: {message}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"\n{script}: error: {_interrupted(training)}", file=sys.stderr)
        sys.exit(2)


def print_figures(figures: dict[str, Any]) -> None:
    """Print one figure a line, the names aligned."""
    width = max(map(len, figures), default=0)
    for name, value in figures.items():
        print(f"{name:>{width}}: {value:.4f}" if isinstance(value, float) else f"{name:>{width}}: {value}")


def write_report(path: str | None, figures: dict[str, Any]) -> None:
    """Write the figures as JSON; `path` None writes nothing."""
    if path:
        # Before the file is opened: figures that JSON cannot hold leave the old report as it is.
        content = json.dumps(figures, indent=2, ensure_ascii=False)
        with whole_file(path, overwrite=True) as file:
            file.write(content + "\n")


def _interrupted(training: Any) -> str:
    found = None if training is None else last_whole_checkpoint(training.output_dir)
    if found is None:
        return "interrupted; no checkpoint had been written"
    return f"interrupted; {found[0]} is kept: run the same command with --resume to go on from there"


__all__ = ["COMMON", "ScriptParser", "print_figures", "run_script", "write_report"]
