"""Does pre-training help? The packaged tiny WoBERT against the same network with random weights, fine-tuned alike.

    python benchmarks/finetuning.py --reviews FOLDER

FOLDER has train.jsonl and dev.jsonl, objects with `text` and `label` (review sentiment). Tasks: the fields of papers
(the demo's samples), which is text of the kind that the model has read; and review sentiment, of which it has read
none. For the latter there is a third contender: the packaged model after 2,500 more steps of examples/pretrain_mlm.py
on the text of the training reviews, without their labels.

All are fine-tuned by examples/finetune_classification.py with the same rows, order, steps and learning rates; each
contender's figure is that of the better of two learning rates, by its mean over three seeds. Writes
results/finetuning.json and docs/finetuning.svg.
"""

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measuring import machine, write_result  # noqa: E402 (found by the line above)

RANDOM, PACKAGED, ADAPTED = "random weights", "packaged", "packaged, adapted"
SEEDS = (0, 1, 2)
# task -> (is it of the reviews, training rows or None for all, passes over them, tokens of a text, learning rates)
TASKS = {
    "fields of papers, 264 rows": (False, None, 12, 96, (5e-4, 1e-3)),
    "review sentiment, 200 rows": (True, 200, 10, 64, (2e-4, 5e-4)),
    "review sentiment, 1,000 rows": (True, 1000, 5, 64, (2e-4, 5e-4)),
    "review sentiment, 10,000 rows": (True, 10_000, 2, 64, (5e-4,)),
}


def run_example(module: Any, arguments: list[str]) -> dict[str, Any]:
    """Run an example's `run` with command-line arguments, in silence, and return its figures."""
    from transformers import HfArgumentParser, TrainingArguments

    common = ["--batch-size=16", "--use_cpu", "--bf16", "--attention=eager", "--save_strategy=no"]
    common += ["--report_to=none", "--disable_tqdm=True"]
    parsed = HfArgumentParser((module.Options, TrainingArguments)).parse_args_into_dataclasses([*arguments, *common])
    with contextlib.redirect_stdout(io.StringIO()):
        figures: dict[str, Any] = module.run(*parsed)
    return figures


def adapt(model: Path, reviews: Path, output: Path) -> Path:
    """The model after masked words and next segments of the reviews' text."""
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


def fine_tune(
    model: Path, data: tuple[Path, Path], task: str, seed: int, rate: float, scratch: bool
) -> dict[str, Any]:
    from examples import finetune_classification

    _, rows, epochs, length, _ = TASKS[task]
    train, held_out = data
    with tempfile.TemporaryDirectory() as output:
        arguments = [f"--model={model}", f"--train_file={train}", f"--eval_file={held_out}", f"--output_dir={output}"]
        arguments += [f"--seed={seed}", f"--learning_rate={rate}", f"--num_train_epochs={epochs}"]
        arguments += ["--warmup_steps=0.1", f"--max_length={length}", "--per_device_eval_batch_size=64"]
        arguments += [f"--max_train_rows={rows}"] if rows else []
        arguments += ["--from_scratch"] if scratch else []
        return run_example(finetune_classification, arguments)


def measure(model: Path, data: tuple[Path, Path], task: str, scratch: bool) -> dict[str, Any]:
    """Figures of the better learning rate, and the accuracies with all."""
    tried = {
        rate: [fine_tune(model, data, task, seed, rate, scratch) for seed in _seeds(task)] for rate in TASKS[task][-1]
    }
    rate = max(tried, key=lambda r: statistics.mean(run["accuracy"] for run in tried[r]))
    return {
        "mean_accuracy": round(statistics.mean(run["accuracy"] for run in tried[rate]), 4),
        "mean_macro_f1": round(statistics.mean(run["macro_f1"] for run in tried[rate]), 4),
        "learning_rate": rate,
        "accuracies": {str(r): [round(run["accuracy"], 4) for run in runs] for r, runs in tried.items()},
        "majority_accuracy": tried[rate][0]["majority_accuracy"],
        "held_out_rows": tried[rate][0]["held_out_rows"],
    }


def _seeds(task: str) -> tuple[int, ...]:
    return SEEDS[:1] if TASKS[task][1] == 10_000 else SEEDS


def picture(tasks: dict[str, Any], path: Path) -> None:
    """Bars: held-out accuracy of each contender on each task, the majority as a line across them."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "kexue"  # the same picture from the same figures
    figure, axes = pyplot.subplots(figsize=(7.5, 3.2))
    width = 0.27
    for number, (name, colour) in enumerate(((RANDOM, "0.75"), (PACKAGED, "tab:blue"), (ADAPTED, "tab:green"))):
        places = [place for place, cells in enumerate(tasks.values()) if name in cells]
        heights = [100 * cells[name]["mean_accuracy"] for cells in tasks.values() if name in cells]
        bars = axes.bar([place + (number - 1) * width for place in places], heights, width, label=name, color=colour)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    for place, cells in enumerate(tasks.values()):
        majority = 100 * cells[RANDOM]["majority_accuracy"]
        label = "commonest label" if place == 0 else None
        axes.plot([place - 0.45, place + 0.45], [majority] * 2, color="black", linestyle=":", label=label)
    axes.set_xticks(range(len(tasks)), [task.replace(", ", "\n") for task in tasks], fontsize=8)
    axes.set(ylabel="held-out accuracy, %", ylim=(0, 105))
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.17))
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    reviews = parser.parse_args().reviews

    from transformers.utils import logging

    from kexue_hf import convert

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    result: dict[str, Any] = {
        "what": "held-out accuracy after fine-tuning, mean over the seeds at the better learning rate",
        "machine": machine("torch", "transformers", "datasets"),
        "tasks": {},
    }
    with tempfile.TemporaryDirectory() as folder, resources.as_file(resources.files("kexue_hf") / "assets") as assets:
        packaged = convert(assets / "wobert_tiny", Path(folder) / "tiny", dtype="float32").output
        samples = (assets / "samples" / "train.jsonl", assets / "samples" / "held_out.jsonl")
        adapted = adapt(packaged, reviews, Path(folder) / "adapted")
        for task, (of_reviews, *_) in TASKS.items():
            data = (reviews / "train.jsonl", reviews / "dev.jsonl") if of_reviews else samples
            models = {RANDOM: packaged, PACKAGED: packaged} | ({ADAPTED: adapted} if of_reviews else {})
            result["tasks"][task] = {
                name: measure(model, data, task, scratch=name == RANDOM) for name, model in models.items()
            }
            accuracies = {name: cell["mean_accuracy"] for name, cell in result["tasks"][task].items()}
            print(task, accuracies, flush=True)
            write_result("finetuning", result)
    picture(result["tasks"], ROOT / "docs" / "finetuning.svg")


if __name__ == "__main__":
    main()
