"""Train one matcher for several tasks, each with its own standard of similarity.

    python examples/finetune_matcher.py --model my-roformer --train_file sohu2021 --eval_file sohu2021 \\
        --output_dir my-matcher

--model is a folder of a RoFormer, a BERT, a WoBERT or a matcher. Encoders get layer norms that depend on the task; a
new matcher computes the same as its encoder. The default learning rate, 2e-5, is for a model of BERT's size. For a
tiny model, use 5e-4 or more.

Data are .jsonl, .csv or .tsv files with text_a, text_b, task and label (0 or 1), or folders in the layout of the Sohu
2021 contest, one per task (短短匹配A类 ...), from which --train_file reads train.txt and --eval_file valid.txt. The
rows of all tasks form one dataset, in batches of similar length. If a pair is too long, the end of the longer text is
truncated.

The moving average of the weights (--ema_decay) is evaluated and saved. The held-out rows are evaluated at each save
(--save_strategy, by default every epoch), and the checkpoint with the best f1 is kept; of equal ones, the last. If
task names end in A and B, f1 is the contest's score: the mean of f1_A and f1_B, each over the rows of all its tasks.

The script prints the held-out figures. It saves a folder with model, tokenizer and a model card, which includes a
reliability diagram of the held-out probabilities. A resumed run (--resume) has the losses of an uninterrupted one;
without dropout, several processes have the losses of one. All of transformers' TrainingArguments are options; some
have other defaults.
"""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoTokenizer,
    DataCollatorWithPadding,
    IntervalStrategy,
    TrainingArguments,
    set_seed,
)
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from kexue_hf import ClnMatcherConfig, ClnMatcherForSequenceClassification, EmaCallback
from kexue_hf.corpora.matching_rows import MatchingRow, read_matching_rows, tasks_of
from kexue_hf.corpora.row_order import Table
from kexue_hf.errors import InputError, KexueError
from kexue_hf.evaluation.matching import Reliability, matching_figures, probability_figures, reliability
from kexue_hf.evaluation.reliability_picture import check_picture, draw_reliability
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.hub.matcher_sections import matcher_sections
from kexue_hf.losses import ClassPrior, make_loss
from kexue_hf.losses.registry import LOSSES
from kexue_hf.pipelines.own_tokenizer import check_tokenizer
from kexue_hf.pipelines.text_pairs import PairFrame, TextPair, encode_pairs, pair_frame_of, pair_length
from kexue_hf.trainers.checked_options import (
    check_model,
    check_output_folder,
    check_range,
    check_training,
    one_line_errors,
    remove_checkpoints,
)
from kexue_hf.trainers.ordered_trainer import OrderedTrainer
from kexue_hf.trainers.training_script import leave_process_group, print_figures, run_script, write_report
from kexue_hf.trainers.whole_checkpoints import last_whole_checkpoint, restart_reason

MATCHER = ClnMatcherConfig.model_type
PICTURE = "reliability.svg"
# The labels that Trainer passes to compute_metrics.
LABELS = ["labels", "task_ids"]
# Configuration fields that define the network and do not follow from the weights.
NETWORK = (
    "pooling",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "hidden_act",
    "num_hidden_layers",
    "num_attention_heads",
    "position_embedding_type",
    "conditional",
)


@dataclass
class Options:
    model: str = field(metadata={"help": "folder or Hub name of a RoFormer, a BERT, a WoBERT or a matcher"})
    train_file: list[str] = field(
        metadata={"help": ".jsonl, .csv or .tsv files, or the contest's folders (train.txt is read)"}
    )
    eval_file: list[str] | None = field(
        default=None,
        metadata={"help": "held-out data, in the same formats (valid.txt in the contest's folders)"},
    )
    task_names: list[str] | None = field(
        default=None,
        metadata={
            "help": "task names in the order of their ids; default: those of the matcher, or of the data, sorted"
        },
    )
    max_length: int = field(default=512, metadata={"help": "tokens per pair; at most the model's positions"})
    loss: str = field(default="cross_entropy", metadata={"help": f"one of {', '.join(LOSSES)}"})
    loss_option: list[str] | None = field(
        default=None,
        metadata={"help": "options of the loss, key=value: gamma=3 (focal), weight=1,3 or weight=inverse, ..."},
    )
    ema_decay: float = field(default=0.9999, metadata={"help": "decay of the averaged weights; 0: no averaging"})
    pooling: str | None = field(default=None, metadata={"help": "mean or cls; default: the matcher's, or mean"})
    max_train_rows: int | None = field(default=None, metadata={"help": "use this many random rows (by --seed)"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    dropout: float | None = field(default=None, metadata={"help": "replaces the model's dropout"})
    attention: str | None = field(
        default=None,
        metadata={"help": "sdpa, eager (faster for bf16 on a CPU) or flash_attention_2; default: the model's"},
    )
    resume: bool = field(default=False, metadata={"help": "continue from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace an earlier training in --output_dir"})
    report: str | None = field(default=None, metadata={"help": "write the figures to this JSON file"})


@dataclass
class Arguments(TrainingArguments):
    """TrainingArguments with the defaults of the contest's baseline."""

    learning_rate: float = field(default=2e-5, metadata={"help": "The initial learning rate."})
    num_train_epochs: float = field(default=5.0, metadata={"help": "Total number of training epochs to perform."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "The batch size per device for training."})
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={
            "help": "The order of rows: group_by_length, random or sequential.",
            "choices": ["random", "sequential", "group_by_length"],
        },
    )
    save_strategy: str = field(default="epoch", metadata={"help": "When to evaluate and save: epoch, steps or no."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Number of checkpoints to keep: the last and the best one."}
    )


class MatchingCollator:
    """Pad a batch, and drop the columns that the model does not take."""

    COLUMNS = ("input_ids", "token_type_ids", "attention_mask", "task_ids", "labels")

    def __init__(self, tokenizer: Any) -> None:
        self.pad = DataCollatorWithPadding(tokenizer)

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        return self.pad([{name: row[name] for name in self.COLUMNS if name in row} for row in rows])


def known_tasks(options: Options, config: Any) -> list[str] | None:
    """Return the task names that the model or the options define; None if neither does.

    Raises:
        InputError: model and options define different names.
    """
    if config.model_type != MATCHER:
        return options.task_names
    if options.task_names is not None and options.task_names != config.task_names:
        raise InputError(
            f"--task_names {' '.join(options.task_names)}: the matcher {options.model} has the tasks "
            f"{', '.join(config.task_names)}; leave the option out, or add tasks to the model with add_task"
        )
    return list(config.task_names)


def load_model(options: Options, config: Any, names: list[str]) -> ClnMatcherForSequenceClassification:
    """Return the matcher in float32, with the options applied."""
    changes: dict[str, Any] = {}
    if config.model_type != MATCHER:
        changes |= {"task_names": names, "num_labels": 2}
    elif config.num_labels != 2:
        raise InputError(f"--model must have 2 classes (labels 0 and 1), {options.model} has {config.num_labels}")
    elif config.problem_type not in (None, "single_label_classification"):
        raise InputError(
            f"{options.model} has problem_type {config.problem_type!r}, which no text matcher supports: set it to "
            "null in its config.json if the two classes are 0 and 1, or start from its encoder"
        )
    if options.pooling is not None:
        changes["pooling"] = options.pooling
    if options.dropout is not None:
        changes |= {"hidden_dropout_prob": options.dropout, "attention_probs_dropout_prob": options.dropout}
    if options.attention is not None:
        changes["attn_implementation"] = options.attention
    # Not the folder's dtype: float16 would lose the optimizer's small steps.
    return ClnMatcherForSequenceClassification.from_pretrained(options.model, dtype="float32", **changes)


def encoded(
    rows: Sequence[MatchingRow], names: list[str], tokenizer: Any, frame: PairFrame, max_length: int
) -> Dataset:
    """Return a dataset of the rows: input_ids, token_type_ids, length, task_ids, labels."""
    pairs = [TextPair(row.text_a, row.text_b) for row in rows]
    made = encode_pairs(tokenizer, pairs, frame, max_length)
    columns = {
        "input_ids": [row.ids for row in made],
        "length": [len(row.ids) for row in made],
        "task_ids": [names.index(row.task) for row in rows],
        "labels": [row.label for row in rows],
    }
    if frame.segments is not None:
        columns["token_type_ids"] = [row.segments for row in made]
    return Dataset.from_dict(columns)


class HeldOut:
    """Trainer's compute_metrics: F1, and the loss over all rows (Trainer's own is a mean over batches).

    Keeps the `probabilities` of the last evaluation with their `labels` and `tasks`, each [rows].
    """

    def __init__(self, loss: Any, names: list[str]) -> None:
        self.loss, self.names = loss, names
        self.probabilities, self.labels, self.tasks = (np.zeros(0) for _ in range(3))

    def __call__(self, prediction: Any) -> dict[str, float]:
        (self.labels, self.tasks), logits = prediction.label_ids, torch.from_numpy(prediction.predictions)
        self.probabilities = logits.float().softmax(-1)[:, 1].numpy()
        whole = self.loss({"logits": logits}, torch.from_numpy(self.labels)).item()
        return {"loss": whole, **matching_figures(logits.argmax(-1).numpy(), self.labels, self.tasks, self.names)}

    def reliability(self) -> dict[str, Reliability]:
        """Return the reliability of each task that occurs."""
        found = {}
        for number, name in enumerate(self.names):
            own = self.tasks == number
            if own.any():
                found[name] = reliability(self.probabilities[own], self.labels[own])
        return found


class MatcherTrainer(OrderedTrainer):
    """Treat the last of several checkpoints with equal f1 as the best.

    If few pairs match, f1 is 0 until a probability exceeds one half, and the first such checkpoint has learned the
    least.
    """

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # Needed as long as transformers (checked: 5.23) requires a strict improvement.
        if metrics.get("eval_f1") == self.state.best_metric:
            self.state.best_metric = float("-inf")
        return super()._determine_best_metric(metrics, trial)


def check(options: Options, arguments: TrainingArguments) -> None:
    """Raise InputError for invalid options before anything is read."""
    check_training(arguments, options.dropout, options.report)
    check_model(options.model)
    check_output_folder(Path(arguments.output_dir), options.resume, options.overwrite)
    check_range({"max_train_rows": options.max_train_rows}, 1)
    check_range({"ema_decay": options.ema_decay}, 0, 1)
    make_loss(options.loss, options.loss_option or (), ClassPrior((1, 1)))
    check_effects(options, arguments)
    if options.task_names is not None and len(set(options.task_names)) < len(options.task_names):
        raise InputError(f"--task_names must be different names, got {' '.join(options.task_names)}")


def check_effects(options: Options, arguments: TrainingArguments) -> None:
    """Raise InputError for an option that would have no effect, or not the expected one."""
    saved, evaluated = (getattr(arguments, f"{what}_strategy").value for what in ("save", "eval"))
    metric = arguments.metric_for_best_model
    # With one of these options, TrainingArguments set the metric to "loss" by default.
    by_default = arguments.load_best_model_at_end or arguments.lr_scheduler_type == "reduce_lr_on_plateau"
    evaluating = "held-out rows are evaluated at each save, see --save_strategy and --save_steps"
    figures = "F1 is computed over all predictions"
    chosen = "the best checkpoint is the one with the best f1"
    for option, refused, why in (
        ("--save_strategy best", saved == "best", f"expected epoch, steps or no, and {chosen}"),
        ("--eval_strategy", evaluated != "no" and not options.eval_file, "there is no --eval_file"),
        ("--eval_on_start", arguments.eval_on_start and not options.eval_file, "there is no --eval_file"),
        ("--eval_strategy", evaluated != "no" and saved not in ("no", evaluated), evaluating),
        (
            "--eval_steps",
            arguments.eval_steps is not None
            and (evaluated != "steps" or (saved == "steps" and arguments.eval_steps != arguments.save_steps)),
            evaluating,
        ),
        (
            "--metric_for_best_model",
            metric not in (None, "f1", "eval_f1") and not (by_default and metric == "loss"),
            chosen,
        ),
        ("--greater_is_better", arguments.greater_is_better is False and metric != "loss", chosen),
        ("--prediction_loss_only", arguments.prediction_loss_only, figures),
        ("--batch_eval_metrics", arguments.batch_eval_metrics, figures),
        ("--eval_do_concat_batches", not arguments.eval_do_concat_batches, figures),
        ("--label_names", arguments.label_names not in (None, LABELS), f"the labels are {', '.join(LABELS)}"),
        ("--label_smoothing_factor", arguments.label_smoothing_factor != 0, "the loss is that of --loss"),
    ):
        if refused:
            raise InputError(f"{option} has no effect here: {why}; leave it out")


def evaluate_where_saved(arguments: TrainingArguments) -> None:
    """Evaluate at each save, and load the checkpoint with the best f1 at the end."""
    arguments.metric_for_best_model, arguments.greater_is_better = "f1", True
    strategy = arguments.save_strategy.value
    if strategy in ("epoch", "steps"):
        arguments.eval_strategy = IntervalStrategy(strategy)
        arguments.eval_steps = arguments.save_steps if strategy == "steps" else None
        arguments.load_best_model_at_end = True


def run(options: Options, arguments: TrainingArguments) -> dict[str, Any]:
    """Train, evaluate, save model and tokenizer to `output_dir`, and return the figures."""
    if options.batch_size is not None:
        arguments.per_device_train_batch_size = options.batch_size
    check(options, arguments)
    with one_line_errors(f"--model {options.model} cannot be used"):
        config = AutoConfig.from_pretrained(options.model)
        tokenizer = AutoTokenizer.from_pretrained(options.model)
    names = known_tasks(options, config)
    rows = {"train": read_matching_rows(options.train_file, "train", names)}
    names = names or tasks_of(rows["train"])
    if options.eval_file is not None:
        rows["held-out"] = read_matching_rows(options.eval_file, "valid", names)
        evaluate_where_saved(arguments)
    if options.max_train_rows is not None and options.max_train_rows < len(rows["train"]):
        chosen = np.random.default_rng(arguments.seed).permutation(len(rows["train"]))[: options.max_train_rows]
        rows["train"] = [rows["train"][i] for i in chosen]
    trained = tasks_of(rows["train"])
    if arguments.process_index == 0 and (missing := [name for name in names if name not in trained]):
        print(f"no training rows of {', '.join(missing)}")
    prior = ClassPrior.from_labels(row.label for row in rows["train"])
    loss = make_loss(options.loss, options.loss_option or (), prior)

    set_seed(arguments.seed)
    with one_line_errors(f"--model {options.model} cannot be used"):
        model = load_model(options, config, names)
        check_tokenizer(model, tokenizer, strict=True)
        frame = pair_frame_of(tokenizer)
        if config.model_type == MATCHER:
            # The matcher's saved tokenizer has the length of its training, which is not the model's limit.
            tokenizer.model_max_length = VERY_LARGE_INTEGER
        longest = pair_length(model, tokenizer, frame)
        length = pair_length(model, tokenizer, frame, min(options.max_length, longest))
        # Saved with the tokenizer, so that the matcher truncates pairs as in its training and evaluation.
        tokenizer.model_max_length = length
        data = {part: encoded(part_rows, names, tokenizer, frame, length) for part, part_rows in rows.items()}
    remove_checkpoints(options, arguments)
    arguments.label_names = LABELS
    facts = {
        "tasks": names,
        "max_length": length,
        "ema decay": options.ema_decay,
        "loss": " ".join([options.loss, *(options.loss_option or [])]),
        **{name: getattr(model.config, name) for name in NETWORK},
        "checksum of the vocabulary": zlib.crc32(json.dumps(sorted(tokenizer.get_vocab().items())).encode()),
    }
    with one_line_errors("wrong options"):
        trainer = MatcherTrainer(
            model=model,
            args=arguments,
            train_dataset=Table(data["train"]),
            eval_dataset=data.get("held-out"),
            data_collator=MatchingCollator(tokenizer),
            processing_class=tokenizer,
            compute_loss_func=loss,
            compute_metrics=HeldOut(loss, names),
            facts=facts,
        )
        if options.ema_decay:
            EmaCallback(options.ema_decay).attach(trainer)
    card = ModelCardCallback(options.model, options.train_file, options.eval_file or (), script="finetune_matcher")
    trainer.add_callback(card)
    return train(options, trainer, rows, card)


def train(
    options: Options, trainer: OrderedTrainer, rows: dict[str, list[MatchingRow]], card: ModelCardCallback
) -> dict[str, Any]:
    first, folder = trainer.is_world_process_zero(), Path(trainer.args.output_dir)
    if options.resume and last_whole_checkpoint(folder) is None and first:
        print(restart_reason(folder))
    result = trainer.resume() if options.resume else trainer.train()
    trained = trainer.state.global_step > trainer.first_step
    if not trained and first:
        print(f"all steps were already trained: using checkpoint-{trainer.first_step}")
    figures: dict[str, Any] = {
        "train_rows": len(rows["train"]),
        "tasks": len(trainer.facts["tasks"]),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "steps": trainer.state.global_step,
        **({"train_loss": result.training_loss} if trained else {}),
        "seconds": result.metrics["train_runtime"],
    }
    # Before the evaluation, because --bf16_full_eval leaves the weights in half precision.
    trainer.save_model()
    if "held-out" in rows:
        found = trainer.evaluate()
        figures["held_out_rows"] = len(rows["held-out"])
        figures["held_out_positive"] = Counter(row.label for row in rows["held-out"])[1] / len(rows["held-out"])
        figures["held_out_loss"] = found["eval_loss"]
        for name, value in found.items():
            if name.startswith("eval_f1"):
                figures[name.removeprefix("eval_")] = value
        if found["eval_f1"] == 0 and first:
            print(
                "f1 is 0: no matching held-out pair has a probability above one half; README.md in the folder lists "
                "the figures for other thresholds"
            )
        if trainer.args.load_best_model_at_end and trainer.state.best_global_step:
            figures["best_step"] = trainer.state.best_global_step
    if first:
        write_card(card, folder, options, trainer, rows, figures)
        print_figures(figures)
        print(f"saved to {folder}")
        write_report(options.report, figures)
    return figures


def write_card(
    card: ModelCardCallback,
    folder: Path,
    options: Options,
    trainer: OrderedTrainer,
    rows: dict[str, list[MatchingRow]],
    figures: dict[str, Any],
) -> None:
    """Write the model card and, with held-out rows, the reliability diagram."""
    held_out: Any = trainer.compute_metrics
    facts, names = trainer.facts, held_out.names
    tasks: dict[str, Reliability] = {}
    found: dict[str, float] = {}
    drawn = False
    if "held-out" in rows and not np.isfinite(held_out.probabilities).all():
        print(f"no {PICTURE}: some of the model's probabilities are not finite")
    elif "held-out" in rows:
        tasks = held_out.reliability()
        found = {**probability_figures(held_out.probabilities, held_out.labels, held_out.tasks, names), **figures}
        try:
            check_picture(folder / PICTURE)
            draw_reliability(tasks, folder / PICTURE)
            drawn = True
        except KexueError as error:
            # A failed picture must not end a long training with an error.
            print(f"no {PICTURE}: {error}")
    if not drawn:
        (folder / PICTURE).unlink(missing_ok=True)  # left by an earlier training
    name = folder.resolve().name
    summary, sections = matcher_sections(
        name, names, rows, found, tasks, max_length=facts["max_length"], picture=PICTURE if drawn else None
    )
    card.write(
        folder,
        figures={figure: value for figure, value in figures.items() if figure.startswith("f1")},
        training={
            "parameters": f"{figures['parameters']:,}",
            "of which the best": f"{figures['best_step']:,}" if "best_step" in figures else "not looked for",
            "loss": facts["loss"],
            "averaged weights": f"decay {options.ema_decay}" if options.ema_decay else "none",
            "pooling": facts["pooling"],
            "dropout": facts["hidden_dropout_prob"],
        },
        summary=summary,
        sections=sections,
    )


def main(arguments: list[str] | None = None) -> None:
    run_script("finetune_matcher", __doc__, Options, run, arguments, Arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
