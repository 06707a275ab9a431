"""Checkpoints that are known to be whole, and that tell which rows have been trained on.

A process that is killed while it writes leaves a folder `checkpoint-N` that looks like any other; transformers'
`get_last_checkpoint` picks it. Here a checkpoint counts when it holds `progress.json`, which is written last, when all
processes have written their parts, and appears in one go.
"""

import json
import os
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kexue_hf.errors import InputError

PROGRESS = "progress.json"


class MarkWhole(TrainerCallback):
    """After each checkpoint: wait for all processes, then write `facts` and the step into it."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any) -> None:
        import torch.distributed

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            # A pickle of the arguments: nobody needs it, and a folder with a pickle in it frightens people off.
            (folder / "training_args.bin").unlink(missing_ok=True)
            write_whole(folder / PROGRESS, json.dumps({"step": state.global_step, **self.facts}, indent=2) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is either there with all of its content or not at all, whenever the process is killed."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)


def last_whole_checkpoint(folder: str | Path) -> tuple[str, dict[str, Any]] | None:
    """The latest checkpoint that is whole, and what its `progress.json` says."""
    paths = [path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    for path in sorted(paths, key=lambda path: int(path.name.split("-")[1]), reverse=True):
        try:
            return str(path), json.loads((path / PROGRESS).read_text("utf-8"))
        except (OSError, ValueError):
            continue
    return None


def check_same_order(facts: dict[str, Any], recorded: dict[str, Any], checkpoint: str) -> None:
    """Refuse to go on where the order of rows would not be that of the stopped run.

    Raises:
        InputError: a fact differs.
    """
    for name, value in facts.items():
        if name in recorded and recorded[name] != value:
            raise InputError(
                f"{checkpoint} was made with {name} {recorded[name]}, now it is {value}, so the rows would come in "
                f"another order: restore it, or start anew from the weights with --model {checkpoint}"
            )


__all__ = ["MarkWhole", "check_same_order", "last_whole_checkpoint", "write_whole"]
