"""Fine-tune an encoder to classify texts.

    python examples/finetune_classification.py --model my-wobert --train_file train.jsonl --eval_file dev.jsonl \\
        --output_dir my-classifier --learning_rate 5e-5 --num_train_epochs 3

This learning rate is for a model of BERT's size. For a tiny model, use 5e-4 or more and --classifier_pooling mean.

Data files are .jsonl (one object per line), .csv or .tsv (with a header); with --dataset NAME, they are splits of a
dataset on the Hub. Labels are numbers or names; names are stored in the configuration.

For long documents, add --linear_attention --max_length 4096. A BERT, RoBERTa-wwm, WoBERT or Performer BERT becomes a
Performer BERT, with softmax for short batches, linear attention for long ones, and positions beyond the encoder's
table. Any other encoder keeps its maximum length and always uses linear attention. --calibrate 32 first fits the
linear attention to the encoder on 32 training texts.

The script prints held-out accuracy and macro-F1, next to the accuracy of always predicting the most common label. It
saves a folder with model and tokenizer that loads anywhere. All of transformers' TrainingArguments are options.
"""

import json
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, load_dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedConfig,
    PreTrainedModel,
    TrainingArguments,
    set_seed,
)

import kexue_hf  # registers our models with the Auto classes
from kexue_hf.corpora.text_files import TABLES, read_objects, suffix_of, text_of
from kexue_hf.errors import InputError
from kexue_hf.evaluation.classification import classification_figures
from kexue_hf.files.hub_names import is_hub_name
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.losses import ClassPrior, DecisionRule, WeightedCrossEntropy, make_loss
from kexue_hf.losses.registry import LOSSES
from kexue_hf.pipelines.text_windows import position_limit
from kexue_hf.trainers.checked_options import (
    check_model,
    check_output_folder,
    check_range,
    check_training,
    one_line_errors,
    remove_checkpoints,
)
from kexue_hf.trainers.training_script import leave_process_group, print_figures, run_script, write_report
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer, last_whole_checkpoint, restart_reason

PERFORMER = kexue_hf.PerformerBertConfig.model_type


@dataclass
class Options:
    model: str = field(metadata={"help": "folder or Hub name of an encoder"})
    train_file: str = field(metadata={"help": ".jsonl, .csv or .tsv; with --dataset, the name of a split"})
    eval_file: str | None = field(default=None, metadata={"help": "held-out data, in the same format"})
    dataset: str | None = field(
        default=None, metadata={"help": "name or folder of a dataset for datasets.load_dataset"}
    )
    text_column: str = field(default="text", metadata={"help": "column of the text"})
    label_column: str = field(default="label", metadata={"help": "column of the label"})
    max_length: int = field(default=128, metadata={"help": "tokens per text; longer texts are truncated"})
    max_train_rows: int | None = field(default=None, metadata={"help": "use this many random rows (by --seed)"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    attention: str = field(
        default="sdpa", metadata={"help": "sdpa, eager (faster for bf16 on a CPU) or flash_attention_2"}
    )
    classifier_pooling: Literal["pooler", "cls", "mean"] | None = field(
        default=None,
        metadata={
            "help": "input of the classifier: BERT's pooler, the state of [CLS], or the mean of all states (better "
            "for small models); default: that of the model's configuration"
        },
    )
    loss: str = field(default="cross_entropy", metadata={"help": f"one of {', '.join(LOSSES)}; see docs/losses.md"})
    loss_option: list[str] | None = field(
        default=None,
        metadata={
            "help": "options of the loss, key=value: gamma=3 (focal), weight=inverse, tau=1 (logit_adjusted), ..."
        },
    )
    decision_rule: Literal["argmax", "prior_adjusted"] = field(
        default="argmax",
        metadata={"help": "how the saved model predicts; prior_adjusted adds the log frequencies of the classes"},
    )
    linear_attention: bool = field(
        default=False,
        metadata={"help": "for long texts: a BERT or WoBERT becomes a Performer BERT, others get linear attention"},
    )
    switch_length: str | None = field(
        default=None,
        metadata={
            "help": "longest batch, in tokens, for which a Performer BERT uses softmax; 0: never; auto: the length "
            "measured on the device; default: that of the model's configuration"
        },
    )
    calibrate: int = field(
        default=0,
        metadata={"help": "number of texts on which to fit linear attention before training; 32 are enough"},
    )
    resume: bool = field(default=False, metadata={"help": "continue from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace an earlier training in --output_dir"})
    from_scratch: bool = field(default=False, metadata={"help": "start from random weights, for comparison"})
    report: str | None = field(default=None, metadata={"help": "write the figures to this JSON file"})


def read_rows(path: str, text_column: str, label_column: str) -> list[dict[str, Any]]:
    """Return the rows of a .jsonl, .csv or .tsv file as {"text": str, "label": str or int}.

    Raises:
        InputError: with file and line: the file is missing or not UTF-8, a line is not an object, a column or value is
            missing, a text is not a string, or a label is neither a string nor an integer.
    """
    if suffix_of(path) not in (".jsonl", ".json", *TABLES):
        raise InputError(f"{path}: expected the ending .jsonl, .json, .csv or .tsv (or .gz, .bz2, .xz, .zst)")
    rows = []
    for place, row in read_objects(path):
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}")
        for column in (text_column, label_column):
            if column not in row:
                found = ", ".join(map(str, row)) or "nothing"
                raise InputError(f"{place}: no column {column!r} (found {found}); see --text_column, --label_column")
        text, label = text_of(row, text_column, place), row[label_column]
        if label is None or label == "":
            raise InputError(f"{place}: column {label_column!r} is null or empty; expected a label")
        if isinstance(label, bool) or not isinstance(label, str | int):
            raise InputError(f"{place}: {label_column!r} must be a name or a whole number, got {json.dumps(label)}")
        rows.append({"text": text, "label": label})
    if not rows:
        raise InputError(f"{path} holds no rows; expected one text and label per line")
    return rows


def load_rows(options: Options, source: str) -> list[dict[str, Any]]:
    """Return the rows of a file, or of the split `source` of --dataset."""
    if options.dataset is None:
        return read_rows(source, options.text_column, options.label_column)
    data = load_dataset(options.dataset, split=source)
    for column in (options.text_column, options.label_column):
        if column not in data.column_names:
            raise InputError(f"{options.dataset} has no column {column!r}, only {', '.join(data.column_names)}")
    names = getattr(data.features[options.label_column], "names", None)
    return [
        {
            "text": text_of(row, options.text_column, f"{options.dataset}, row {number}"),
            "label": names[label] if names else label,
        }
        for number, row in enumerate(data, 1)
        if (label := row[options.label_column]) is not None
    ]


def label_names(rows: list[dict[str, Any]]) -> list[str]:
    """Return the labels as strings, in the order of their ids: sorted as numbers if all are numbers, else as names."""
    found = {str(row["label"]) for row in rows}
    return sorted(found, key=int) if all(name.lstrip("-").isdigit() for name in found) else sorted(found)


def measures(logits: np.ndarray, expected: np.ndarray, shift: tuple[float, ...] | None) -> dict[str, float]:
    """Return the figures of predictions by the decision rule, which adds `shift` to the logits."""
    predicted = (logits if shift is None else logits + np.array(shift)).argmax(-1)
    return classification_figures(predicted, expected, logits.shape[-1])


def is_linear(config: PreTrainedConfig) -> bool:
    """Return whether such a model has feature maps: a Performer BERT, or a model saved after a swap."""
    return config.model_type == PERFORMER or getattr(config, "performer", None) is not None


def load_config(options: Options, labels: dict[str, Any]) -> PreTrainedConfig:
    """Return the configuration of --model, with `labels` and the options applied.

    Raises:
        InputError: an option does not apply to this model.
    """
    config = AutoConfig.from_pretrained(options.model, **labels)
    # A model that already has feature maps keeps them.
    if options.linear_attention and config.model_type in ("bert", "wobert") and not is_linear(config):
        config = kexue_hf.PerformerBertConfig.from_pretrained(options.model, **labels)
    if options.classifier_pooling is not None:
        if not hasattr(config, "classifier_pooling"):
            raise InputError(
                f"--classifier_pooling needs a model with several poolings, {options.model} is a {config.model_type}: "
                "leave it out"
            )
        config.classifier_pooling = options.classifier_pooling
    if options.calibrate and not options.linear_attention and not is_linear(config):
        raise InputError("--calibrate needs linear attention: add --linear_attention")
    if options.switch_length is not None:
        if config.model_type != PERFORMER:
            why = "" if options.linear_attention else ", without --linear_attention"
            raise InputError(f"--switch_length: {options.model} is a {config.model_type}{why}, which never switches")
        digits = options.switch_length.isdecimal()
        config.attention_switch_length = int(options.switch_length) if digits else options.switch_length
        config.check()
    return config


def load_model(options: Options, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the classifier, with linear attention if requested."""
    # Not the folder's dtype: float16 would lose the optimizer's small steps.
    how = {"dtype": "float32", "attn_implementation": options.attention}
    if options.from_scratch:
        model = AutoModelForSequenceClassification.from_config(config, **how)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(options.model, config=config, **how)
    if options.linear_attention and not is_linear(config):
        kexue_hf.use_performer(model)
    return model


def run(options: Options, arguments: TrainingArguments) -> dict[str, float]:
    """Train, evaluate, save model and tokenizer to `output_dir`, and return the figures."""
    check_range({"calibrate": options.calibrate}, 0)
    if options.batch_size is not None:
        arguments.per_device_train_batch_size = options.batch_size
    check_training(arguments, None, options.report)
    check_output_folder(Path(arguments.output_dir), options.resume, options.overwrite)
    check_model(options.model)
    rows = {"train": load_rows(options, options.train_file)}
    if options.eval_file is not None:
        rows["held-out"] = load_rows(options, options.eval_file)
    if options.max_train_rows is not None and options.max_train_rows < len(rows["train"]):
        chosen = np.random.default_rng(arguments.seed).permutation(len(rows["train"]))[: options.max_train_rows]
        rows["train"] = [rows["train"][i] for i in chosen]
    names = label_names(rows["train"])
    if len(names) < 2:
        raise InputError(f"{options.train_file}: expected at least two labels, got only {names[0]!r}")
    ids = {name: index for index, name in enumerate(names)}
    for row in rows.get("held-out", []):
        if str(row["label"]) not in ids:
            raise InputError(f"{options.eval_file}: label {row['label']!r} does not occur in {options.train_file}")

    prior = ClassPrior.from_labels((ids[str(row["label"])] for row in rows["train"]), len(names))
    loss = make_loss(options.loss, options.loss_option or (), prior)
    rule = DecisionRule(options.decision_rule)

    set_seed(arguments.seed)
    with one_line_errors(f"--model {options.model} cannot be used"):
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        labels = {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": ids}
        config = load_config(options, labels)
        prior.store(config)
        rule.store(config)
        model = load_model(options, config)
    length = min(options.max_length, position_limit(config) or options.max_length)
    if config.model_type == PERFORMER:
        # Otherwise, truncation at the tokenizer's length would truncate at the size of the position table.
        tokenizer.model_max_length = max(length, config.max_position_embeddings)
    if options.calibrate:
        texts = [row["text"] for row in rows["train"]]
        chosen = np.random.default_rng(arguments.seed).permutation(len(texts))[: options.calibrate]
        with one_line_errors("--calibrate"):
            kexue_hf.calibrate_performer(model, [texts[i] for i in chosen], tokenizer, max_length=min(length, 256))

    data = {
        part: Dataset.from_dict(
            {
                **tokenizer([row["text"] for row in part_rows], truncation=True, max_length=length),
                "labels": [ids[str(row["label"])] for row in part_rows],
            }
        )
        for part, part_rows in rows.items()
    }
    facts = {
        "rows": len(rows["train"]),
        "checksum of the rows": zlib.crc32(json.dumps(rows["train"]).encode()),
        "labels": names,
        "seed": arguments.seed,
        "rows of a step": arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size,
        "max_length": length,
        "loss": " ".join([options.loss, *(options.loss_option or [])]),
        "classifier_pooling": getattr(config, "classifier_pooling", None),
        "linear attention": is_linear(config) or options.linear_attention,
    }
    trainer = AtomicCheckpointTrainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data.get("held-out"),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        # The model computes plain cross entropy itself.
        compute_loss_func=None if loss == WeightedCrossEntropy() else loss,
        compute_metrics=lambda p: measures(p.predictions, p.label_ids, rule.shift(config)),
        facts=facts,
    )
    card = ModelCardCallback(
        options.model,
        options.train_file,
        options.eval_file,
        datasets=[options.dataset]
        if options.dataset and is_hub_name(options.dataset) and not Path(options.dataset).exists()
        else (),
        training={"loss": facts["loss"], "labels": ", ".join(map(str, names))},
        script="finetune_classification",
    )
    trainer.add_callback(card)
    remove_checkpoints(options, arguments)
    if options.resume and last_whole_checkpoint(arguments.output_dir) is None and trainer.is_world_process_zero():
        print(restart_reason(arguments.output_dir))
    result = trainer.resume() if options.resume else trainer.train()
    trained = result.global_step > trainer.first_step
    if not trained and trainer.is_world_process_zero():
        print(f"all steps were already trained: using checkpoint-{trainer.first_step}")
    figures: dict[str, float] = {
        "train_rows": len(rows["train"]),
        "labels": len(names),
        **({"train_loss": result.training_loss} if trained else {}),
        "seconds": result.metrics["train_runtime"],
    }
    if "held-out" in rows:
        measured = trainer.evaluate()
        commonest = Counter(data["train"]["labels"]).most_common(1)[0][0]
        figures["held_out_rows"] = len(rows["held-out"])
        figures["majority_accuracy"] = float(np.mean(np.array(data["held-out"]["labels"]) == commonest))
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "worst_recall"):
            figures[name] = measured[f"eval_{name}"]
    trainer.save_model()
    if trainer.is_world_process_zero():
        shown = ("accuracy", "balanced_accuracy", "macro_f1", "worst_recall", "majority_accuracy")
        card.write(arguments.output_dir, figures={name: figures[name] for name in shown if name in figures})
        print_figures(figures)
        print(f"saved to {arguments.output_dir}")
        write_report(options.report, figures)
    return figures


def main(arguments: list[str] | None = None) -> None:
    run_script("finetune_classification", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
