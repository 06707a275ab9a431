"""Which loss for uneven classes? All of them on real data with the packaged tiny WoBERT, three seeds.

    python benchmarks/imbalance.py --data FOLDER [--only TASK ...]

FOLDER has tnews/ and iflytek/, each with train.jsonl and dev.jsonl (objects with `text` and `label`). Tasks: tnews
unchanged (15 classes, 24:1), tnews cut by a seed so that the classes fall geometrically to 100:1, and iflytek (119
classes; held-out rows of classes without training rows are left out). examples/imbalance.py trains and evaluates: the
same encoder, rows, steps and learning rate for all losses. Writes results/imbalance.json after each task, and
docs/imbalance.svg of the cut tnews.
"""

import argparse
import json
import random
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from measuring import ROOT, json_lines, machine, read_result, write_result

RATE, BATCH = 1e-3, 32
# data set, training rows (by a seed), epochs, tokens per text, ratio of largest to smallest class (None: unchanged)
TASKS: dict[str, tuple[str, int, int, int, int | None]] = {
    "tnews cut to 100:1": ("tnews", 10_000, 4, 40, 100),
    "tnews, 24:1": ("tnews", 3_000, 4, 40, None),
    "iflytek, 119 classes": ("iflytek", 10_000, 6, 48, None),
}


def rows_of(path: Path) -> list[dict[str, str]]:
    return json_lines(path)


def cut(rows: list[dict[str, str]], ratio: int, seed: int = 0) -> list[dict[str, str]]:
    """Keep, by a seed, geometrically fewer rows of each class in the order of their sizes, from all to 1 / ratio."""
    counts = Counter(row["label"] for row in rows).most_common()
    largest = counts[0][1]
    kept: list[dict[str, str]] = []
    generator = random.Random(seed)
    for place, (label, count) in enumerate(counts):
        wanted = max(1, round(largest * ratio ** (-place / (len(counts) - 1))))
        mine = [row for row in rows if row["label"] == label]
        kept += generator.sample(mine, min(count, wanted))
    generator.shuffle(kept)
    return kept


def write(rows: list[dict[str, str]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def measure(task: str, data: Path, model: Path, seeds: int, folder: Path) -> dict[str, Any]:
    from transformers import HfArgumentParser, TrainingArguments

    from examples import imbalance

    name, most, epochs, length, ratio = TASKS[task]
    train, dev = rows_of(data / name / "train.jsonl"), rows_of(data / name / "dev.jsonl")
    train = cut(train, ratio) if ratio else random.Random(0).sample(train, min(most, len(train)))
    counts = Counter(row["label"] for row in train)
    dev = [row for row in dev if row["label"] in counts]
    files = [f"--train_file={write(train, folder / 'train.jsonl')}", f"--eval_file={write(dev, folder / 'dev.jsonl')}"]
    options, arguments = HfArgumentParser((imbalance.Options, TrainingArguments)).parse_args_into_dataclasses([
        f"--model={model}", *files, f"--output_dir={folder / 'out'}", f"--seeds={seeds}", f"--learning_rate={RATE}",
        f"--num_train_epochs={epochs}", f"--max_length={length}", f"--per_device_train_batch_size={BATCH}",
        "--per_device_eval_batch_size=64", "--warmup_steps=0.1", "--classifier_pooling=mean",
        "--use_cpu",
        "--save_strategy=no", "--report_to=none", "--disable_tqdm=True", "--logging_strategy=no",
        "--train_sampling_strategy=group_by_length",
    ])  # fmt: skip
    found = imbalance.compare(options, arguments)
    if ratio:
        imbalance.draw(found, ROOT / "docs" / "imbalance.svg")
    return {
        "training rows": len(train),
        "held-out rows": len(dev),
        "classes": len(counts),
        "largest to smallest class": round(max(counts.values()) / min(counts.values())),
        "epochs": epochs,
        "losses": {
            loss: {
                figure: {
                    "mean": round(statistics.mean(values), 4),
                    "standard deviation": round(statistics.stdev(values), 4),
                    "all": values,
                }
                for figure, values in figures.items()
            }
            for loss, figures in found.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    from kexue_hf import convert

    result: dict[str, Any] = {
        **read_result("imbalance"),
        "machine": machine("torch", "transformers"),
        "setting": {"learning rate": RATE, "batch": BATCH, "seeds": options.seeds, "model": "wobert_tiny"},
    }
    result.setdefault("tasks", {})
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", folder / "model", dtype="float32")
        for task in options.only:
            print(task)
            result["tasks"][task] = measure(task, options.data, folder / "model", options.seeds, folder)
            write_result("imbalance", result)


if __name__ == "__main__":
    main()
