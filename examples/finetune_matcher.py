"""Train one matcher for all standards of "similar": do two texts match, by the standard that the task is?

    python examples/finetune_matcher.py --model my-roformer --train_file sohu2021 --eval_file sohu2021 \\
        --output_dir my-matcher

--model is a folder of a RoFormer, a BERT or a WoBERT (its layer norms get the tasks' vectors, and a fresh matcher
computes what it did), or of a matcher, which knows its tasks. That rate, 2e-5, is for a network of BERT's size; a tiny
one wants 5e-4 or more.

Data are .jsonl, .csv or .tsv files with text_a, text_b, task, label (0 or 1); or folders laid out as the contest of
Sohu 2021, one for each task (短短匹配A类 ...), of which --train_file reads train.txt and --eval_file valid.txt. Rows
of all tasks make up one data set, batches of texts of similar length (--train_sampling_strategy random: of any). Texts
that are too long together lose the ends of the longer one.

Evaluated and saved is the moving average of the weights (--ema_decay). After every epoch, or as --save_strategy says,
the held-out rows are evaluated; kept is the checkpoint with the best f1, of equal ones the last. For tasks whose names
end in A and B f1 is the contest's score: the mean of f1_A and f1_B, each over the rows of all its tasks. All of
transformers' TrainingArguments are options, some with defaults of their own; without dropout, several processes have
the losses of one (with it they draw other random numbers); --resume continues after a stop with the losses of one go.
Prints the held-out figures, and saves a folder with model, tokenizer and a model card, into which the reliability of
the probabilities on the held-out rows is drawn.
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
import transformers
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
from kexue_hf.evaluation.matcher_card import matcher_card
from kexue_hf.evaluation.matching import Reliability, matching_figures, probability_figures, reliability
from kexue_hf.evaluation.reliability_picture import check_picture, draw_reliability
from kexue_hf.files.whole_file import whole_file
from kexue_hf.losses.classification import balanced_weights, loss_of
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
# What Trainer gives to compute_metrics.
LABELS = ["labels", "task_ids"]
# Of the configuration: what the network is, where the weights alone do not say it.
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
        metadata={"help": ".jsonl, .csv or .tsv files, or the contest's folders, of which train.txt is read"}
    )
    eval_file: list[str] | None = field(
        default=None,
        metadata={"help": "held-out data, in the same forms; of the contest's folders, valid.txt is read"},
    )
    task_names: list[str] | None = field(
        default=None,
        metadata={
            "help": "the tasks, in the order of their ids; none: those of the matcher, else of the data, sorted"
        },
    )
    max_length: int = field(default=512, metadata={"help": "tokens of two texts; at most the model's positions"})
    loss: str = field(default="cross_entropy", metadata={"help": "cross_entropy or focal"})
    focal_gamma: float = field(default=2.0, metadata={"help": "how much less than others sure rows count; of focal"})
    class_weights: list[str] | None = field(
        default=None,
        metadata={"help": "of labels 0 and 1: two numbers, or balanced, by which both weigh the same in the data"},
    )
    ema_decay: float = field(default=0.9999, metadata={"help": "of the averaged weights; 0: none are kept"})
    pooling: str | None = field(default=None, metadata={"help": "mean or cls; none: what the model says, else mean"})
    max_train_rows: int | None = field(default=None, metadata={"help": "take that many rows at random, by --seed"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    dropout: float | None = field(default=None, metadata={"help": "in place of the model's own"})
    attention: str | None = field(
        default=None,
        metadata={"help": "sdpa, eager (faster for bf16 on a CPU), flash_attention_2; none: the model's default"},
    )
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace what an earlier training left in --output_dir"})
    report: str | None = field(default=None, metadata={"help": "write the figures to this JSON file"})


@dataclass
class Arguments(TrainingArguments):
    """transformers' TrainingArguments with the baseline's numbers as defaults."""

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
        default=2, metadata={"help": "Checkpoints that are kept: the last and the best one."}
    )


class MatchingCollator:
    """Pads a batch of rows of which it takes what the model takes."""

    TAKEN = ("input_ids", "token_type_ids", "attention_mask", "task_ids", "labels")

    def __init__(self, tokenizer: Any) -> None:
        self.pad = DataCollatorWithPadding(tokenizer)

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        return self.pad([{name: row[name] for name in self.TAKEN if name in row} for row in rows])


def class_weights(given: list[str] | None, rows: Sequence[MatchingRow]) -> tuple[float, ...]:
    """The weights that --class_weights asks for."""
    if given is None:
        return (1.0, 1.0)
    if given == ["balanced"]:
        return balanced_weights(row.label for row in rows)
    try:
        return tuple(float(value) for value in given)
    except ValueError:
        raise InputError(f"--class_weights must be balanced or two numbers, got {' '.join(given)}") from None


def known_tasks(options: Options, config: Any) -> list[str] | None:
    """The names of the tasks, where model or options say them.

    Raises:
        InputError: they say different ones.
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
    """The matcher, in float32 and with what the options change."""
    changes: dict[str, Any] = {}
    if config.model_type != MATCHER:
        changes |= {"task_names": names, "num_labels": 2}
    elif config.num_labels != 2:
        raise InputError(f"{options.model} tells {config.num_labels} classes apart; labels here are 0 and 1")
    elif config.problem_type not in (None, "single_label_classification"):
        raise InputError(
            f"{options.model} is for problem_type {config.problem_type!r}, of which no text matcher can be used: set "
            "it to null in its config.json if the two classes are 0 and 1, or begin with its encoder"
        )
    if options.pooling is not None:
        changes["pooling"] = options.pooling
    if options.dropout is not None:
        changes |= {"hidden_dropout_prob": options.dropout, "attention_probs_dropout_prob": options.dropout}
    if options.attention is not None:
        changes["attn_implementation"] = options.attention
    # Not in the float16 that the folder may be stored in, in which the optimizer's small steps get lost.
    return ClnMatcherForSequenceClassification.from_pretrained(options.model, dtype="float32", **changes)


def encoded(
    rows: Sequence[MatchingRow], names: list[str], tokenizer: Any, frame: PairFrame, max_length: int
) -> Dataset:
    """A table of the rows: input_ids, token_type_ids, length, task_ids, labels."""
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
    """Trainer's compute_metrics: the loss of all rows, whatever the batches (Trainer's own is a mean over batches),
    and F1. Keeps the `probabilities` of the last evaluation, with their `labels` and `tasks`, all of [rows]."""

    def __init__(self, loss: Any, names: list[str]) -> None:
        self.loss, self.names = loss, names
        self.probabilities, self.labels, self.tasks = (np.zeros(0) for _ in range(3))

    def __call__(self, prediction: Any) -> dict[str, float]:
        (self.labels, self.tasks), logits = prediction.label_ids, torch.from_numpy(prediction.predictions)
        self.probabilities = logits.float().softmax(-1)[:, 1].numpy()
        whole = self.loss({"logits": logits}, torch.from_numpy(self.labels)).item()
        return {"loss": whole, **matching_figures(logits.argmax(-1).numpy(), self.labels, self.tasks, self.names)}

    def reliability(self) -> dict[str, Reliability]:
        """Of each task that occurs."""
        found = {}
        for number, name in enumerate(self.names):
            own = self.tasks == number
            if own.any():
                found[name] = reliability(self.probabilities[own], self.labels[own])
        return found


class MatcherTrainer(OrderedTrainer):
    """Of checkpoints with the same f1 the last is the best one.

    Where few pairs match, f1 is 0 until a probability exceeds one half; the first of these has learnt least.
    """

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        # As long as transformers (checked: 5.23) asks for more than the best so far.
        if metrics.get("eval_f1") == self.state.best_metric:
            self.state.best_metric = float("-inf")
        return super()._determine_best_metric(metrics, trial)


def check(options: Options, arguments: TrainingArguments) -> None:
    """Raise InputError for options that cannot work, before anything is read."""
    check_training(arguments, options.dropout, options.report)
    check_model(options.model)
    check_output_folder(Path(arguments.output_dir), options.resume, options.overwrite)
    check_range({"max_train_rows": options.max_train_rows}, 1)
    check_range({"ema_decay": options.ema_decay}, 0, 1)
    loss_of(options.loss, gamma=options.focal_gamma)
    check_effects(options, arguments)
    if options.task_names is not None and len(set(options.task_names)) < len(options.task_names):
        raise InputError(f"--task_names must be different names, got {' '.join(options.task_names)}")


def check_effects(options: Options, arguments: TrainingArguments) -> None:
    """Raise InputError for an option that would change nothing, or not what it says."""
    saved, evaluated = (getattr(arguments, f"{what}_strategy").value for what in ("save", "eval"))
    metric = arguments.metric_for_best_model
    # What TrainingArguments say where one of these is asked for and no metric is named.
    by_default = arguments.load_best_model_at_end or arguments.lr_scheduler_type == "reduce_lr_on_plateau"
    evaluating = "held-out rows are evaluated before each saving, as --save_strategy and --save_steps say"
    figures = "F1 is of all predictions together"
    chosen = "the best checkpoint is that with the best f1"
    for option, refused, why in (
        ("--save_strategy best", saved == "best", f"expected epoch, steps or no, and {chosen} of all that are saved"),
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
        ("--label_names", arguments.label_names not in (None, LABELS), f"they are {', '.join(LABELS)}"),
        ("--label_smoothing_factor", arguments.label_smoothing_factor != 0, "the loss is what --loss says"),
        ("--focal_gamma", options.loss != "focal" and options.focal_gamma != 2, "it is of --loss focal"),
    ):
        if refused:
            raise InputError(f"{option} has no effect here: {why}; leave it out")


def evaluate_where_saved(arguments: TrainingArguments) -> None:
    """Evaluate before each saving, and in the end take the checkpoint with the best f1."""
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
    if arguments.process_index == 0 and (lacking := [name for name in names if name not in trained]):
        print(f"no rows to train on of {', '.join(lacking)}")
    weights = class_weights(options.class_weights, rows["train"])
    loss = loss_of(options.loss, weights, options.focal_gamma)

    set_seed(arguments.seed)
    with one_line_errors(f"--model {options.model} cannot be used"):
        model = load_model(options, config, names)
        check_tokenizer(model, tokenizer, strict=True)
        frame = pair_frame_of(tokenizer)
        if config.model_type == MATCHER:
            # What its training took (see below), and no limit of the model.
            tokenizer.model_max_length = VERY_LARGE_INTEGER
        longest = pair_length(model, tokenizer, frame)
        length = pair_length(model, tokenizer, frame, min(options.max_length, longest))
        # Saved with it, so that whoever uses the matcher judges the rows that it was trained and measured on.
        tokenizer.model_max_length = length
        data = {part: encoded(part_rows, names, tokenizer, frame, length) for part, part_rows in rows.items()}
    remove_checkpoints(options, arguments)
    arguments.label_names = LABELS
    facts = {
        "tasks": names,
        "max_length": length,
        "ema decay": options.ema_decay,
        "loss": repr(loss),
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
    return train(options, trainer, rows)


def train(options: Options, trainer: OrderedTrainer, rows: dict[str, list[MatchingRow]]) -> dict[str, Any]:
    first, folder = trainer.is_world_process_zero(), Path(trainer.args.output_dir)
    if options.resume and last_whole_checkpoint(folder) is None and first:
        print(restart_reason(folder))
    result = trainer.resume() if options.resume else trainer.train()
    trained = trainer.state.global_step > trainer.first_step
    if not trained and first:
        print(f"all steps had been trained already: checkpoint-{trainer.first_step} is taken as it is")
    figures: dict[str, Any] = {
        "train_rows": len(rows["train"]),
        "tasks": len(trainer.facts["tasks"]),
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "steps": trainer.state.global_step,
        **({"train_loss": result.training_loss} if trained else {}),
        "seconds": result.metrics["train_runtime"],
    }
    # Before the evaluation, which with --bf16_full_eval leaves the weights in half precision.
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
                "f1 is 0: no held-out pair that matches has a probability above one half; README.md in the folder "
                "says what other thresholds would give"
            )
        if trainer.args.load_best_model_at_end and trainer.state.best_global_step:
            figures["best_step"] = trainer.state.best_global_step
    if first:
        write_card(folder, options, trainer, rows, figures)
        print_figures(figures)
        print(f"saved to {folder}")
        write_report(options.report, figures)
    return figures


def write_card(
    folder: Path,
    options: Options,
    trainer: OrderedTrainer,
    rows: dict[str, list[MatchingRow]],
    figures: dict[str, Any],
) -> None:
    """The model card, and with held-out rows the picture of how reliable the probabilities are."""
    held_out: Any = trainer.compute_metrics
    arguments, facts, names = trainer.args, trainer.facts, held_out.names
    tasks: dict[str, Reliability] = {}
    found: dict[str, float] = {}
    drawn = False
    if "held-out" in rows and not np.isfinite(held_out.probabilities).all():
        print(f"no {PICTURE}: not all of the model's probabilities are finite numbers")
    elif "held-out" in rows:
        tasks = held_out.reliability()
        found = {**probability_figures(held_out.probabilities, held_out.labels, held_out.tasks, names), **figures}
        try:
            check_picture(folder / PICTURE)
            draw_reliability(tasks, folder / PICTURE)
            drawn = True
        except KexueError as error:
            # After a long training, and only a picture.
            print(f"no {PICTURE}: {error}")
    if not drawn:
        (folder / PICTURE).unlink(missing_ok=True)  # of an earlier training
    local = Path(options.model).is_dir()
    training = {
        "begun from": Path(options.model).resolve().name if local else options.model,
        "trained on": ", ".join(Path(name).resolve().name for name in options.train_file),
        "measured on": ", ".join(Path(name).resolve().name for name in options.eval_file or ["nothing"]),
        "parameters": f"{figures['parameters']:,}",
        "epochs": f"{trainer.state.epoch or 0:g}",
        "steps": f"{figures['steps']:,}",
        "of which the best": f"{figures['best_step']:,}" if "best_step" in figures else "not looked for",
        "rows of a step": facts["rows of a step"],
        "learning rate": f"{arguments.learning_rate:g}, {arguments.lr_scheduler_type.value}",
        "loss": facts["loss"],
        "averaged weights": f"decay {options.ema_decay}" if options.ema_decay else "none",
        "pooling": facts["pooling"],
        "dropout": facts["hidden_dropout_prob"],
        "precision": "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "float32",
        "seed": arguments.seed,
        "versions": f"transformers {transformers.__version__}, torch {torch.__version__}",
    }
    card = matcher_card(
        folder.resolve().name,
        names,
        rows,
        found,
        tasks,
        training,
        max_length=facts["max_length"],
        base_model=None if local else options.model,
        picture=PICTURE if drawn else None,
    )
    with whole_file(folder / "README.md", overwrite=True) as file:
        file.write(card)


def main(arguments: list[str] | None = None) -> None:
    run_script("finetune_matcher", __doc__, Options, run, arguments, Arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
