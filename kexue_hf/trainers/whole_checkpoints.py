"""Checkpoints that are known to be whole, and that tell which rows have been trained on.

A process that is killed while it writes leaves a folder `checkpoint-N` that looks like any other; transformers'
`get_last_checkpoint` picks it. Here a checkpoint counts when it holds `progress.json`, which is written last, when all
processes have written their parts, and appears in one go. Older checkpoints are deleted (`save_total_limit`) after
that only: at any moment one of them is whole. The trained model itself is written into a folder of its own, from which
each finished file is moved.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch.distributed
from transformers import Trainer

from kexue_hf.errors import InputError

PROGRESS = "progress.json"
_CONFIGURATIONS = ("config.json", "adapter_config.json")
_SAVING, _REMOVING = ".saving", ".removing"


class MarkingTrainer(Trainer):
    """[`Trainer`] that marks its checkpoints as whole and resumes from whole ones only; arguments as there, and:

    Args:
        facts: what the rows that are trained on, and what is computed of them, depend on, by name, as JSON holds it; a
            checkpoint keeps them, and a run with others is not resumed.

    `first_step` is the step that the last training went on from.
    """

    def __init__(self, *arguments: Any, facts: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.facts = facts or {}
        self.first_step = 0

    def resume(self) -> Any:
        """Train, on from the last whole checkpoint in `output_dir` if there is one. Of a finished run it is loaded.

        Raises:
            InputError: its rows are others than these would be, or came in another order.
        """
        found = last_whole_checkpoint(str(self.args.output_dir))
        if found is None:
            return self.train()
        checkpoint, recorded = found
        check_same_order(self.facts, recorded, checkpoint)
        self.first_step = recorded["step"]
        self._skip(self.first_step)
        result = self.train(resume_from_checkpoint=checkpoint)
        if self.is_world_process_zero():
            self._rotate()  # The stopped run may not have come to it.
        return result

    def _skip(self, steps: int) -> None:
        """Before resuming: for data that can leave out by itself what those steps took."""

    def _run_epoch(self, *arguments: Any, **options: Any) -> Any:
        # Trainer looks whether the steps are done after a step only: a finished run would get one more each time.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*arguments, **options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as `Trainer.save_model` does; a killed process leaves no half-written file over an older one.

        `training_args.bin` is removed: nothing needs it, and people distrust a folder with a pickle in it.
        """
        folder = Path(output_dir or str(self.args.output_dir))
        # A checkpoint is marked as whole later, and an upload is named for the folder that is saved.
        direct = _internal_call or self.args.push_to_hub
        stage = folder if direct else folder / _SAVING
        if not direct and self.args.should_save:
            shutil.rmtree(stage, ignore_errors=True)  # of a killed process
        super().save_model(output_dir if direct else str(stage), _internal_call)
        if not self.args.should_save:
            return
        (stage / "training_args.bin").unlink(missing_ok=True)
        if not direct and stage.is_dir():
            # The configuration comes last: without it nothing loads.
            files = [path.relative_to(stage) for path in stage.rglob("*") if not path.is_dir()]
            for path in sorted(files, key=lambda path: (path.name in _CONFIGURATIONS, path)):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                os.replace(stage / path, folder / path)
            shutil.rmtree(stage)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        if self.is_world_process_zero():
            # An earlier run's, which would say that what is being written is whole.
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            (folder / PROGRESS).unlink(missing_ok=True)
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(*arguments, **options)
        finally:
            self.args.save_total_limit = limit
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if self.is_world_process_zero():
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            write_whole(folder / PROGRESS, json.dumps({"step": self.state.global_step, **self.facts}, indent=2) + "\n")
            self._rotate()

    def _rotate(self) -> None:
        """Delete checkpoints beyond `save_total_limit`: first those that are not whole, then by age; never the best.

        What is deleted is moved away first, so that no part of it looks like a checkpoint when the process is killed.
        """
        folder, limit = Path(self.args.output_dir), self.args.save_total_limit
        shutil.rmtree(folder / _REMOVING, ignore_errors=True)
        ordered = sorted(_checkpoints(folder), key=_age)
        kept = {ordered[-1].name, Path(self.state.best_model_checkpoint or "").name} if ordered else set()
        surplus = len(ordered) - max(limit, len(kept & {path.name for path in ordered})) if limit else 0
        for path in [path for path in ordered if path.name not in kept][: max(0, surplus)]:
            os.replace(path, folder / _REMOVING)
            shutil.rmtree(folder / _REMOVING, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file that is either there with all of its content or not at all, whenever the process is killed."""
    # The same name each time: what a killed process left is written anew, and renamed.
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)


def last_whole_checkpoint(folder: str | Path) -> tuple[str, dict[str, Any]] | None:
    """The latest checkpoint that is whole, and what its `progress.json` says."""
    for path in _checkpoints(folder):
        try:
            return str(path), json.loads((path / PROGRESS).read_text("utf-8"))
        except (OSError, ValueError):
            continue
    return None


def why_from_the_beginning(folder: str | Path) -> str:
    """What to say where there is no whole checkpoint to resume from."""
    found = _checkpoints(folder)
    if not found:
        return f"no checkpoint in {folder} yet: starting from the beginning"
    return (
        f"warning: no checkpoint in {folder} is whole (none of {', '.join(path.name for path in found)} holds "
        f"{PROGRESS}, which is written last): starting from the beginning"
    )


def _checkpoints(folder: str | Path) -> list[Path]:
    """The latest first."""
    paths = [path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    return sorted(paths, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def _age(checkpoint: Path) -> tuple[int, int]:
    """Sorts checkpoints from the oldest to the newest: by when they were whole, and before all those that are not."""
    try:
        return (checkpoint / PROGRESS).stat().st_mtime_ns, int(checkpoint.name.split("-")[1])
    except OSError:
        return 0, int(checkpoint.name.split("-")[1])


def check_same_order(facts: dict[str, Any], recorded: dict[str, Any], checkpoint: str) -> None:
    """Refuse to go on where the rows, their order, their masks or the network would not be those of the stopped run.

    Raises:
        InputError: a fact differs.
    """
    for name, value in facts.items():
        if name in recorded and recorded[name] != value:
            raise InputError(
                f"{checkpoint} was made with {name} {recorded[name]}, now it is {value}, so rows, their "
                f"order, masks or the network would be others: restore it, or start anew from the weights with "
                f"--model {checkpoint}"
            )


__all__ = ["MarkingTrainer", "check_same_order", "last_whole_checkpoint", "why_from_the_beginning", "write_whole"]
