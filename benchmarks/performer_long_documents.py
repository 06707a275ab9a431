"""Classify long documents with softmax on cut texts, softmax on whole texts, and linear attention on whole texts.

    python benchmarks/performer_long_documents.py --apps FOLDER [--text FILE]

FOLDER has train.jsonl and dev.jsonl, objects with `text` and `label` (IFLYTEK: descriptions of apps, 119 classes of
uneven size); FILE is .jsonl with `text`, or plain text. Classes with one description are left out; the rest is split
again, two to one within each class. examples/finetune_classification.py fine-tunes the packaged tiny WoBERT as a
Performer BERT with mean pooling. All contenders have the same initial weights, rows, order, steps and learning rate
(chosen once, beforehand). They differ in how much of a text they read, and in their attention.

"joined": contenders trained on single descriptions read longer documents than any in training: held-out descriptions
of one class, joined in random order to 2,000 tokens or more. Only classes with enough descriptions are included, and a
description is in several documents: this tests reading beyond the training length, not a real task.

The script also measures the time of one document, forward and with backward, by its length; and the time and peak
memory of one text of 16,000 tokens in an encoder of BERT's base size with random weights (which take as long), each
attention in a separate process. All times, including training, are processor time of --threads threads divided by
their number.

Writes results/performer_long_documents.json after each part, and docs/performer_long_documents.svg.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from drawing import picture_of
from measuring import ROOT, interleave, machine, summary, write_result

NAME = "performer_long_documents"
SOFTMAX = 10**6  # a switch length longer than any text
LINEAR = 0
EPOCHS, BATCH, RATE, LONGEST = 3, 16, 1e-3, 1024
CALIBRATED = 32
# Options of the example; below, for joined documents: (trained contender, tokens, switch length).
CONTENDERS: dict[str, dict[str, int]] = {
    "softmax, 128 tokens": {"max_length": 128, "switch_length": SOFTMAX},
    "softmax, whole text": {"max_length": LONGEST, "switch_length": SOFTMAX},
    "linear, whole text": {"max_length": LONGEST, "switch_length": LINEAR},
    "linear, calibrated, whole text": {"max_length": LONGEST, "switch_length": LINEAR, "calibrate": CALIBRATED},
}
READINGS: dict[str, tuple[str, int, int]] = {
    "softmax, 128 tokens": ("softmax, 128 tokens", 128, SOFTMAX),
    "softmax, 512 tokens": ("softmax, whole text", 512, SOFTMAX),
    "softmax, whole text": ("softmax, whole text", 4096, SOFTMAX),
    "trained with softmax, read by linear, whole text": ("softmax, whole text", 4096, LINEAR),
    "linear, whole text": ("linear, whole text", 4096, LINEAR),
    "linear, calibrated, whole text": ("linear, calibrated, whole text", 4096, LINEAR),
}
JOINED = (2000, 4)  # minimum of tokens; maximum of documents per class
LENGTHS = {128: 7, 256: 7, 512: 5, 1024: 5, 2048: 3, 4096: 3, 8192: 3, 16_000: 3}
WITH_BACKWARD = 4096
BASE = {
    "vocab_size": 8000,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
LONG_TEXT, READS = 16_000, 2


def divide(apps: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return training and held-out rows: a third (at least one) of every class of two or more is held out."""
    classes = defaultdict(list)
    for part in ("train", "dev"):
        with open(apps / f"{part}.jsonl", encoding="utf-8") as file:
            for row in map(json.loads, file):
                classes[str(row["label"])].append({"text": row["text"], "label": str(row["label"])})
    generator = np.random.default_rng(0)
    train, held_out = [], []
    for label in sorted(classes):
        rows = [classes[label][i] for i in generator.permutation(len(classes[label]))]
        if len(rows) >= 2:
            kept = max(1, round(len(rows) / 3))
            held_out += rows[:kept]
            train += rows[kept:]
    return [train[i] for i in generator.permutation(len(train))], held_out


def join(rows: list[dict[str, str]], count_tokens: Callable[[str], int]) -> list[dict[str, str]]:
    """Return documents of one class of at least this many tokens, from shuffled rows; no row twice in one document."""
    classes = defaultdict(list)
    for row in rows:
        classes[row["label"]].append((row["text"], count_tokens(row["text"])))
    generator = np.random.default_rng(1)
    documents = []
    least, number = JOINED
    for label, texts in sorted(classes.items()):
        whole = sum(length for _, length in texts)
        # At most twice the text of the class: documents of the same rows would repeat one observation.
        for _ in range(min(number, 2 * whole // least) if whole >= least else 0):
            chosen, length = [], 0
            for i in generator.permutation(len(texts)):
                chosen.append(texts[i][0])
                length += texts[i][1]
                if length >= least:
                    break
            documents.append({"text": "\n".join(chosen), "label": label})
    return documents


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def example(arguments: list[str]) -> dict[str, Any]:
    """Run the example's `run` without output, in float32, with the options that all contenders share."""
    from transformers import HfArgumentParser, TrainingArguments

    from examples import finetune_classification

    common = [f"--batch-size={BATCH}", "--use_cpu", "--save_strategy=no", "--classifier_pooling=mean"]
    common += ["--train_sampling_strategy=group_by_length", "--report_to=none", "--disable_tqdm=True"]
    common += ["--logging_strategy=no", f"--learning_rate={RATE}", f"--num_train_epochs={EPOCHS}"]
    common += ["--warmup_steps=0.1", "--per_device_eval_batch_size=16", "--linear_attention"]
    parser = HfArgumentParser((finetune_classification.Options, TrainingArguments))
    import torch

    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        found = finetune_classification.run(*parser.parse_args_into_dataclasses([*arguments, *common]))
    # The example reports wall time.
    return {**found, "seconds": (time.process_time() - start) / torch.get_num_threads()}


def read(folder: Path, documents: Path, tokens: int, switch: int) -> dict[str, Any]:
    """Evaluate a trained classifier on other documents with Trainer; return its figures and seconds per document."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from examples.finetune_classification import measures, read_rows

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, attention_switch_length=switch)
    rows = read_rows(str(documents), "text", "label")
    data = Dataset.from_dict(
        {
            **tokenizer([row["text"] for row in rows], truncation=True, max_length=tokens),
            "labels": [model.config.label2id[row["label"]] for row in rows],
        }
    )
    with tempfile.TemporaryDirectory() as output:
        arguments = TrainingArguments(
            output, use_cpu=True, report_to="none", disable_tqdm=True, per_device_eval_batch_size=4
        )
        trainer = Trainer(model, arguments, DataCollatorWithPadding(tokenizer), processing_class=tokenizer)
        start = time.process_time()
        found = trainer.predict(data)
        seconds = (time.process_time() - start) / torch.get_num_threads()
    figures = measures(found.predictions.argmax(-1), found.label_ids, len(model.config.label2id))
    return {**figures, "seconds a document": seconds / len(rows)}


def collected(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over the seeds, and all values."""
    return {
        name: {"mean": round(statistics.mean(run[name] for run in runs), 4), "all": [round(r[name], 4) for r in runs]}
        for name in runs[0]
    }


def bag_of_characters(train: list[dict[str, str]], parts: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    """Return accuracy and macro F1 of tf-idf and a logistic regression, fitted once, on each part."""
    from bag_of_words import predictions

    from examples.finetune_classification import label_names, measures

    names = label_names([dict(row) for row in train])
    ids = {name: number for number, name in enumerate(names)}
    texts = [[list(map(ord, row["text"])) for row in rows] for rows in (train, *parts.values())]
    found = predictions(texts[0], [ids[row["label"]] for row in train], *texts[1:])
    return {
        part: measures(np.array(predicted), np.array([ids[row["label"]] for row in rows]), len(names))
        for (part, rows), predicted in zip(parts.items(), found, strict=True)
    }


def majority(train: list[dict[str, str]], parts: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    from examples.finetune_classification import label_names, measures

    names = label_names([dict(row) for row in train])
    commonest = names.index(Counter(row["label"] for row in train).most_common(1)[0][0])
    return {
        part: measures(
            np.full(len(rows), commonest), np.array([names.index(row["label"]) for row in rows]), len(names)
        )
        for part, rows in parts.items()
    }


def time_of(work: Callable[[], Any], threads: int) -> float:
    """Return the processor seconds of a call per thread, which other work on the machine does not change."""
    start = time.process_time()
    work()
    return (time.process_time() - start) / threads


def speed(model: Any, ids: Any, threads: int, lengths: dict[int, int]) -> dict[str, Any]:
    """Return the seconds of one document by its length, forward and with backward, with either attention."""
    import torch

    def forward(tokens: Any, switch: int) -> float:
        model.config.attention_switch_length = switch
        model.eval()
        with torch.no_grad():
            return time_of(lambda: model(tokens), threads)

    def both(tokens: Any, switch: int) -> float:
        model.config.attention_switch_length = switch
        model.train()
        model.zero_grad()
        return time_of(lambda: model(tokens, labels=torch.zeros(1, dtype=torch.long)).loss.backward(), threads)

    cells: dict[str, Any] = {}
    for length, repetitions in lengths.items():
        tokens = ids[None, :length]
        cells[str(length)] = {}
        for name, work in (("forward", forward), ("forward and backward", both)):
            if work is both and length > WITH_BACKWARD:
                continue
            contenders = {"softmax": partial(work, tokens, SOFTMAX), "linear": partial(work, tokens, LINEAR)}
            if length <= 2048:
                interleave(contenders, 1)
            measured = {key: summary(values, 5) for key, values in interleave(contenders, repetitions).items()}
            times = measured["softmax"]["median"] / measured["linear"]["median"]
            cells[str(length)][name] = {"seconds": measured, "softmax / linear": round(times, 2)}
        print(length, cells[str(length)], flush=True)
    return cells


def read_long_text(ids_file: Path, switch: int) -> None:
    """Print the seconds and the peak memory in MB of one forward pass at BERT's base size; run in a new process."""
    import resource

    import torch

    from kexue_hf import PerformerBertConfig, PerformerBertModel

    torch.manual_seed(0)
    ids = torch.tensor(json.loads(ids_file.read_text()))[None]
    model = PerformerBertModel(
        PerformerBertConfig(**BASE, attention_switch_length=switch, attn_implementation="sdpa"), False
    ).eval()
    threads = torch.get_num_threads()
    with torch.no_grad():
        model(ids[:, :64])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = time_of(lambda: model(ids), threads)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak MB": after / 1024, "MB before": before / 1024}))


def long_text(ids: Any, threads: int, folder: Path, length: int, reads: int) -> dict[str, Any]:
    """Return the seconds and peak memory of one text at BERT's base size, interleaved, each in a new process."""
    file = folder / "ids.json"
    file.write_text(json.dumps(ids[:length].tolist()))

    def run(switch: int) -> dict[str, float]:
        command = [sys.executable, __file__, "--threads", str(threads), "--read", str(file), str(switch)]
        found: dict[str, float] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
        return found

    runs: dict[str, list[dict[str, float]]] = {"softmax": [], "linear": []}
    for _ in range(reads):
        for name, switch in (("softmax", SOFTMAX), ("linear", LINEAR)):
            runs[name].append(run(switch))
            print(name, runs[name][-1], flush=True)
    cells = {name: {key: summary([run[key] for run in found], 1) for key in found[0]} for name, found in runs.items()}
    times = cells["softmax"]["seconds"]["median"] / cells["linear"]["seconds"]["median"]
    return {"tokens": length, "size": BASE, **cells, "softmax / linear, seconds": round(times, 2)}


def tokens_of(path: Path | None, apps: Path, tokenizer: Any, count: int) -> Any:
    """Return the ids of this many tokens of running text."""
    import torch

    with open(path or apps / "train.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] if line.startswith("{") else line for line in file]
    ids: list[int] = []
    for text in texts:
        ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= count:
            return torch.tensor(ids[:count])
    raise SystemExit(f"{path or apps}: expected {count} tokens, found {len(ids)}")


def picture(result: dict[str, Any], path: Path) -> None:
    """Draw the time of one document by its length, and the accuracies."""
    with picture_of(path, (9, 3.4), 2) as (left, right):
        for name, colour in (("softmax", "0.5"), ("linear", "tab:blue")):
            for kind, style in (("forward", "-"), ("forward and backward", ":")):
                cells = {int(n): cell[kind] for n, cell in result["seconds of a document"].items() if kind in cell}
                medians = [cell["seconds"][name]["median"] for cell in cells.values()]
                left.loglog(
                    list(cells), medians, style, color=colour, marker="o", markersize=3, label=f"{name}, {kind}"
                )
        left.set(xlabel="tokens of a document", ylabel="seconds", title="one document, tiny WoBERT")
        left.legend(frameon=False, fontsize=7)
        rows = [
            *((f"{name}, baseline", cells) for name, cells in result["baselines"].items()),
            *((name, cells) for name, cells in result["joined"]["contenders"].items()),
        ]
        for place, (_, cells) in enumerate(reversed(rows)):
            value = (
                cells["accuracy"]["mean"] if isinstance(cells.get("accuracy"), dict) else cells["joined"]["accuracy"]
            )
            right.text(100 * value + 1, place, f"{100 * value:.1f}", fontsize=7, va="center")
            right.barh(place, 100 * value, color="tab:blue" if "linear" in rows[len(rows) - 1 - place][0] else "0.7")
        right.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)], fontsize=7)
        right.set(xlim=(0, 110), xlabel="accuracy, %")
        right.set_title("documents of 2,000 tokens and more, joined", fontsize=10)


def keep(result: dict[str, Any], quick: bool) -> None:
    if not quick:
        write_result(NAME, result)
    if not quick and "seconds of a document" in result:
        picture(result, ROOT / "docs" / f"{NAME}.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", type=Path, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--text", type=Path, help="running text for the times; the apps' text by default")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--reads", type=int, default=READS, help="readings of the text of 16,000 tokens; 0 leaves it out"
    )
    parser.add_argument("--quick", action="store_true", help="few rows and short texts; write nothing")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if options.read:
        read_long_text(Path(options.read[0]), int(options.read[1]))
        return
    if options.apps is None:
        parser.error("--apps is needed")

    from transformers import AutoTokenizer

    from kexue_hf import PerformerBertForSequenceClassification, convert

    with (
        tempfile.TemporaryDirectory() as temporary,
        resources.as_file(resources.files("kexue_hf") / "assets") as assets,
    ):
        folder = Path(temporary)
        model = convert(assets / "wobert_tiny", folder / "tiny", dtype="float32").output
        tokenizer = AutoTokenizer.from_pretrained(model, model_max_length=10**9)

        def count_tokens(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

        train, held_out = divide(options.apps)
        joined = join(held_out, count_tokens)
        if options.quick:
            labels = {row["label"] for row in train[:64]}
            train, held_out = train[:64], [row for row in held_out if row["label"] in labels][:16]
            joined = [row for row in joined if row["label"] in labels][:3]
        lengths = {
            part: [count_tokens(row["text"]) for row in rows]
            for part, rows in (("held-out", held_out), ("joined", joined))
        }
        files = {
            part: write_rows(folder / f"{part}.jsonl", rows)
            for part, rows in (("train", train), ("held-out", held_out), ("joined", joined))
        }
        parts = {"held-out": held_out, "joined": joined}
        result: dict[str, Any] = {
            "what": "a classifier of documents, by how much it reads and by which attention; means over seeds",
            "machine": machine("torch", "transformers", "datasets"),
            "threads": options.threads,
            "settings": {"epochs": EPOCHS, "batch": BATCH, "learning rate": RATE, "classifier_pooling": "mean"},
            "data": {
                "train": len(train),
                "classes": len({row["label"] for row in train}),
                **{
                    part: {
                        "documents": len(rows),
                        "classes": len({row["label"] for row in rows}),
                        "tokens, median": int(statistics.median(lengths[part])),
                        "tokens, most": max(lengths[part]),
                    }
                    for part, rows in parts.items()
                },
            },
            "baselines": {
                "commonest class": majority(train, parts),
                "bag of characters": bag_of_characters(train, parts),
            },
        }
        print(json.dumps(result["data"]), json.dumps(result["baselines"]), flush=True)

        runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        readings: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for seed in range(options.seeds):
            for name, settings in CONTENDERS.items():
                output = folder / f"{name}, {seed}"
                arguments = [f"--model={model}", f"--train_file={files['train']}", f"--eval_file={files['held-out']}"]
                arguments += [f"--output_dir={output}", f"--seed={seed}"]
                found = example(arguments + [f"--{key}={value}" for key, value in settings.items()])
                runs[name].append({key: found[key] for key in ("accuracy", "macro_f1", "seconds")})
                print(seed, name, runs[name][-1], flush=True)
            for name, (trained, tokens, switch) in READINGS.items():
                readings[name].append(read(folder / f"{trained}, {seed}", files["joined"], tokens, switch))
                print(seed, "joined:", name, readings[name][-1], flush=True)
            result["seeds"] = seed + 1
            result["held-out"] = {"contenders": {name: collected(found) for name, found in runs.items()}}
            result["joined"] = {"contenders": {name: collected(found) for name, found in readings.items()}}
            keep(result, options.quick)

        ids = tokens_of(options.text, options.apps, tokenizer, 600 if options.quick else LONG_TEXT)
        classifier = PerformerBertForSequenceClassification.from_pretrained(
            model, classifier_pooling="mean", num_labels=result["data"]["classes"], attn_implementation="sdpa"
        )
        result["seconds of a document"] = speed(
            classifier, ids, options.threads, {128: 1, 512: 1} if options.quick else LENGTHS
        )
        keep(result, options.quick)
        size = (600, 1) if options.quick else (LONG_TEXT, options.reads)
        if options.reads:
            result["long text"] = long_text(ids, options.threads, folder, *size)
        keep(result, options.quick)


if __name__ == "__main__":
    main()
