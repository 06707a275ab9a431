"""Measure zeroth-order training: the error of its gradients, its peak memory, and a metric before and after.

    python benchmarks/zeroth_order.py --data FOLDER [--parts slope memory drift metric]

slope: relative error of the estimated gradient of a smooth function (the cross entropy of a softmax classifier, in
float64) against the number of directions, fitted on log-log axes. memory: peak resident size of fresh processes with a
base-size encoder, of which all weights are changed. drift: weights after estimates without
copies against their values before. metric: FOLDER has train.jsonl and dev.jsonl (`text`, `label`). The packaged tiny
WoBERT is fine-tuned with cross entropy on all training rows but the last 2,000; its classifier, on the frozen
encoder's vectors, is then trained with macro-F1 itself on those 2,000, with the default options, and measured on
dev.jsonl. (The defaults were chosen among nine settings with a look at those rows.) Cross entropy on the same 2,000
vectors, with as many steps, is the comparison; both of its rates are reported.

Writes results/zeroth_order.json after each part. Two processes may measure different parts at the same time.
"""

import argparse
import contextlib
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from measuring import BASE_SIZES, json_lines, machine, mean_and_error, read_result, summary, write_result

PARTS = ("slope", "memory", "drift", "metric")
DIRECTIONS, REPETITIONS = (16, 64, 256, 1024, 4096), 5
BATCH, LENGTH, MEMORY_REPETITIONS = 8, 128, 2
DRIFT_ESTIMATES = 1000
SEEDS, KEPT_ROWS, STEPS = 5, 2000, 200
# Fine-tuning of the encoder, and the rates of cross entropy on the vectors.
EPOCHS, RATE, HEAD_RATES = 2, 1e-3, (1e-3, 1e-2)


def slope() -> dict[str, Any]:
    """Return the relative error for each number of directions, and the fitted slope."""
    import torch
    from torch.nn import functional

    from kexue_hf.trainers.zeroth_order_gradient import direction_seed, slopes, zeroth_order_gradient

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 16, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (64,), generator=generator)
    weight = torch.randn(5, 16, generator=generator, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(functional.cross_entropy(x @ weight.T, labels), weight)
    flat = weight.detach()

    def error(number: int, repetition: int) -> float:
        found = slopes(
            lambda: float(functional.cross_entropy(x @ flat.T, labels)),
            [flat],
            [direction_seed(repetition, 0, one) for one in range(number)],
            1e-4,
        )
        (estimate,) = zeroth_order_gradient([flat], found)
        return float((estimate - exact).norm() / exact.norm())

    errors = {number: [error(number, one) for one in range(REPETITIONS)] for number in DIRECTIONS}
    means = [math.sqrt(np.mean(np.square(values))) for values in errors.values()]
    return {
        "weights": flat.numel(),
        "repetitions": REPETITIONS,
        "relative error": {
            str(number): {"measured": round(mean, 4), "sqrt((weights + 1) / directions)": round(root, 4)}
            for number, mean in zip(DIRECTIONS, means, strict=True)
            for root in [math.sqrt((flat.numel() + 1) / number)]
        },
        "slope on log-log axes": round(float(np.polyfit(np.log(DIRECTIONS), np.log(means), 1)[0]), 3),
    }


def peak(kind: str) -> float:
    """Run inference, zeroth-order or gradient steps; return the peak resident size of this process in MB."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    from kexue_hf import ZerothOrderOptions, ZerothOrderTrainer

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=15, **BASE_SIZES))
    row = {"input_ids": torch.arange(LENGTH) + 1000, "attention_mask": torch.ones(LENGTH, dtype=torch.long)}
    data = [{**row, "labels": number % 15} for number in range(2 * BATCH)]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            folder, max_steps=2, per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, use_cpu=True,
            report_to="none", disable_tqdm=True, save_strategy="no", optim="adamw_torch" if "AdamW" in kind else "sgd",
        )  # fmt: skip
        if kind == "inference":
            Trainer(model, arguments).predict(data)
        elif kind.startswith("zeroth order"):
            options = ZerothOrderOptions(directions=1, momentum=0.9 if "momentum" in kind else 0.0)
            ZerothOrderTrainer(model, arguments, train_dataset=data, options=options).train()
        else:
            Trainer(model, arguments, train_dataset=data).train()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> dict[str, Any]:
    """Return the peaks of fresh processes."""
    kinds = ("inference", "zeroth order", "zeroth order, momentum", "backpropagation, SGD", "backpropagation, AdamW")
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(MEMORY_REPETITIONS):
        for kind in kinds:
            command = [sys.executable, __file__, "--peak", kind]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[kind].append(float(out.splitlines()[-1]))
    peaks = {kind: summary(values, 0) for kind, values in found.items()}
    inference = peaks["inference"]["median"]
    return {
        "network": {**BASE_SIZES, "batch": [BATCH, LENGTH]},
        "peak RSS in MB": peaks,
        "times inference": {kind: round(one["median"] / inference, 3) for kind, one in peaks.items()},
    }


def drift() -> dict[str, Any]:
    """Return how far weights are from their values after estimates that are undone by subtraction."""
    import torch

    from kexue_hf.trainers.zeroth_order_gradient import slopes

    torch.manual_seed(0)
    weights = torch.randn(100_000) * 0.04
    before = weights.clone()
    slopes(lambda: 0.0, [weights], range(DRIFT_ESTIMATES), 1e-3)
    change = (weights - before).abs()
    return {
        "estimates": DRIFT_ESTIMATES,
        "standard deviation of the weights": 0.04,
        "epsilon": 1e-3,
        "root mean square change": float(change.square().mean().sqrt()),
        "largest change": float(change.max()),
    }


def macro_f1(outputs: Any, labels: Any) -> float:
    """Return the mean F1 of the classes that occur in labels or guesses."""
    guesses = outputs["logits"].argmax(-1)
    classes = outputs["logits"].shape[-1]
    hits = labels[guesses == labels].bincount(minlength=classes)
    both = labels.bincount(minlength=classes) + guesses.bincount(minlength=classes)
    return float((2 * hits / both.clamp(min=1))[both > 0].mean())


def encoded(data: Path, folder: Path, seed: int) -> tuple[Any, dict[str, tuple[Any, Any]]]:
    """Fine-tune the tiny encoder; return its classifier, and its vectors and labels of the kept-out and dev rows."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    from kexue_hf import convert

    model_folder = folder / "tiny"
    if not model_folder.exists():
        with resources.as_file(resources.files("kexue_hf") / "assets") as assets:
            convert(assets / "wobert_tiny", model_folder, dtype="float32")
    rows = {part: json_lines(data / f"{part}.jsonl") for part in ("train", "dev")}
    names = sorted({row["label"] for row in rows["train"]})
    order = np.random.default_rng(seed).permutation(len(rows["train"]))
    rows["train"] = [rows["train"][number] for number in order]
    rows["kept"] = rows["train"][-KEPT_ROWS:]
    rows["train"] = rows["train"][:-KEPT_ROWS]
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    sets = {
        part: Dataset.from_dict(
            {
                **tokenizer([row["text"] for row in some], truncation=True, max_length=64),
                "labels": [names.index(row["label"]) for row in some],
            }
        )
        for part, some in rows.items()
    }
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_folder, num_labels=len(names), classifier_pooling="mean"
    )
    arguments = TrainingArguments(
        str(folder / "ce"), num_train_epochs=EPOCHS, per_device_train_batch_size=32, learning_rate=RATE, seed=seed,
        warmup_steps=0.1, train_sampling_strategy="group_by_length", use_cpu=True, report_to="none", disable_tqdm=True,
        save_strategy="no", logging_strategy="no", per_device_eval_batch_size=64,
    )  # fmt: skip
    vectors: list[Any] = []
    trainer = Trainer(model, arguments, train_dataset=sets["train"], data_collator=DataCollatorWithPadding(tokenizer))
    trainer.train()
    model.classifier.register_forward_pre_hook(lambda module, inputs: vectors.append(inputs[0].detach()))
    found = {}
    for part in ("kept", "dev"):
        vectors.clear()
        # Trainer also groups these rows by length, so the labels come from it too.
        labels = trainer.predict(sets[part]).label_ids
        found[part] = (torch.cat(vectors), torch.tensor(labels))
    return model.classifier, found


def train_head(head: Any, rows: tuple[Any, Any], folder: Path, seed: int, rate: float | None) -> Any:
    """Return a copy of the classifier, trained with macro-F1 on vectors; with cross entropy if there is a rate."""
    import copy

    import torch
    from torch import nn
    from transformers import Trainer, TrainingArguments

    from kexue_hf import ZerothOrderTrainer

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = copy.deepcopy(head)
            self.classifier._forward_pre_hooks.clear()

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.classifier(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    model = Head()
    arguments = TrainingArguments(
        str(folder / "head"), max_steps=STEPS, per_device_train_batch_size=KEPT_ROWS, seed=seed, use_cpu=True,
        report_to="none", disable_tqdm=True, save_strategy="no", logging_strategy="no", remove_unused_columns=False,
        learning_rate=rate or 0.0,
    )  # fmt: skip
    data = [{"x": x, "labels": label} for x, label in zip(*rows, strict=True)]
    if rate is None:
        ZerothOrderTrainer(model, arguments, train_dataset=data, objective=macro_f1).train()
    else:
        Trainer(model, arguments, train_dataset=data).train()
    return model.classifier


def metric(data: Path) -> dict[str, Any]:
    """Return macro-F1 and accuracy on the held-out rows, before and after."""
    import torch

    figures: dict[str, dict[str, list[float]]] = {}

    def note(name: str, head: Any, vectors: dict[str, tuple[Any, Any]]) -> None:
        for part, (x, labels) in vectors.items():
            with torch.no_grad():
                logits = torch.nn.functional.linear(x, head.weight, head.bias)
            row = figures.setdefault(name, {})
            row.setdefault(f"macro-F1, {part}", []).append(macro_f1({"logits": logits}, labels))
            row.setdefault(f"accuracy, {part}", []).append(float((logits.argmax(-1) == labels).float().mean()))

    with tempfile.TemporaryDirectory() as name:
        for seed in range(SEEDS):
            with contextlib.redirect_stdout(io.StringIO()):
                head, vectors = encoded(data, Path(name), seed)
                note("cross entropy", head, vectors)
                note("then zeroth order, macro-F1", train_head(head, vectors["kept"], Path(name), seed, None), vectors)
                for rate in HEAD_RATES:
                    trained = train_head(head, vectors["kept"], Path(name), seed, rate)
                    note(f"then cross entropy, rate {rate:g}", trained, vectors)
            print({name: round(row["macro-F1, dev"][-1], 4) for name, row in figures.items()}, flush=True)
    before = figures["cross entropy"]

    def gain(row: dict[str, list[float]], name: str) -> dict[str, Any]:
        return spread([after - first for after, first in zip(row[name], before[name], strict=True)])

    def spread(values: list[float]) -> dict[str, Any]:
        mean, error = mean_and_error(values)
        return {"mean": mean, "standard error": error, "all": [round(value, 4) for value in values]}

    return {
        "seeds": SEEDS,
        "rows": {"fine-tuning": "all training rows but the next", "classifier": KEPT_ROWS},
        "steps": STEPS,
        "contenders": {
            name: {
                **{figure: spread(values) for figure, values in row.items()},
                "gain in macro-F1, dev": gain(row, "macro-F1, dev"),
            }
            for name, row in figures.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train.jsonl and dev.jsonl, for the metric")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()

    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if options.peak:
        print(peak(options.peak))
        return
    if "metric" in options.parts and options.data is None:
        parser.error("--data is needed for the metric")
    measure: dict[str, Callable[[], dict[str, Any]]] = {
        "slope": slope,
        "memory": memory,
        "drift": drift,
        "metric": lambda: metric(options.data),
    }
    for part in options.parts:
        found = measure[part]()
        # Read again: another process may have measured another part.
        result = {**read_result("zeroth_order"), "machine": machine("torch", "transformers"), part: found}
        write_result("zeroth_order", result)
        print(part, json.dumps(found, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
