"""Fit the constants of spelling correction on SIGHAN's training rows: costs of candidates and the default threshold.

    python benchmarks/tta_correction_constants.py --data csc --model tta_small

DATA has train.jsonl: objects with `source` and `target` of equal length. Nothing else is read, and no figure is
measured on these rows (benchmarks/tta_correction.py measures, with these constants).

Costs: for each kind of error (same sound and tone, same sound in another tone, ...), the number of errors per
candidate of this kind that the right characters have; the cost is minus the logarithm of this rate relative to the
first kind. The rates of the kinds of sound only count pairs that do not also look alike. The effect of also looking
alike is estimated over these kinds together: the observed errors against those expected without the effect. Costs are
rounded to one decimal.

Threshold: the one of GRID with the best F1 of corrected characters, by the T-TA with these costs and candidates of
every kind, on the sources and targets of --train_rows rows together, so that half of the sentences are correct.

Writes benchmarks/results/tta_correction_constants.json, which a test compares with the constants in the code. Takes
one minute on one core.
"""

import argparse
import math
import time
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from measuring import machine, write_result
from tta_correction import (
    BEST,
    GRID,
    KINDS,
    best_threshold,
    by_kinds,
    character_f1,
    drawn_rows,
    read_rows,
    rounded,
)

from kexue_hf import Confusion
from kexue_hf.pipelines.confusion import COSTS, is_han

# Costs that identify the kind of a pair: any numbers with distinct sums would do.
_MARKS = {"same tone": 0.0, "other tone": 1.0, "near sound": 2.0, "shape": 3.0, "shape too": 10.0}
_SOUNDS = ("same tone", "other tone", "near sound")


def kinds_of_pairs() -> Any:
    """Return a function from a character to {candidate: (kind, whether it sounds and looks alike)}."""
    marked = Confusion.of_kinds(*KINDS[BEST], costs=_MARKS)
    names = {value: name for name, value in _MARKS.items()}

    @cache
    def kinds(char: str) -> dict[str, tuple[str, bool]]:
        found = marked(char).items()
        return {other: (names[mark % _MARKS["shape too"]], mark >= _MARKS["shape too"]) for other, mark in found}

    return kinds


def count(rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the errors by kind, and the costs."""
    kinds = kinds_of_pairs()
    errors: Counter[tuple[str, bool]] = Counter()
    candidates: Counter[tuple[str, bool]] = Counter()
    for char, number in Counter(char for _, target in rows for char in target if is_han(char)).items():
        for kind in kinds(char).values():
            candidates[kind] += number
    for source, target in rows:
        for written, meant in zip(source, target, strict=True):
            if written != meant:
                errors[kinds(meant).get(written, ("none", False))] += 1
    rates = {kind: errors[kind, False] / candidates[kind, False] for kind in (*_SOUNDS, "shape")}
    costs = {kind: -math.log(rate / rates["same tone"]) for kind, rate in rates.items()}
    expected = sum(candidates[kind, True] * rates[kind] for kind in _SOUNDS)
    costs["shape too"] = -math.log(sum(errors[kind, True] for kind in _SOUNDS) / expected)
    total = sum(errors.values())

    def share(kind: str) -> float:
        return (errors[kind, False] + errors[kind, True]) / total

    return {
        "errors": total,
        "share of the errors": {
            "same sound, any tone": sum(errors[kind, alike] for kind in _SOUNDS[:2] for alike in (False, True))
            / total,
            "near sound": (errors["near sound", False] + errors["near sound", True]) / total,
            "shape only": errors["shape", False] / total,
            "none of these": errors["none", False] / total,
        },
        "costs": {name: round(costs[name], 1) + 0.0 for name in COSTS},
    }


def choose(folder: Path, drawn: list[tuple[str, str]], costs: dict[str, float]) -> dict[str, Any]:
    """Return the default threshold."""
    import torch
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    from kexue_hf import Corrector

    torch.set_num_threads(1)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    confusion = Confusion.of_kinds(*KINDS[BEST], costs=costs)
    every = Corrector(model, tokenizer, candidates=confusion, shown=len(tokenizer), known_words=False)
    changes = by_kinds(every, [source for source, _ in drawn], {BEST: confusion})[BEST]
    return {
        "model": {"name": folder.name, "parameters": model.num_parameters(), "vocabulary": len(tokenizer)},
        "threshold": best_threshold(drawn, changes),
        "F1 of characters on these training rows": {str(value): character_f1(drawn, changes, value) for value in GRID},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl")
    parser.add_argument("--model", type=Path, required=True, help="folder of a T-TA")
    parser.add_argument("--train_rows", type=int, default=1000)
    options = parser.parse_args()
    started = time.process_time()
    rows = read_rows(options.data / "train.jsonl")
    counted = count(rows)
    drawn = drawn_rows(rows, options.train_rows)
    result = {
        "what": "constants of spelling correction, fitted on SIGHAN's training rows (data for research)",
        "rows": len(rows),
        **counted,
        "rows for the threshold, each also without its errors": options.train_rows,
        **choose(options.model, drawn, counted["costs"]),
        "machine": machine("torch", "transformers"),
        "CPU seconds in all": time.process_time() - started,
    }
    print(write_result("tta_correction_constants", rounded(result)))
    print(f"costs {result['costs']}, threshold {result['threshold']}")


if __name__ == "__main__":
    main()
