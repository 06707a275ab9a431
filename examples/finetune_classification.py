"""Fine-tune an encoder to classify texts.

    python examples/finetune_classification.py --model my-wobert --train_file train.jsonl --eval_file dev.jsonl \\
        --output_dir my-classifier --learning_rate 5e-5 --num_train_epochs 3

That rate is for a network of BERT's size; a tiny one wants 5e-4 or more, and --classifier_pooling mean.

Long documents: --linear_attention --max_length 4096. A folder of a BERT, a RoBERTa-wwm, a WoBERT or a Performer BERT
becomes a Performer BERT, which has softmax for short batches, linear attention for long ones, and positions beyond the
encoder's table; any other encoder keeps its length and has linear attention always. --calibrate 32 fits the linear
attention to the encoder on so many training texts before anything is trained.

--train_file and --eval_file are .jsonl (one object a line), .csv or .tsv (with a header), or, with --dataset NAME,
splits of a data set of the Hub. Labels are numbers or names; names are kept in the configuration. All of transformers'
TrainingArguments are options. Prints the held-out accuracy and macro-F1 beside what always answering the training
data's commonest label would give, and saves a folder with model and tokenizer that loads anywhere.
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
from kexue_hf.corpora.text_files import TABLES, form_of, read_objects, text_of
from kexue_hf.errors import InputError
from kexue_hf.pipelines.text_windows import max_tokens
from kexue_hf.trainers.checked_options import (
    check_model,
    check_output_folder,
    check_range,
    check_training,
    one_line_errors,
    remove_checkpoints,
)
from kexue_hf.trainers.training_script import leave_process_group, print_figures, run_script, write_report
from kexue_hf.trainers.whole_checkpoints import MarkingTrainer, last_whole_checkpoint, restart_reason

PERFORMER = kexue_hf.PerformerBertConfig.model_type


@dataclass
class Options:
    model: str = field(metadata={"help": "folder or Hub name of an encoder"})
    train_file: str = field(metadata={"help": ".jsonl, .csv or .tsv; with --dataset the name of a split"})
    eval_file: str | None = field(default=None, metadata={"help": "held-out data, in the same form"})
    dataset: str | None = field(
        default=None, metadata={"help": "name or folder of a data set for datasets.load_dataset"}
    )
    text_column: str = field(default="text", metadata={"help": "where the text is"})
    label_column: str = field(default="label", metadata={"help": "where the label is"})
    max_length: int = field(default=128, metadata={"help": "tokens of a text; longer ones are cut"})
    max_train_rows: int | None = field(default=None, metadata={"help": "take that many rows at random, by --seed"})
    batch_size: int | None = field(default=None, metadata={"help": "short for --per_device_train_batch_size"})
    attention: str = field(
        default="sdpa", metadata={"help": "sdpa, eager (faster for bf16 on a CPU), flash_attention_2"}
    )
    classifier_pooling: Literal["pooler", "cls", "mean"] | None = field(
        default=None,
        metadata={
            "help": "what the classifier reads: BERT's pooler, the state of [CLS], or the mean of all tokens' states, "
            "which is better for small networks; by default what the model's configuration says"
        },
    )
    linear_attention: bool = field(
        default=False,
        metadata={"help": "for long texts: a BERT or WoBERT becomes a Performer BERT, others have linear attention"},
    )
    switch_length: str | None = field(
        default=None,
        metadata={
            "help": "of a Performer BERT: batches of at most so many tokens have softmax, longer ones (0: all) linear "
            "attention; auto is the length measured on the device; by default what the model's configuration says"
        },
    )
    calibrate: int = field(
        default=0,
        metadata={"help": "fit linear attention to the encoder's on so many texts before training; some 32 do"},
    )
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint in --output_dir, if any"})
    overwrite: bool = field(default=False, metadata={"help": "replace what an earlier training left in --output_dir"})
    from_scratch: bool = field(default=False, metadata={"help": "the same network with random weights, to compare"})
    report: str | None = field(default=None, metadata={"help": "write the figures to this JSON file"})


def read_rows(path: str, text_column: str, label_column: str) -> list[dict[str, Any]]:
    """The rows of a .jsonl, .csv or .tsv file as {"text": str, "label": str or int}.

    Raises:
        InputError: naming file and line: no such file, not UTF-8, a line that is not an object, a missing column or
            value, a text that is not a string, a label that is neither a string nor a whole number.
    """
    if form_of(path) not in (".jsonl", ".json", *TABLES):
        raise InputError(f"{path}: expected the ending .jsonl, .json, .csv or .tsv (perhaps .gz, .bz2, .xz or .zst)")
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
        raise InputError(f"{path} holds no rows; expected one text and label a line")
    return rows


def load_rows(options: Options, source: str) -> list[dict[str, Any]]:
    """The rows of a file, or of the split `source` of --dataset."""
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
    """The labels, as strings, in the order of their ids: by number where all are numbers, else by name."""
    found = {str(row["label"]) for row in rows}
    return sorted(found, key=int) if all(name.lstrip("-").isdigit() for name in found) else sorted(found)


def measures(predicted: np.ndarray, expected: np.ndarray, classes: int) -> dict[str, float]:
    """Accuracy, and the mean over the classes of F1 = 2 hits / (predicted + expected); a class that occurs in neither
    is left out of the mean."""
    scores = []
    for label in range(classes):
        hits = int(((predicted == label) & (expected == label)).sum())
        total = int((predicted == label).sum() + (expected == label).sum())
        if total:
            scores.append(2 * hits / total)
    return {"accuracy": float((predicted == expected).mean()), "macro_f1": float(np.mean(scores))}


def is_linear(config: PreTrainedConfig) -> bool:
    """Whether its model is made with feature maps, as a Performer BERT or as one that was swapped and saved."""
    return config.model_type == PERFORMER or getattr(config, "performer", None) is not None


def load_config(options: Options, labels: dict[str, Any]) -> PreTrainedConfig:
    """The configuration of --model, with `labels`, as the options want it.

    Raises:
        InputError: the options ask for what this model has not.
    """
    config = AutoConfig.from_pretrained(options.model, **labels)
    # What has feature maps already keeps them.
    if options.linear_attention and config.model_type in ("bert", "wobert") and not is_linear(config):
        config = kexue_hf.PerformerBertConfig.from_pretrained(options.model, **labels)
    if options.classifier_pooling is not None:
        if not hasattr(config, "classifier_pooling"):
            raise InputError(f"--classifier_pooling: {options.model} is a {config.model_type}, which has one way only")
        config.classifier_pooling = options.classifier_pooling
    if options.calibrate and not options.linear_attention and not is_linear(config):
        raise InputError("--calibrate is of linear attention: add --linear_attention")
    if options.switch_length is not None:
        if config.model_type != PERFORMER:
            why = "" if options.linear_attention else ", without --linear_attention"
            raise InputError(f"--switch_length: {options.model} is a {config.model_type}{why}, which never switches")
        digits = options.switch_length.isdecimal()
        config.attention_switch_length = int(options.switch_length) if digits else options.switch_length
        config.check()
    return config


def load_model(options: Options, config: PreTrainedConfig) -> PreTrainedModel:
    """The classifier, with linear attention where it is wanted."""
    # Not in the float16 that the folder may be stored in, in which the optimizer's small steps get lost.
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
        raise InputError(f"{options.train_file}: a classifier needs two labels at least, found only {names[0]!r}")
    ids = {name: index for index, name in enumerate(names)}
    for row in rows.get("held-out", []):
        if str(row["label"]) not in ids:
            raise InputError(f"{options.eval_file}: label {row['label']!r} does not occur in {options.train_file}")

    set_seed(arguments.seed)
    with one_line_errors(f"--model {options.model} cannot be used"):
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        labels = {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": ids}
        config = load_config(options, labels)
        model = load_model(options, config)
    length = min(options.max_length, max_tokens(config) or options.max_length)
    if config.model_type == PERFORMER:
        # Or what cuts at the tokenizer's own length would cut at the table's.
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
        "classifier_pooling": getattr(config, "classifier_pooling", None),
        "linear attention": is_linear(config) or options.linear_attention,
    }
    trainer = MarkingTrainer(
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=data.get("held-out"),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=lambda p: measures(p.predictions.argmax(-1), p.label_ids, len(names)),
        facts=facts,
    )
    remove_checkpoints(options, arguments)
    if options.resume and last_whole_checkpoint(arguments.output_dir) is None and trainer.is_world_process_zero():
        print(restart_reason(arguments.output_dir))
    result = trainer.resume() if options.resume else trainer.train()
    trained = result.global_step > trainer.first_step
    if not trained and trainer.is_world_process_zero():
        print(f"all steps had been trained already: checkpoint-{trainer.first_step} is taken as it is")
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
        figures["accuracy"] = measured["eval_accuracy"]
        figures["macro_f1"] = measured["eval_macro_f1"]
    trainer.save_model()
    if trainer.is_world_process_zero():
        trainer.create_model_card(tasks="text-classification", tags=[config.model_type])
        print_figures(figures)
        print(f"saved to {arguments.output_dir}")
        write_report(options.report, figures)
    return figures


def main(arguments: list[str] | None = None) -> None:
    run_script("finetune_classification", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
