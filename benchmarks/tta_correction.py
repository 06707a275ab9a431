"""Spelling correction without a single wrong sentence to learn from, on SIGHAN's data: a T-TA, and what is trivial.

    python benchmarks/tta_correction.py --data csc --text zh_text/train.jsonl --model tta_small [--model mlm_small]

DATA has train.jsonl and dev.jsonl: objects with `source` and `target` of one length. TEXT has objects with `text`; it
gives the counts of the bigram baseline. A model that needs a pass a token (any but a T-TA) is measured on
--masking_rows of the dev rows only, beside the T-TA on the same rows.

The threshold of each contender is chosen on --train_rows rows of train: the best F1 of corrected characters on the
sources and the targets together, so that half of the sentences are without errors. Nothing is chosen on dev. Reported
on dev: the counts there (see kexue_hf/correction_metrics.py); and, since nearly all its sentences have errors, in how
many of its *targets* something is changed.

Writes benchmarks/results/tta_correction.json and docs/tta_correction.svg. Four minutes on one core.
"""

import argparse
import dataclasses
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from measuring import machine, write_result  # noqa: E402 (found by the line above)

from kexue_hf import Confusion, CorrectionMetrics  # noqa: E402
from kexue_hf.pipelines.confusion import is_han  # noqa: E402

# From what is hardly more probable to what is sure.
GRID = [step / 2 for step in range(33)]
KINDS = {
    "same sound": ("sound",),
    "same or near sound": ("sound", "near_sound"),
    "similar shape": ("shape",),
    "sound or shape": ("sound", "near_sound", "shape"),
}
BEST, ANY = "sound or shape", "top-k"
AT_A_TIME = 256
# Of each text: where something may be put, what, and by how much it is more probable.
Changes = list[tuple[float, int, str]]


class Bigrams:
    """p(character | the one before) p(the one after | character), from counts with `added` for what was never seen."""

    added = 0.05

    def __init__(self, path: Path, confusion: Confusion) -> None:
        self.confusion = confusion
        self.pairs: Counter[str] = Counter()
        self.singles: Counter[str] = Counter()
        with path.open(encoding="utf-8") as file:
            for line in file:
                text = f"\n{json.loads(line)['text']}\n"
                self.singles.update(text)
                self.pairs.update(text[place : place + 2] for place in range(len(text) - 1))

    def score(self, before: str, char: str, after: str) -> float:
        size = len(self.singles)
        left = (self.pairs[before + char] + self.added) / (self.singles[before] + self.added * size)
        right = (self.pairs[char + after] + self.added) / (self.singles[char] + self.added * size)
        return math.log(left) + math.log(right)

    def __call__(self, texts: Sequence[str]) -> list[Changes]:
        found = []
        for text in texts:
            changes: Changes = []
            framed = f"\n{text}\n"
            for place, (before, char, after) in enumerate(zip(framed, framed[1:], framed[2:], strict=False)):
                scores = {
                    other: self.score(before, other, after) - cost
                    for other, cost in (self.confusion(char) if is_han(char) else {}).items()
                    if self.singles[other]
                }
                if scores:
                    best, value = max(scores.items(), key=lambda pair: pair[1])
                    changes.append((value - self.score(before, char, after), place, best))
            found.append([change for change in changes if change[0] > GRID[0]])
        return found


def by_kinds(corrector: Any, texts: Sequence[str]) -> dict[str, list[Changes]]:
    """The changes of each kind of candidates, from one pass: the corrector keeps all of its candidates."""
    confusions = {name: Confusion.of_kinds(*kinds) for name, kinds in KINDS.items()}
    costs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in KINDS}
    found: dict[str, list[Changes]] = {name: [] for name in KINDS}
    for start in range(0, len(texts), AT_A_TIME):
        for proposals in corrector.propose(texts[start : start + AT_A_TIME], above=GRID[0]):
            for name, confusion in confusions.items():
                changes: Changes = []
                for one in proposals:
                    if one.original not in costs[name]:
                        costs[name][one.original] = confusion(one.original)
                    allowed = costs[name][one.original]
                    gains = {
                        text: log_prob - one.log_prob - allowed[text]
                        for text, log_prob, _ in one.candidates
                        if text in allowed
                    }
                    best, gain = max(gains.items(), key=lambda pair: pair[1], default=("", 0.0))
                    if gain > GRID[0]:
                        changes.append((gain, one.start, best))
                found[name].append(changes)
    return found


def by_model(corrector: Any, texts: Sequence[str]) -> list[Changes]:
    return [
        [(one.gain, one.start, one.replacement) for one in proposals]
        for proposals in corrector.propose(texts, above=GRID[0])
    ]


def applied(text: str, changes: Changes, threshold: float) -> str:
    letters = list(text)
    for gain, start, replacement in changes:
        if gain > threshold:
            letters[start : start + len(replacement)] = replacement
    return "".join(letters)


def counted(rows: Sequence[tuple[str, str]], changes: Sequence[Changes], threshold: float) -> dict[str, Any]:
    metrics = CorrectionMetrics()
    for (source, target), made in zip(rows, changes, strict=True):
        metrics.add(source, target, applied(source, made, threshold))
    return metrics.to_dict()


@dataclasses.dataclass(frozen=True)
class Split:
    """Rows for the threshold, rows to measure on, and the latter's targets as they are read: all as sources."""

    train: list[tuple[str, str]]
    dev: list[tuple[str, str]]

    @property
    def texts(self) -> tuple[list[str], list[str], list[str]]:
        return [s for s, _ in self.train], [s for s, _ in self.dev], [t for _, t in self.dev]


def measure(name: str, split: Split, changes: Sequence[list[Changes]]) -> dict[str, Any]:
    """One contender: threshold from train, figures on dev, curve, by its changes in the three `Split.texts`."""
    in_train, in_dev, in_targets = changes
    threshold = max(GRID, key=lambda value: counted(split.train, in_train, value)["character"]["correction"]["f1"])
    result = {"threshold": threshold, **figures(split.dev, in_dev, in_targets, threshold), "curve": []}
    for value in GRID:
        score = counted(split.dev, in_dev, value)["character"]["correction"]
        result["curve"].append({"threshold": value, **{key: score[key] for key in ("precision", "recall", "f1")}})
    characters, sentences = (result["dev"][level]["correction"]["f1"] for level in ("character", "sentence_strict"))
    print(f"{name:>40}: threshold {threshold}, F1 {characters:.3f} of characters, {sentences:.3f} of sentences")
    return result


def figures(
    dev: list[tuple[str, str]], changes: list[Changes], correct: list[Changes], threshold: float
) -> dict[str, Any]:
    """Counts on dev, and what is changed in sentences that are as they should be."""
    characters = sum(len(target) for _, target in dev)
    wrong = [sum(gain > threshold for gain, _, _ in made) for made in correct]
    return {
        "dev": rounded(counted(dev, changes, threshold)),
        "dev targets": {
            "share of sentences changed": round(sum(map(bool, wrong)) / len(wrong), 4),
            "changes per 1000 characters": round(1000 * sum(wrong) / characters, 3),
        },
    }


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def read_rows(path: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    return [(row["source"], row["target"]) for row in rows]


def measure_model(folder: Path, split: Split, masking_rows: int) -> dict[str, Any]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from kexue_hf import Corrector
    from kexue_hf.pipelines.text_correction import DEFAULT_THRESHOLD

    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    one_pass = bool(getattr(model, "predicts_all_tokens_at_once", False))
    subset = split.dev[:masking_rows]
    result: dict[str, Any] = {
        "type": model.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": len(tokenizer),
        "method": "one pass" if one_pass else "masking",
        "subset": corrected(Corrector(model, tokenizer), subset, DEFAULT_THRESHOLD),
    }
    if not one_pass:
        return result
    every = Corrector(model, tokenizer, shown=len(tokenizer))
    kinds = [by_kinds(every, texts) for texts in split.texts]
    of_each = {name: [found[name] for found in kinds] for name in KINDS}
    anything = Corrector(model, tokenizer, candidates="top_k", shown=1)
    of_each[ANY] = [by_model(anything, texts) for texts in split.texts]
    result["candidates"] = {
        name: measure(f"{folder.name}, {name}", split, changes) for name, changes in of_each.items()
    }
    best = result["candidates"][BEST]
    best["at the default threshold"] = {
        "threshold": DEFAULT_THRESHOLD,
        **figures(split.dev, *of_each[BEST][1:], DEFAULT_THRESHOLD),
    }
    for rounds in (1, 2):
        whole = corrected(Corrector(model, tokenizer, rounds=rounds), split.dev, best["threshold"])
        best[f"corrected in {rounds} round{'s' * (rounds - 1)}"] = whole
        # The figures above were counted from one pass for all kinds; this is the function that users call.
        if rounds == 1 and rounded(whole["dev"]["character"]) != best["dev"]["character"]:
            raise SystemExit(f"Corrector counts {whole['dev']['character']}, the table {best['dev']['character']}")
    return result


def corrected(corrector: Any, rows: Sequence[tuple[str, str]], threshold: float) -> dict[str, Any]:
    """What `Corrector.correct` makes of rows, and how long it takes."""
    corrector.threshold = threshold
    started = time.process_time()
    results = corrector.correct([source for source, _ in rows])
    seconds = time.process_time() - started
    metrics = CorrectionMetrics()
    for (source, target), found in zip(rows, results, strict=True):
        metrics.add(source, target, found.corrected)
    return {
        "rows": len(rows),
        "threshold": threshold,
        "CPU seconds": round(seconds, 2),
        "rows a CPU second": round(len(rows) / seconds, 1),
        "dev": rounded(metrics.to_dict()),
    }


def picture(result: dict[str, Any], path: Path) -> None:
    """Precision and recall of corrected characters over the thresholds."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "kexue"  # the same picture from the same figures
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    curves = {"bigram counts, sound or shape": (result["baselines"]["bigrams"], "--")}
    for model, found in result["models"].items():
        for name, contender in found.get("candidates", {}).items():
            curves[f"{model}, {name}"] = (contender, "-")
    for label, (contender, style) in curves.items():
        points = [point for point in contender["curve"] if point["recall"] > 0]
        axes.plot(
            [100 * point["recall"] for point in points], [100 * point["precision"] for point in points], style,
            label=label, linewidth=1.5,
        )  # fmt: skip
        chosen = [point for point in points if point["threshold"] == contender.get("threshold")]
        axes.plot([100 * p["recall"] for p in chosen], [100 * p["precision"] for p in chosen], "ko", markersize=4)
    axes.set_xlabel("recall of corrections, % of the erroneous characters")
    axes.set_ylabel("precision of corrections, %")
    axes.set_xlim(0)
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    axes.set_title("SIGHAN 2013 test, over thresholds (dot: chosen on training rows)", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--text", type=Path, required=True, help=".jsonl with `text`, for the bigram counts")
    parser.add_argument("--model", type=Path, action="append", required=True, help="folder; more than one is welcome")
    parser.add_argument("--train_rows", type=int, default=1000)
    parser.add_argument("--dev_rows", type=int, default=None, help="only so many: to try the script")
    parser.add_argument("--masking_rows", type=int, default=60)
    parser.add_argument("--no_output", action="store_true", help="write neither JSON nor picture")
    options = parser.parse_args()

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    started = time.process_time()
    dev = read_rows(options.data / "dev.jsonl")[: options.dev_rows]
    drawn = random.Random(0).sample(read_rows(options.data / "train.jsonl"), options.train_rows)
    split = Split([*drawn, *((target, target) for _, target in drawn)], dev)
    nothing: list[Changes] = [[] for _ in dev]
    bigrams = Bigrams(options.text, Confusion.of_kinds(*KINDS[BEST]))
    result: dict[str, Any] = {
        "what": "spelling correction on SIGHAN's data (simplified characters), nothing trained on wrong sentences",
        "machine": machine("torch", "transformers"),
        "threads": 1,
        "dev": {"rows": len(dev), "errors": sum(a != b for s, t in dev for a, b in zip(s, t, strict=True))},
        "train rows for the threshold": len(drawn),
        "baselines": {
            "no change": figures(dev, nothing, nothing, 0.0),
            "bigrams": measure("bigrams", split, [bigrams(texts) for texts in split.texts]),
        },
        "models": {folder.name: measure_model(folder, split, options.masking_rows) for folder in options.model},
    }
    result["CPU seconds in all"] = round(time.process_time() - started, 1)
    if not options.no_output:
        write_result("tta_correction", rounded(result))
        picture(result, ROOT / "docs" / "tta_correction.svg")
    print(f"{result['CPU seconds in all']} s")


if __name__ == "__main__":
    main()
