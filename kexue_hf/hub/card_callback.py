"""A Trainer callback that writes the model card of a training."""

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import torch
import transformers
from transformers import TrainerCallback

from kexue_hf.errors import InputError
from kexue_hf.hub.card_completion import NEW_CARD, write_card
from kexue_hf.hub.folder_facts import facts_of_model, with_base_model, with_options
from kexue_hf.hub.model_card import CardFacts, Figure
from kexue_hf.hub.model_facts import Post
from kexue_hf.hub.secret_patterns import is_secret_name, secret_in
from kexue_hf.losses.decision_rule import card_section

# Results of an evaluation that are no property of the model.
_UNINTERESTING = ("runtime", "per_second", "epoch", "compilation_time", "mem_")
# Names of figures -> the Hub's names of metrics; of other figures, the metric is the name.
_METRICS = {"spearman": "spearmanr", "rouge_l": "rouge", "macro_f1": "f1"}
# The folders of the absolute paths in an argument: --x=/a/b, -x/a/b, /a/b,/a/c, file:///a/b, C:\a\b. What precedes a
# path is no part of a relative path (a/b, ~/b, $X/b) or of another URL. Folders may have spaces in their names.
_FOLDERS = re.compile(
    r"""(?: (?:(?<=^-\w) | (?<!\w)file:// | (?<![A-Za-z0-9_.~*?%$)\]}<>/\\-])(?!(?<=:)//)) /+
            (?: (?:(?!\s[\w-]+=)[^/,;:|"'\n])+ (?<!\s) /+ )*
        |   (?<![\w./\\-]) [A-Za-z]: [\\/]+ (?: [^\\/,;:|"'\n]* [^\\/,;:|"'\s] [\\/]+ )* )
        (?= [^/\\,;:|"'\s] )""",
    re.VERBOSE,
)


class ModelCardCallback(TrainerCallback):
    """Write README.md into `output_dir` when a training ends, and again after each later evaluation.

    A card that was edited by hand is kept; the new one is then _README.new.md.

    Args:
        base_model: the folder or the name on the Hub that the training started from; None for a new model.
        trained_on: the training files; only their names are written.
        evaluated_on: the files of the evaluation.
        license, language, datasets: metadata of the Hub, if they are known.
        training: further facts about the training, by name.
        script: the name of the training script. If it is the running one, its command line is in the card, without
            folders of this machine.
        command: the command that gives the figures, if it is not that of a script.
        post: the post that describes the training, if it is not that of the model type.
    """

    def __init__(
        self,
        base_model: str | None = None,
        trained_on: str | Sequence[str] | None = None,
        evaluated_on: str | Sequence[str] | None = None,
        *,
        license: str | None = None,
        language: Sequence[str] = (),
        datasets: Sequence[str] = (),
        training: Mapping[str, Any] | None = None,
        script: str | None = None,
        command: str | None = None,
        post: Post | None = None,
    ) -> None:
        self.base_model, self.script, self.command, self.post = base_model, script, command, post
        self.files = _listed(trained_on), _listed(evaluated_on)
        self.license, self.language, self.datasets = license, list(language), list(datasets)
        self.training = dict(training or {})
        self.figures: dict[str, float] = {}
        self._ended: dict[str, Any] | None = None
        self._run: dict[str, Any] = {}
        self._repository: str | None = None
        # The figures of each step of the training that is running; None before and after a training.
        self._figures_at: dict[int, dict[str, float]] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Forget an earlier training."""
        self.figures, self._figures_at, self._ended = {}, {}, None

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Write the card, with the figures of the weights that the model has now."""
        self._ended = {"model": parts.get("model"), "tokenizer": parts.get("processing_class")}
        self._run = _facts_of_run(args, state, parts.get("model"))
        if args.push_to_hub and "/" in str(args.hub_model_id):
            self._repository = str(args.hub_model_id)
        best = getattr(state, "best_global_step", None) if args.load_best_model_at_end else None
        self.figures = (self._figures_at or {}).get(best or state.global_step, {})
        self._figures_at = None
        self._write_in(args, state)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **parts: Any
    ) -> None:
        """Take the figures; after the training, write the card again."""
        figures = self.figures if self._figures_at is None else self._figures_at.setdefault(state.global_step, {})
        for name, value in (metrics or {}).items():
            short = name.removeprefix("eval_")
            if not any(word in short for word in _UNINTERESTING) and isinstance(value, (int, float)):
                figures[short] = float(value)
        if self._ended is not None:
            self._write_in(args, state)

    def _write_in(self, args: Any, state: Any) -> None:
        if state.is_world_process_zero and self._ended is not None:
            folder = Path(args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.write(folder)

    def write(
        self,
        folder: str | Path,
        *,
        model: Any = None,
        tokenizer: Any = None,
        figures: Mapping[str, float] | None = None,
        training: Mapping[str, Any] | None = None,
        summary: str = "",
        sections: Mapping[str, str] | None = None,
        post: Post | None = None,
    ) -> Path:
        """Write the card into a folder; for scripts that know more than Trainer does.

        Args:
            model, tokenizer: what is saved there; by default what was trained.
            figures: values to list in place of the evaluation's.
            training: facts that replace those of Trainer with the same names, and further ones.
            summary: the paragraph under the title.
            sections: further sections {heading: Markdown}, or replacements of the usual ones.
            post: the post to cite, if it is another one.

        Returns:
            The file.

        Raises:
            InputError: there is no model, because no training has ended yet.
        """
        ended = self._ended or {}
        model = ended.get("model") if model is None else model
        tokenizer = ended.get("tokenizer") if tokenizer is None else tokenizer
        if model is None:
            raise InputError("ModelCardCallback.write has no model: pass model=, or call it after a training")
        facts = self.facts(Path(folder), model, tokenizer)
        values = self.figures if figures is None else figures
        facts = replace(
            facts,
            figures=[
                Figure(name, float(value), _METRICS.get(name, name))
                for name, value in values.items()
                if math.isfinite(value)
            ],
            training={**self._run, **self.training, **(training or {})},
            summary=summary,
            sections={**facts.sections, **(sections or {})},
            post=post or facts.post,
        )
        path = write_card(Path(folder), facts, self._repository)
        if path.name == NEW_CARD:
            print(
                f"README.md in {folder} is not the card of a training, or was edited, and is kept; the card of this "
                f"training is {NEW_CARD}"
            )
        return path

    def facts(self, folder: Path, model: Any, tokenizer: Any) -> CardFacts:
        """Return what is known about the model beyond its training and its figures."""
        trained_on, evaluated_on = (tuple(dict.fromkeys(_base_name(file) for file in files)) for files in self.files)
        known = facts_of_model(folder.resolve().name, model, tokenizer)
        facts = with_options(known, self.license, self.language, datasets=self.datasets)
        rule = card_section(model.config).partition("## Decision rule\n\n")[2]
        return replace(
            with_base_model(facts, self.base_model),
            trained_on=trained_on,
            evaluated_on=evaluated_on,
            command=self.command or command_line(self.script),
            post=self.post,
            sections={"Decision rule": rule} if rule else {},
        )


def command_line(script: str | None) -> str | None:
    """Return the command line of the running script, without folders and secrets; None for another script.

    Absolute paths become names. Options that may hold a secret (--hub_token) are left out.
    """
    path = PurePath(sys.argv[0])
    if script is None or path.stem != script or path.suffix != ".py":
        return None
    arguments = _without_secrets(sys.argv[1:])
    return shlex.join(["python", f"examples/{path.name}", *(_FOLDERS.sub("", argument) for argument in arguments)])


def _base_name(path: str) -> str:
    """Return the name of a file or folder without its parents."""
    return Path(path).resolve().name if Path(path).exists() else PurePath(path).name


def _listed(names: str | Sequence[str] | None) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _without_secrets(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    after_secret = False
    for argument in arguments:
        is_option = argument.startswith("-")
        dropped = after_secret and not is_option
        after_secret = is_option and is_secret_name(argument.partition("=")[0]) and "=" not in argument
        if not (dropped or after_secret or (is_option and is_secret_name(argument.partition("=")[0]))):
            kept.append("..." if secret_in(argument) else argument)
    return kept


def _facts_of_run(args: Any, state: Any, model: Any) -> dict[str, Any]:
    # Without mixed precision, the model computes in the type that it was loaded in.
    weights = next((value.dtype for value in model.parameters() if value.is_floating_point()), None) if model else None
    loaded = str(weights or torch.float32).removeprefix("torch.")
    scheduler = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    loss = next((entry["train_loss"] for entry in reversed(state.log_history) if "train_loss" in entry), None)
    return {
        "steps": f"{state.global_step:,}",
        "epochs": f"{state.epoch or 0:.4g}",
        "rows of a step": rows,
        "learning rate": f"{args.learning_rate:g}, {scheduler}",
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else loaded,
        "seed": args.seed,
        **({"training loss": f"{loss:.4f}"} if loss is not None else {}),
        "versions": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }


__all__ = ["ModelCardCallback", "command_line"]
