"""Does pre-training help? Fine-tune the packaged tiny WoBERT and the same network with random weights.

    python benchmarks/finetuning.py --reviews FOLDER [--adapted FOLDER] [--resume]

FOLDER has train.jsonl and dev.jsonl, objects with `text` and `label` (review sentiment). There are two tasks: fields
of papers (the demo's samples), which are like the model's training text, and review sentiment, which is not. For
reviews there is a third contender: the packaged model after 2,500 more steps of examples/pretrain_mlm.py on the
training reviews without their labels. The script trains it, or reads it from --adapted.

examples/finetune_classification.py fine-tunes all contenders with mean pooling and the same rows, order and steps.
Each contender uses the better of two learning rates, chosen on training rows that are held out of training; tasks of
1,000 reviews or more use the rate chosen with 200. A bag of words (tf-idf and a logistic regression on the same rows
and tokens) is the baseline without a network. Writes results/finetuning.json after each figure, and
docs/finetuning.svg.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from drawing import picture_of
from measuring import ROOT, json_lines, machine, mean_and_error, read_result, write_result

BAG, RANDOM, PACKAGED, ADAPTED = "bag of words", "random weights", "packaged", "packaged, adapted"
RATES = (5e-4, 1e-3)
POOLING = "mean"


@dataclass(frozen=True)
class Task:
    """A task. `choosing` seeds choose the learning rate, `seeds` others are measured (other rows and weights)."""

    of_reviews: bool
    rows: int
    epochs: int
    max_length: int
    choosing: int
    seeds: int


TASKS = {
    "fields of papers, 66 rows": Task(False, 66, 20, 96, 1, 5),
    "fields of papers, 264 rows": Task(False, 264, 8, 96, 1, 3),
    "review sentiment, 200 rows": Task(True, 200, 6, 128, 1, 5),
    "review sentiment, 1,000 rows": Task(True, 1000, 4, 128, 0, 3),
    "review sentiment, 9,000 rows": Task(True, 9000, 2, 128, 0, 3),
}


@dataclass(frozen=True)
class Data:
    """The files: to train on and evaluate on while the rate is chosen, then to train on and evaluate on."""

    choose_train: Path
    choose: Path
    train: Path
    held_out: Path


def divide(train: Path, held_out: Path, output: Path, keep: int | None) -> Data:
    """Hold the last `keep` rows out of all training; with None, every fourth row while the rate is chosen."""
    lines = train.read_text("utf-8").splitlines(keepends=True)
    rest = lines[:-keep] if keep else [line for number, line in enumerate(lines) if number % 4]
    kept = lines[-keep:] if keep else lines[::4]
    output.mkdir()
    for name, part in (("rest", rest), ("kept", kept)):
        (output / f"{name}.jsonl").write_text("".join(part), "utf-8")
    rest_file = output / "rest.jsonl"
    return Data(rest_file, output / "kept.jsonl", rest_file if keep else train, held_out)


def run_example(module: Any, arguments: list[str]) -> dict[str, Any]:
    """Run an example's `run` with command-line arguments and without output, and return its figures."""
    from transformers import HfArgumentParser, TrainingArguments

    common = ["--batch-size=16", "--use_cpu", "--bf16", "--attention=eager", "--save_strategy=no"]
    common += ["--train_sampling_strategy=group_by_length", "--report_to=none", "--disable_tqdm=True"]
    common += ["--logging_strategy=no"]
    parsed = HfArgumentParser((module.Options, TrainingArguments)).parse_args_into_dataclasses([*arguments, *common])
    with contextlib.redirect_stdout(io.StringIO()):
        figures: dict[str, Any] = module.run(*parsed)
    return figures


def adapt(model: Path, reviews: Path, output: Path) -> Path:
    """Train the model on masked words and next segments of the reviews; return the folder."""
    from examples import pretrain_mlm

    run_example(
        pretrain_mlm,
        [
            f"--model={model}",
            f"--train_file={reviews / 'train.jsonl'}",
            f"--output_dir={output}",
            "--next_segment",
            "--max_length=96",
            "--max_steps=2500",
            "--learning_rate=1e-3",
            "--adam_beta2=0.98",
            "--weight_decay=0.01",
            "--warmup_steps=200",
        ],
    )
    return output


def fine_tune(model: Path, files: tuple[Path, Path], task: Task, seed: int, rate: float, scratch: bool) -> float:
    """Fine-tune a model and return its held-out accuracy."""
    from examples import finetune_classification

    train, held_out = files
    with tempfile.TemporaryDirectory() as output:
        arguments = [f"--model={model}", f"--train_file={train}", f"--eval_file={held_out}", f"--output_dir={output}"]
        arguments += [f"--seed={seed}", f"--learning_rate={rate}", f"--num_train_epochs={task.epochs}"]
        arguments += ["--warmup_steps=0.1", f"--max_length={task.max_length}", "--per_device_eval_batch_size=64"]
        arguments += [f"--max_train_rows={task.rows}", f"--classifier_pooling={POOLING}"]
        arguments += ["--from_scratch"] if scratch else []
        return float(run_example(finetune_classification, arguments)["accuracy"])


def choose(model: Path, data: Data, task: Task, scratch: bool) -> dict[float, list[float]]:
    """Return the accuracies of each rate on the rows for choosing, with seeds that are not measured."""
    files = (data.choose_train, data.choose)
    return {
        rate: [fine_tune(model, files, task, 100 + s, rate, scratch) for s in range(task.choosing)] for rate in RATES
    }


def cell(accuracies: list[float]) -> dict[str, Any]:
    """Return the mean, its standard error (None for a single run), and all accuracies."""
    mean, error = mean_and_error(accuracies)
    return {
        "mean_accuracy": mean,
        "standard_error": error,
        "accuracies": [round(accuracy, 4) for accuracy in accuracies],
    }


def measure(model: Path, data: Data, task: Task, scratch: bool, rate: float | None) -> dict[str, Any]:
    """Return a contender's figures at the chosen rate, or at `rate` if the task chooses none."""
    tried = choose(model, data, task, scratch) if task.choosing else {}
    rate = max(tried, key=lambda candidate: statistics.mean(tried[candidate])) if tried else rate
    assert rate is not None, "the first task of a kind chooses"
    files = (data.train, data.held_out)
    return cell([fine_tune(model, files, task, seed, rate, scratch) for seed in range(task.seeds)]) | {
        "learning_rate": rate,
        "chosen_by": {str(tried_rate): [round(value, 4) for value in values] for tried_rate, values in tried.items()},
    }


def read(path: Path) -> tuple[list[str], list[Any]]:
    rows = json_lines(path)
    return [row["text"] for row in rows], [row["label"] for row in rows]


def bag_of_words(model: Path, data: Data, task: Task) -> list[float]:
    """Return held-out accuracies on each seed's rows; a single one if the task takes all rows."""
    from bag_of_words import accuracy
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    (texts, labels), (held_out, expected) = read(data.train), read(data.held_out)
    ids = {label: number for number, label in enumerate(sorted(set(labels)))}
    encoded, held_out_encoded = (
        tokenizer(part, truncation=True, max_length=task.max_length)["input_ids"] for part in (texts, held_out)
    )
    accuracies = []
    for seed in range(task.seeds if task.rows < len(texts) else 1):
        chosen = np.random.default_rng(seed).permutation(len(texts))[: task.rows]
        train, train_labels = [encoded[i] for i in chosen], [ids[labels[i]] for i in chosen]
        accuracies.append(accuracy(train, train_labels, held_out_encoded, [ids[label] for label in expected]))
    return accuracies


def majority(data: Data) -> float:
    labels, expected = read(data.train)[1], read(data.held_out)[1]
    return expected.count(max(set(labels), key=labels.count)) / len(expected)


def picture(tasks: dict[str, Any], path: Path) -> None:
    """Draw bars of held-out accuracy with standard errors, and the share of the most common label as a line."""
    with picture_of(path, (8.5, 3.2)) as (axes,):
        width = 0.2
        colours = {BAG: "0.88", RANDOM: "0.7", PACKAGED: "tab:blue", ADAPTED: "tab:green"}
        for number, (name, colour) in enumerate(colours.items()):
            drawn = [
                (place + (number - 1.5) * width, task["contenders"][name])
                for place, task in enumerate(tasks.values())
                if name in task["contenders"]
            ]
            bars = axes.bar(
                [place for place, _ in drawn],
                [100 * cell["mean_accuracy"] for _, cell in drawn],
                width,
                yerr=[100 * (cell["standard_error"] or 0) for _, cell in drawn],
                error_kw={"elinewidth": 0.8},
                label=name,
                color=colour,
            )
            axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
        for place, task in enumerate(tasks.values()):
            label = "commonest label" if place == 0 else None
            height = 100 * task["majority_accuracy"]
            axes.plot([place - 0.45, place + 0.45], [height] * 2, color="black", linestyle=":", label=label)
        axes.set_xticks(range(len(tasks)), [task.replace(", ", "\n") for task in tasks], fontsize=8)
        axes.set(ylabel="held-out accuracy, %", ylim=(0, 105))
        axes.legend(frameon=False, fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, 1.17))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--adapted", type=Path, help="folder of the adapted model; created if it does not exist")
    parser.add_argument(
        "--resume", action="store_true", help="keep the figures in results/finetuning.json and add the missing ones"
    )
    options = parser.parse_args()
    before = read_result("finetuning").get("tasks", {}) if options.resume else {}
    # Drop figures that were measured with other settings.
    before = {
        name: before[name]
        for name, task in TASKS.items()
        if name in before and before[name].get("settings") == asdict(task)
    }

    from transformers.utils import logging

    from kexue_hf import convert

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    result: dict[str, Any] = {
        "what": "held-out accuracy after fine-tuning: mean over seeds, standard error, all; and the rate, chosen on "
        "training rows that were kept out",
        "machine": machine("torch", "transformers", "datasets"),
        "classifier_pooling": POOLING,
        "tasks": dict(before),
    }
    with tempfile.TemporaryDirectory() as folder, resources.as_file(resources.files("kexue_hf") / "assets") as assets:
        packaged = convert(assets / "wobert_tiny", Path(folder) / "tiny", dtype="float32").output
        samples, reviews = assets / "samples", options.reviews
        sources = {
            False: divide(samples / "train.jsonl", samples / "held_out.jsonl", Path(folder) / "papers", None),
            True: divide(reviews / "train.jsonl", reviews / "dev.jsonl", Path(folder) / "reviews", 1000),
        }
        adapted = options.adapted or Path(folder) / "adapted"
        if not adapted.exists():
            adapt(packaged, reviews, adapted)
        rates: dict[bool, dict[str, float]] = {False: {}, True: {}}  # of each contender, from an earlier task
        for name, task in TASKS.items():
            data, chosen = sources[task.of_reviews], rates[task.of_reviews]
            cells = before.get(name, {}).get("contenders") or {BAG: cell(bag_of_words(packaged, data, task))}
            result["tasks"][name] = {
                "settings": asdict(task),
                "held_out_rows": len(read(data.held_out)[0]),
                "majority_accuracy": round(majority(data), 4),
                "contenders": cells,
            }
            for contender in (RANDOM, PACKAGED, *((ADAPTED,) if task.of_reviews else ())):
                if contender not in cells:
                    model, scratch = adapted if contender == ADAPTED else packaged, contender == RANDOM
                    cells[contender] = measure(model, data, task, scratch, chosen.get(contender))
                chosen[contender] = cells[contender]["learning_rate"]
                print(name, contender, cells[contender], flush=True)
                result["tasks"] = {each: result["tasks"][each] for each in TASKS if each in result["tasks"]}
                write_result("finetuning", result)
            picture(result["tasks"], ROOT / "docs" / "finetuning.svg")


if __name__ == "__main__":
    main()
