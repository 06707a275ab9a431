"""Spelling correction by models that have seen no wrong sentence, on SIGHAN's data: a T-TA and simple baselines.

    python benchmarks/tta_correction.py --data csc --text zh_text/train.jsonl --model tta_small [--model mlm_small]

DATA has train.jsonl and dev.jsonl: objects with `source` and `target` of equal length. TEXT has objects with `text`,
for the counts of the bigram baseline. A model that needs one pass per token (any but a T-TA) is only measured on
--masking_rows of the dev rows, next to the T-TA on the same rows.

No network is trained on wrong sentences, but a few numbers are fitted on them. The costs of candidates were counted on
the training rows (benchmarks/tta_correction_constants.py); a contender without them shows their effect. The threshold
of each contender is chosen here on --train_rows training rows: the best F1 of corrected characters on sources and
targets together, so that half of the sentences have no errors. Nothing is chosen on dev, which is only read after all
thresholds are fixed.

Reported on dev, the test set of 2013: counts by the measures of 2015 (see kexue_hf/evaluation/correction.py; the
bake-off of 2013 counted differently); and, since nearly all its sentences have errors, the share of its *targets* in
which something is changed.

Writes benchmarks/results/tta_correction.json and docs/tta_correction.svg. Takes four minutes on one core.
"""

import argparse
import json
import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from drawing import picture_of
from measuring import ROOT, json_lines, machine, write_result

from kexue_hf import Confusion, CorrectionMetrics
from kexue_hf.pipelines.confusion import COSTS, is_han

# From a barely more probable candidate to a certain one.
GRID = [step / 2 for step in range(33)]
KINDS = {
    "same sound": ("sound",),
    "same or near sound": ("sound", "near_sound"),
    "similar shape": ("shape",),
    "sound or shape": ("sound", "near_sound", "shape"),
}
BEST, FREE, ANY = "sound or shape", "sound or shape, no costs", "top-k"
AT_A_TIME = 256
# For each text: position, candidate, and by how much it is more probable.
Changes = list[tuple[float, int, str]]


class Bigrams:
    """p(character | previous) p(next | character), from counts, with `added` for unseen pairs."""

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

    def __call__(self, texts: Sequence[str]) -> dict[str, list[Changes]]:
        found: list[Changes] = []
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
        return {"bigrams": found}


def confusions() -> dict[str, Confusion]:
    """Return the sets of candidates that are compared."""
    found = {name: Confusion.of_kinds(*kinds) for name, kinds in KINDS.items()}
    return {**found, FREE: Confusion.of_kinds(*KINDS[BEST], costs=dict.fromkeys(COSTS, 0.0))}


def by_kinds(corrector: Any, texts: Sequence[str], kinds: Mapping[str, Confusion]) -> dict[str, list[Changes]]:
    """Return the changes for each kind of candidates, from a single pass that keeps all candidates."""
    costs: dict[str, dict[str, dict[str, float]]] = {name: {} for name in kinds}
    found: dict[str, list[Changes]] = {name: [] for name in kinds}
    # A change without a gain at the corrector's own costs may have one where costs are lower.
    above = GRID[0] - sum(abs(cost) for cost in COSTS.values())
    for start in range(0, len(texts), AT_A_TIME):
        for proposals in corrector.propose(texts[start : start + AT_A_TIME], above=above):
            for name, confusion in kinds.items():
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


def character_f1(rows: Sequence[tuple[str, str]], changes: Sequence[Changes], threshold: float) -> float:
    found: float = counted(rows, changes, threshold)["character"]["correction"]["f1"]
    return found


def best_threshold(rows: Sequence[tuple[str, str]], changes: Sequence[Changes]) -> float:
    """Return the threshold with the best F1; all thresholds are chosen this way."""
    return max(GRID, key=lambda value: character_f1(rows, changes, value))


def drawn_rows(rows: Sequence[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    """Return this many rows for choosing thresholds, each also without its errors."""
    drawn = random.Random(0).sample(rows, number)
    return [*drawn, *((target, target) for _, target in drawn)]


def measure(
    name: str, dev: list[tuple[str, str]], changes: list[Changes], correct: list[Changes], threshold: float
) -> dict[str, Any]:
    """Return one contender's figures on dev, and its curve."""
    result = {"threshold": threshold, **figures(dev, changes, correct, threshold), "curve": []}
    for value in GRID:
        score = counted(dev, changes, value)["character"]["correction"]
        result["curve"].append({"threshold": value, **{key: score[key] for key in ("precision", "recall", "f1")}})
    characters, sentences = (result["dev"][level]["correction"]["f1"] for level in ("character", "sentence_strict"))
    print(f"{name:>50}: F1 {characters:.3f} of characters, {sentences:.3f} of sentences")
    return result


def figures(
    dev: list[tuple[str, str]], changes: list[Changes], correct: list[Changes], threshold: float
) -> dict[str, Any]:
    """Return the counts on dev, and how much is changed in correct sentences."""
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
    rows = json_lines(path)
    return [(row["source"], row["target"]) for row in rows]


class Model:
    """A model from a folder. A T-TA is a contender with each kind of candidates."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        from kexue_hf import Corrector

        self.name = folder.name
        self.model = AutoModelForMaskedLM.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.one_pass = bool(getattr(self.model, "predicts_all_tokens_at_once", False))
        self.make: Callable[..., Any] = lambda **options: Corrector(
            self.model, self.tokenizer, known_words=False, **options
        )

    def __call__(self, texts: Sequence[str]) -> dict[str, list[Changes]]:
        """Return the changes for each kind of candidates."""
        if not self.one_pass:
            return {}
        kinds = confusions()
        every = self.make(candidates=kinds[BEST], shown=len(self.tokenizer))
        anything = self.make(candidates="top_k", shown=1)
        return {**by_kinds(every, texts, kinds), ANY: by_model(anything, texts)}

    def measure(
        self, dev: list[tuple[str, str]], thresholds: Mapping[str, float], masking_rows: int
    ) -> dict[str, Any]:
        """Return the figures on dev with the chosen thresholds."""
        from kexue_hf.pipelines.text_correction import DEFAULT_THRESHOLD

        result: dict[str, Any] = {
            "type": self.model.config.model_type,
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "vocabulary": len(self.tokenizer),
            "method": "one pass" if self.one_pass else "masking",
            "subset": corrected(self.make(), dev[:masking_rows], DEFAULT_THRESHOLD),
        }
        if not self.one_pass:
            return result
        found, correct = (self([row[side] for row in dev]) for side in (0, 1))
        result["candidates"] = {
            name: measure(f"{self.name}, {name}", dev, found[name], correct[name], threshold)
            for name, threshold in thresholds.items()
        }
        best = result["candidates"][BEST]
        best["at the default threshold"] = {
            "threshold": DEFAULT_THRESHOLD,
            **figures(dev, found[BEST], correct[BEST], DEFAULT_THRESHOLD),
        }
        for rounds in (1, 2):
            whole = corrected(self.make(rounds=rounds), dev, best["threshold"])
            best[f"corrected in {rounds} round{'s' * (rounds - 1)}"] = whole
            # The figures above come from one pass for all kinds. This is the function that users call.
            if rounds == 1 and rounded(whole["dev"]["character"]) != best["dev"]["character"]:
                raise SystemExit(
                    f"Corrector gives {whole['dev']['character']}, expected {best['dev']['character']} as in the table"
                )
        return result


def corrected(corrector: Any, rows: Sequence[tuple[str, str]], threshold: float) -> dict[str, Any]:
    """Run `Corrector.correct` on the rows; return its figures and its speed."""
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
    """Draw precision against recall of corrected characters over the thresholds."""
    with picture_of(path, (7, 4.5), frame=True) as (axes,):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--text", type=Path, required=True, help=".jsonl with `text`, for the bigram counts")
    parser.add_argument(
        "--model", type=Path, action="append", required=True, help="folder of a model; can be given several times"
    )
    parser.add_argument("--train_rows", type=int, default=1000)
    parser.add_argument("--dev_rows", type=int, default=None, help="only this many rows, to try the script")
    parser.add_argument("--masking_rows", type=int, default=60)
    parser.add_argument("--no_output", action="store_true", help="write neither the JSON nor the picture")
    options = parser.parse_args()

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    started = time.process_time()
    dev = read_rows(options.data / "dev.jsonl")[: options.dev_rows]
    train = drawn_rows(read_rows(options.data / "train.jsonl"), options.train_rows)
    sources = [source for source, _ in train]
    bigrams = Bigrams(options.text, Confusion.of_kinds(*KINDS[BEST]))
    models = [Model(folder) for folder in options.model]
    thresholds = {
        name: {kind: best_threshold(train, changes) for kind, changes in contender(sources).items()}
        for name, contender in [("baselines", bigrams), *((model.name, model) for model in models)]
    }
    print(f"thresholds, from training rows: {json.dumps(thresholds, indent=1)}", flush=True)
    nothing: list[Changes] = [[] for _ in dev]
    in_dev, in_targets = (bigrams([row[side] for row in dev])["bigrams"] for side in (0, 1))
    result: dict[str, Any] = {
        "what": "spelling correction on SIGHAN's data (simplified characters); no network has seen a wrong sentence, "
        "but costs of candidates and thresholds are fitted on training rows",
        "machine": machine("torch", "transformers"),
        "threads": 1,
        "dev": {"rows": len(dev), "errors": sum(a != b for s, t in dev for a, b in zip(s, t, strict=True))},
        "train rows for the threshold, each also without its errors": options.train_rows,
        "baselines": {
            "no change": figures(dev, nothing, nothing, 0.0),
            "bigrams": measure("bigrams", dev, in_dev, in_targets, thresholds["baselines"]["bigrams"]),
        },
        "models": {model.name: model.measure(dev, thresholds[model.name], options.masking_rows) for model in models},
    }
    result["CPU seconds in all"] = round(time.process_time() - started, 1)
    if not options.no_output:
        write_result("tta_correction", rounded(result))
        picture(result, ROOT / "docs" / "tta_correction.svg")
    print(f"{result['CPU seconds in all']} s")


if __name__ == "__main__":
    main()
