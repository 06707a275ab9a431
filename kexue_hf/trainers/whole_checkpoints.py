"""Complete checkpoints that record which rows were trained on.

A process that is killed while it writes leaves a folder `checkpoint-N` that looks like any other, and transformers'
`get_last_checkpoint` picks it. Here, a checkpoint is complete only if it holds `progress.json`, which is written
atomically after all processes have written their parts. Older checkpoints are deleted (`save_total_limit`) only after
that, so at any moment one checkpoint is complete. The final model is written into a separate folder, from which each
finished file is moved.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch.distributed
from transformers import Trainer

from kexue_hf.errors import InputError
from kexue_hf.files.card_seal import is_untouched
from kexue_hf.losses.decision_rule import card_section

PROGRESS = "progress.json"
_CONFIGURATIONS = ("config.json", "adapter_config.json")
_SAVING, _REMOVING = ".saving", ".removing"


class AtomicCheckpointTrainer(Trainer):
    """[`Trainer`] that marks its checkpoints as complete and resumes only from complete ones.

    Takes the arguments of `Trainer`, and:

    Args:
        facts: settings (name to JSON value) on which the rows and the loss depend. A checkpoint stores them, and a run
            with other values does not resume from it.

    Attributes:
        first_step: the step from which the last training continued.
    """

    def __init__(self, *arguments: Any, facts: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.facts = facts or {}
        self.first_step = 0

    def resume(self) -> Any:
        """Train from the last complete checkpoint in `output_dir`, or from the beginning if no checkpoint is complete.

        If the run is finished, only load the checkpoint.

        Raises:
            InputError: the checkpoint was made with other rows, or with another order of them.
        """
        found = last_whole_checkpoint(str(self.args.output_dir))
        if found is None:
            return self.train()
        checkpoint, recorded = found
        check_same_facts(self.facts, recorded, checkpoint)
        self.first_step = recorded["step"]
        self._skip(self.first_step)
        result = self.train(resume_from_checkpoint=checkpoint)
        if self.is_world_process_zero():
            self._rotate()  # the stopped run may not have done this
        return result

    def _skip(self, steps: int) -> None:
        """Prepare to resume after `steps` steps, for datasets that can skip the rows of these steps themselves."""

    def _run_epoch(self, *arguments: Any, **options: Any) -> Any:
        # Trainer checks for the last step only after a step, so each resume of a finished run would add one.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*arguments, **options)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as `Trainer.save_model` does; a killed process leaves no half-written file over an older one.

        `training_args.bin` is removed: nothing needs it, and people distrust a folder with a pickle in it.
        """
        folder = Path(output_dir or str(self.args.output_dir))
        # A checkpoint, an internal call, is marked as complete later.
        stage = folder if _internal_call else folder / _SAVING
        if not _internal_call and self.args.should_save:
            shutil.rmtree(stage, ignore_errors=True)  # left by a killed process
        # Internal, because otherwise it uploads before the pickle is removed.
        super().save_model(str(stage), True)
        if self.args.should_save:
            (stage / "training_args.bin").unlink(missing_ok=True)
            if not _internal_call and stage.is_dir():
                # The configuration is moved last, because nothing loads without it.
                files = [path.relative_to(stage) for path in stage.rglob("*") if not path.is_dir()]
                for path in sorted(files, key=lambda path: (path.name in _CONFIGURATIONS, path)):
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    os.replace(stage / path, folder / path)
                shutil.rmtree(stage)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def create_model_card(self, *arguments: Any, **options: Any) -> None:
        """Write Trainer's card, unless the folder has a card that `ModelCardCallback` wrote.

        If the model predicts by another rule than argmax, the card says so.
        """
        card = Path(self.args.output_dir) / "README.md"
        if card.is_file() and is_untouched(card.read_text("utf-8", errors="replace")):
            return
        super().create_model_card(*arguments, **options)
        section = card_section(getattr(self.accelerator.unwrap_model(self.model), "config", None))
        if section and self.is_world_process_zero():
            with card.open("a", encoding="utf-8") as file:
                file.write(section)

    def _save_checkpoint(self, *arguments: Any, **options: Any) -> None:
        if self.is_world_process_zero():
            # A mark left by an earlier run would declare the unfinished checkpoint complete.
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
        """Delete checkpoints beyond `save_total_limit`: incomplete ones first, then the oldest, never the best.

        A checkpoint is moved away first, so that after a kill no part of it looks like a checkpoint.
        """
        folder, limit = Path(self.args.output_dir), self.args.save_total_limit
        shutil.rmtree(folder / _REMOVING, ignore_errors=True)
        ordered = sorted(_checkpoints(folder), key=_completion_order)
        kept = {ordered[-1].name, Path(self.state.best_model_checkpoint or "").name} if ordered else set()
        surplus = len(ordered) - max(limit, len(kept & {path.name for path in ordered})) if limit else 0
        for path in [path for path in ordered if path.name not in kept][: max(0, surplus)]:
            os.replace(path, folder / _REMOVING)
            shutil.rmtree(folder / _REMOVING, ignore_errors=True)


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically: after a kill, it has all of its content or does not exist."""
    # A fixed name, so that the next run replaces what a killed process left.
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)


def last_whole_checkpoint(folder: str | Path) -> tuple[str, dict[str, Any]] | None:
    """Return the latest complete checkpoint and the content of its `progress.json`, or None."""
    for path in _checkpoints(folder):
        try:
            return str(path), json.loads((path / PROGRESS).read_text("utf-8"))
        except (OSError, ValueError):
            continue
    return None


def restart_reason(folder: str | Path) -> str:
    """Return a message for the user that says why a run cannot resume and starts from the beginning."""
    found = _checkpoints(folder)
    if not found:
        return f"no checkpoint in {folder} yet: starting from the beginning"
    return (
        f"warning: no checkpoint in {folder} is complete (none of {', '.join(path.name for path in found)} holds "
        f"{PROGRESS}, which is written last): starting from the beginning"
    )


def _checkpoints(folder: str | Path) -> list[Path]:
    """Return the checkpoint folders, the latest first."""
    paths = [path for path in Path(folder).glob("checkpoint-*") if path.name.split("-")[1].isdigit()]
    return sorted(paths, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def _completion_order(checkpoint: Path) -> tuple[int, int]:
    """Return a sort key: incomplete checkpoints first, then by the time of completion."""
    try:
        return (checkpoint / PROGRESS).stat().st_mtime_ns, int(checkpoint.name.split("-")[1])
    except OSError:
        return 0, int(checkpoint.name.split("-")[1])


def check_same_facts(facts: dict[str, Any], recorded: dict[str, Any], checkpoint: str) -> None:
    """Raise InputError if rows, order, masks or network would differ from those of the stopped run."""
    for name, value in facts.items():
        if name in recorded and recorded[name] != value:
            raise InputError(
                f"{checkpoint} was made with {name} {recorded[name]}, now it is {value}, so rows, their order, masks "
                f"or the network would differ: restore it, or start again from the weights with --model {checkpoint}"
            )


__all__ = ["AtomicCheckpointTrainer", "check_same_facts", "last_whole_checkpoint", "restart_reason", "write_whole"]
