"""Train sentence vectors on unlabelled texts: SimSiam, BYOL or SimCSE, over any encoder.

    python examples/train_sentence_vectors.py --model wobert --train_file texts.jsonl --output_dir vectors \\
        --method simcse --deletion 0.1 --learning_rate 3e-5 --batch_size 64 --num_train_epochs 1

    # with people's scores of pairs, to watch the rank correlation; they are never trained on
    ... --pairs_file dev.jsonl --eval_strategy steps --eval_steps 100

This learning rate is for a model of BERT's size; for a tiny one, use 3e-4 or more. The loss of simcse falls towards 0,
that of the other methods from 0 towards -1. Neither says how good the vectors are: evaluate on pairs.

A row of --train_file is one text, and texts longer than --max_length become several rows; --text_column takes several
columns. A row of --pairs_file has text1, text2 and
score. The spread of the vectors is measured on texts of the training file every --collapse_steps steps, logged,
written to OUTPUT_DIR/collapse.json, and drawn to collapse.svg next to it if matplotlib is installed.

OUTPUT_DIR/encoder is an ordinary model with its tokenizer, for `kexue_hf.sentence_vectors`, AutoModel, or
`kexue_hf.build_sentence_transformer`. OUTPUT_DIR itself also has the projector and the predictor, to train on. All of
transformers' TrainingArguments are options.
"""

import math
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import concatenate_datasets
from transformers import AutoConfig, AutoTokenizer, TrainingArguments, set_seed

from kexue_hf import CollapseMonitor, SimSiamModel, TargetAverageCallback, TextViewsCollator, simsiam_optimizer
from kexue_hf.corpora.packing import Segments
from kexue_hf.corpora.reading import load_corpus
from kexue_hf.corpora.row_order import Table
from kexue_hf.corpora.text_files import read_objects, text_of
from kexue_hf.errors import InputError
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.hub.model_facts import SIMSIAM
from kexue_hf.pipelines.sentence_vectors import sentence_vectors
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

METHODS: dict[str, dict[str, Any]] = {
    "simsiam": {},
    "byol": {"target": "ema"},
    "simcse": {"negatives": "in_batch", "predictor": False, "stop_gradient": False, "projector_layers": 0},
    "view_mean": {"target": "view_mean"},
}

METHOD_FIELDS = (
    "norm", "projector_layers", "predictor", "stop_gradient", "target", "negatives", "momentum", "temperature",
)  # fmt: skip
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout")


@dataclass
class Options:
    model: str = field(metadata={"help": "folder or Hub name of an encoder"})
    train_file: list[str] = field(metadata={"help": "texts: files, globs, folders, or Hub names (name:config)"})
    text_column: list[str] = field(
        default_factory=lambda: ["text"], metadata={"help": "columns of the texts (not for .txt)"}
    )
    pairs_file: str | None = field(
        default=None, metadata={"help": ".jsonl, .csv or .tsv with text1, text2 and score, to evaluate on"}
    )
    method: Literal["simsiam", "byol", "simcse", "view_mean"] = field(
        default="simsiam", metadata={"help": "what is trained; see docs/sentence_vectors.md"}
    )
    no_predictor: bool = field(default=False, metadata={"help": "ablation: leave the predictor out"})
    no_stop_gradient: bool = field(default=False, metadata={"help": "ablation: let gradients flow through the target"})
    norm: Literal["batch", "layer", "none"] = field(default="batch", metadata={"help": "norm in the trained heads"})
    projector_layers: int | None = field(default=None, metadata={"help": "default: 3, and 0 for simcse"})
    projection_size: int | None = field(default=None, metadata={"help": "default: the encoder's hidden size"})
    predictor_hidden_size: int | None = field(default=None, metadata={"help": "default: a quarter of that"})
    predictor_learning_rate: float | None = field(default=None, metadata={"help": "default: --learning_rate"})
    momentum: float | None = field(default=None, metadata={"help": "of BYOL's average at the first step, or 0.996"})
    temperature: float | None = field(default=None, metadata={"help": "of SimCSE, or 0.05"})
    dropout: float | None = field(default=None, metadata={"help": "default: that of the model"})
    passage: float = field(
        default=1.0,
        metadata={
            "help": "below 1: views are passages of this fraction of up to max_length / passage tokens of a text"
        },
    )
    deletion: float = field(default=0.0, metadata={"help": "fraction of the words that a view leaves out"})
    shuffle: int = field(default=0, metadata={"help": "words that a word may move by"})
    masking: float = field(default=0.0, metadata={"help": "fraction of the words that become [MASK]"})
    cutoff: float = field(default=0.0, metadata={"help": "fraction of the words hidden by the attention mask"})
    max_length: int = field(default=64, metadata={"help": "tokens per text"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    collapse_steps: int = field(default=100, metadata={"help": "steps between two measurements of the spread"})
    stop_below: float | None = field(
        default=None, metadata={"help": "stop when the spread falls below this fraction of its first value"}
    )
    preprocessing_num_proc: int | None = field(default=None, metadata={"help": "number of tokenizing processes"})
    resume: bool = field(default=False, metadata={"help": "continue from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace an earlier training in --output_dir"})
    report: str | None = field(default=None, metadata={"help": "write the figures to this JSON file"})


def read_pairs(path: str) -> list[tuple[str, str, float]]:
    """Return the scored pairs of a file.

    Raises:
        InputError: with file and line, for a missing column or a score that is not a number; or there are fewer than
            two pairs.
    """
    pairs = []
    for place, row in read_objects(path):
        if not isinstance(row, dict) or not {"text1", "text2", "score"} <= row.keys():
            raise InputError(f"{place}: expected text1, text2 and score, got {row!r:.80}")
        try:
            score = float(row["score"])
        except (TypeError, ValueError):
            score = math.nan
        if not math.isfinite(score):
            raise InputError(f"{place}: score must be a number, got {row['score']!r:.40}")
        pairs.append((text_of(row, "text1", place), text_of(row, "text2", place), score))
    if len(pairs) < 2:
        raise InputError(f"{path} holds {len(pairs)} pairs; expected at least 2")
    return pairs


def rank_correlation(model: Any, tokenizer: Any, pairs: list[tuple[str, str, float]]) -> float:
    """Return Spearman's correlation of the cosines of the pairs' vectors with their scores."""
    from scipy.stats import spearmanr

    first, second, scores = zip(*pairs, strict=True)
    vectors = sentence_vectors(model, tokenizer, [*first, *second], normalize=True)
    cosines = (vectors[: len(pairs)] * vectors[len(pairs) :]).sum(1)
    return float(np.nan_to_num(spearmanr(cosines, scores).statistic))


class VectorsTrainer(OrderedTrainer):
    """A trainer whose evaluation is the rank correlation on scored pairs, its `eval_dataset`."""

    def evaluate(self, *arguments: Any, metric_key_prefix: str = "eval", **options: Any) -> dict[str, float]:
        figures = {
            f"{metric_key_prefix}_spearman": rank_correlation(self.model, self.processing_class, self.eval_dataset)
        }
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures


def check(options: Options, arguments: TrainingArguments) -> None:
    """Raise InputError for wrong options before anything is read."""
    if options.batch_size is not None:
        arguments.per_device_train_batch_size = options.batch_size
    check_training(arguments, options.dropout, options.report)
    check_output_folder(Path(arguments.output_dir), options.resume, options.overwrite)
    check_model(options.model)
    check_range(
        {"collapse_steps": options.collapse_steps, "preprocessing_num_proc": options.preprocessing_num_proc}, 1
    )
    for name, method in (("momentum", "byol"), ("temperature", "simcse")):
        if getattr(options, name) is not None and options.method != method:
            raise InputError(f"--{name} belongs to --method {method}, got --method {options.method}: leave it out")
    check_range({"momentum": options.momentum}, 0, 1)
    if arguments.per_device_train_batch_size < 2 and (options.norm == "batch" or options.method == "simcse"):
        raise InputError(
            "--batch_size must be at least 2: batch norm and negatives need other texts; or add --norm layer"
        )
    if not 0 < options.passage <= 1:
        raise InputError(f"--passage must be above 0 and at most 1, got {options.passage}")
    if options.pairs_file is None and arguments.eval_strategy != "no":
        raise InputError("--eval_strategy needs pairs to evaluate on: add --pairs_file")
    if options.pairs_file is not None and find_spec("scipy") is None:
        raise InputError("--pairs_file needs scipy, which is not installed: pip install scipy")


def build_model(options: Options, tokenizer: Any) -> SimSiamModel:
    """Return the encoder with its projector and predictor."""
    changes = {**METHODS[options.method]}
    if options.no_predictor:
        changes["predictor"] = False
    if options.no_stop_gradient:
        changes["stop_gradient"] = False
    if options.projector_layers is not None:
        changes["projector_layers"] = options.projector_layers
    names = ("norm", "projection_size", "predictor_hidden_size", "momentum", "temperature")
    fields = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    config = AutoConfig.from_pretrained(options.model)
    # BERT's names and DistilBERT's.
    dropout = {name: options.dropout for name in DROPOUTS if options.dropout is not None and hasattr(config, name)}
    return SimSiamModel.from_encoder(options.model, tokenizer=tokenizer, model_kwargs=dropout, **{**fields, **changes})


def run(options: Options, arguments: TrainingArguments) -> dict[str, float]:
    """Train, evaluate, save the model and its encoder, and return the figures."""
    check(options, arguments)
    folder = Path(arguments.output_dir)
    pairs = None if options.pairs_file is None else read_pairs(options.pairs_file)
    with arguments.main_process_first(desc="data"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_checkpoints(options, arguments)
        workers = options.preprocessing_num_proc
        columns = [load_corpus(options.train_file, column, workers) for column in options.text_column]
        texts = concatenate_datasets(columns)
        set_seed(arguments.seed)
        with one_line_errors(f"--model {options.model} cannot be used"):
            tokenizer = AutoTokenizer.from_pretrained(options.model)
            model = build_model(options, tokenizer)
        with one_line_errors("wrong options"):
            names = ("passage", "deletion", "shuffle", "masking", "cutoff")
            collator = TextViewsCollator(
                tokenizer,
                seed=arguments.seed,
                max_length=options.max_length,
                **{name: getattr(options, name) for name in names},
            )
            # Rows are longer than passages, so that two passages of a document differ.
            rows = texts.map(
                Segments(tokenizer, math.ceil(options.max_length / options.passage), None),
                batched=True,
                remove_columns=texts.column_names,
                num_proc=workers,
                desc="tokenizing",
            )
            optimizer = None
            if options.predictor_learning_rate is not None:
                optimizer = simsiam_optimizer(model, arguments, options.predictor_learning_rate)
    trainer = VectorsTrainer(
        model=model,
        args=arguments,
        train_dataset=Table(rows),
        eval_dataset=pairs,
        data_collator=collator,
        processing_class=tokenizer,
        optimizers=(optimizer, None),
        facts={
            "script": "train_sentence_vectors",
            **{name: getattr(options, name) for name in (*names, "max_length", "predictor_learning_rate")},
            "method": {name: getattr(model.config, name) for name in sorted(METHOD_FIELDS)},
        },
    )
    if options.method == "byol":
        trainer.add_callback(TargetAverageCallback())
    card = ModelCardCallback(options.model, options.train_file, options.pairs_file, script="train_sentence_vectors")
    trainer.add_callback(card)
    sample = list(dict.fromkeys(text for text in texts["text"][:2000] if text.strip()))[:256]
    picture = folder / "collapse.svg" if find_spec("matplotlib") else None
    monitor = CollapseMonitor(
        sample, every=options.collapse_steps, picture=picture, stop_below=options.stop_below
    ).attach(trainer)
    first = trainer.is_world_process_zero()
    before = None if pairs is None else rank_correlation(model, tokenizer, pairs)
    if options.resume and last_whole_checkpoint(folder) is None and first:
        print(restart_reason(folder))
    result = trainer.resume() if options.resume else trainer.train()
    figures = {
        "steps": trainer.state.global_step,
        "train_loss": result.training_loss,
        "seconds": result.metrics["train_runtime"],
        "spread_before": monitor.history[0]["spread"],
        "spread": monitor.history[-1]["spread"],
        "effective_rank": monitor.history[-1]["effective_rank"],
    }
    if pairs is not None:
        figures |= {"spearman_before": before, "spearman": rank_correlation(trainer.model, tokenizer, pairs)}
    trainer.save_model()
    if first:
        print(f"{len(texts):,} texts in {len(rows):,} rows; the encoder is saved to {folder / 'encoder'}")
        write_report(str(folder / "collapse.json"), monitor.history)
        trainer.model.encoder.save_pretrained(folder / "encoder")
        tokenizer.save_pretrained(folder / "encoder")
        shown = {name: figures[name] for name in ("spearman", "spearman_before") if name in figures}
        card.write(folder, figures=shown)
        card.write(folder / "encoder", model=trainer.model.encoder, figures=shown, post=SIMSIAM)
        print_figures(figures)
        write_report(options.report, figures)
    return figures


def main(arguments: list[str] | None = None) -> None:
    run_script("train_sentence_vectors", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
