"""Does pre-training help? The packaged tiny WoBERT against the same network with random weights, on review sentiment.

    kexue-hf convert kexue_hf/assets/wobert_tiny tiny --dtype float32
    python examples/pretrain_mlm.py --model tiny --next_segment --train_file ../shared/data/sentiment/train.jsonl \\
        --output_dir adapted --max_length 96 --max_steps 2500 --batch-size 16 --learning_rate 1e-3 \\
        --adam_beta2 0.98 --weight_decay 0.01 --warmup_steps 200 --use_cpu --bf16 --attention eager --report_to none
    python benchmarks/finetune_sentiment.py --data ../shared/data/sentiment --adapted adapted

The packaged model has read papers, encyclopaedia and novels, no reviews; the adapted one has gone on to the text of
the training reviews, without their labels.

All are fine-tuned by examples/finetune_classification.py with the same rows, order, steps and learning rates; each
contender's figure is that of the better of the learning rates, by its mean over the seeds. Writes
results/finetune_sentiment.json, and docs/finetune_sentiment.svg where matplotlib is installed.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib import resources, util
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# training rows: (passes over them, seeds)
PLAN = {200: (10, 3), 1000: (5, 3)}
LEARNING_RATES = (2e-4, 5e-4)
RANDOM, PACKAGED, ADAPTED = "random weights", "packaged", "packaged, adapted"


def measure(model: Path, data: Path, rows: int, epochs: int, seed: int, rate: float, scratch: bool) -> dict[str, Any]:
    from transformers import HfArgumentParser, TrainingArguments

    from examples import finetune_classification as script

    with tempfile.TemporaryDirectory() as folder:
        arguments = [f"--model={model}", f"--train_file={data / 'train.jsonl'}", f"--eval_file={data / 'dev.jsonl'}"]
        arguments += [f"--output_dir={folder}", f"--max_train_rows={rows}", f"--seed={seed}", "--batch_size=16"]
        arguments += [f"--num_train_epochs={epochs}", f"--learning_rate={rate}", "--warmup_steps=0.1"]
        arguments += ["--max_length=64", "--per_device_eval_batch_size=64", "--save_strategy=no", "--report_to=none"]
        arguments += ["--disable_tqdm=True", "--use_cpu", "--bf16", "--attention=eager"]
        arguments += ["--from_scratch"] if scratch else []
        return script.run(
            *HfArgumentParser((script.Options, TrainingArguments)).parse_args_into_dataclasses(arguments)
        )


def picture(result: dict[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2))
    for name in (RANDOM, PACKAGED, ADAPTED):
        if any(name not in cells for cells in result["rows"].values()):
            continue
        cells = [result["rows"][size][name] for size in result["rows"]]
        sizes = [int(size) for size in result["rows"]]
        axes.plot(sizes, [100 * cell["median_accuracy"] for cell in cells], marker="o", label=name)
        for size, cell in zip(sizes, cells, strict=True):
            axes.scatter([size] * len(cell["accuracies"]), [100 * a for a in cell["accuracies"]], s=8, color="grey")
    axes.axhline(100 * result["majority_accuracy"], linestyle=":", color="black", label="majority")
    axes.set(xscale="log", xlabel="training rows", ylabel="held-out accuracy, %")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--adapted", type=Path, help="the packaged model after pretrain_mlm.py on the reviews")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "finetune_sentiment.json")
    options = parser.parse_args()

    import torch
    import transformers

    from kexue_hf import convert

    result: dict[str, Any] = {
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "rows": {},
    }
    with tempfile.TemporaryDirectory() as folder, resources.as_file(resources.files("kexue_hf") / "assets") as assets:
        packaged = convert(assets / "wobert_tiny", Path(folder) / "tiny", dtype="float32").output
        contenders = {RANDOM: packaged, PACKAGED: packaged}
        if options.adapted is not None:
            contenders[ADAPTED] = options.adapted
        for size, (epochs, seeds) in PLAN.items():
            cells: dict[str, Any] = {}
            for name, model in contenders.items():
                tried = {
                    rate: [
                        measure(model, options.data, size, epochs, seed, rate, scratch=name == RANDOM)
                        for seed in range(seeds)
                    ]
                    for rate in LEARNING_RATES
                }
                rate = max(tried, key=lambda r: statistics.mean(run["accuracy"] for run in tried[r]))
                runs = tried[rate]
                cells[name] = {
                    "epochs": epochs,
                    "learning_rate": rate,
                    "median_accuracy": statistics.median(run["accuracy"] for run in runs),
                    "accuracies": [run["accuracy"] for run in runs],
                    "mean_accuracy": statistics.mean(run["accuracy"] for run in runs),
                    "median_macro_f1": statistics.median(run["macro_f1"] for run in runs),
                    "seconds": [run["seconds"] for run in runs],
                    "all_learning_rates": {str(r): [run["accuracy"] for run in rs] for r, rs in tried.items()},
                }
                result["majority_accuracy"] = runs[0]["majority_accuracy"]
                result["held_out_rows"] = runs[0]["held_out_rows"]
            result["rows"][str(size)] = cells
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["rows"], indent=2))
    if util.find_spec("matplotlib"):
        picture(result, ROOT / "docs" / "finetune_sentiment.svg")


if __name__ == "__main__":
    main()
