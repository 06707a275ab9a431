"""One matcher for six standards of "similar" against six models, and against one that is not told the standard.

    python benchmarks/matcher_tasks.py --data sohu2021 --output FOLDER [--model FOLDER] [--rates 5e-4 1e-3] [--seeds 3]

The data are folders of the contest's form, train.txt and valid.txt for each task. Contenders, all started from the
same encoder (by default the packaged tiny WoBERT) and trained by examples/finetune_matcher.py, with the same options:

* one matcher: all rows, each with its task.
* six models: a model for each task, trained on its rows.
* not told the task: one model, all rows, of one and the same task.
* bigram overlap: no network. Two texts match if they share enough of the character bigrams of the one that has fewer;
  how many are enough, is chosen for each task on the training rows.

Every tenth training row of each task is kept out of the training: the checkpoint with the best F1 on these rows is
taken, and of the rates that with the best. Then F1 on valid.txt, which nothing was chosen on: of each task, F1_A and
F1_B over the rows of all loose and of all strict tasks, and their mean. Once as the contest has it, the larger of two
classes; and once with a threshold for each task, chosen on the rows that were kept out, which the overlap has anyway
and which lets even a model that is not told the task do different things for different tasks.

By how much the one matcher is better than each of the others, is a mean over the seeds; its standard error is that of
held-out pairs drawn anew, with replacement and within their tasks, the same ones for both.

And how reliable the one matcher's probabilities are on these rows (first seed, rate as chosen): the share of matches
by probability, the expected calibration error, the probabilities of pairs that match and of those that do not.

Started again with the same --output, it goes on with what is missing. Writes benchmarks/results/matcher_tasks.json
after each contender, and docs/matcher_reliability.svg; with --quick, a few rows, figures that tell nothing and no
file.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from measuring import machine, write_result  # noqa: E402 (found by the line above)

ONE, SIX, UNTOLD, OVERLAP = "one matcher", "six models", "not told the task", "bigram overlap"
ONLY = "all"  # the task of those that are not told
KEPT = 10  # every so many-th training row of a task is kept out
DRAWN = 1000  # times that held-out pairs are drawn anew
QUICK = {"train": 40, "held-out": 10}
PICTURE = ROOT / "docs" / "matcher_reliability.svg"


def bigrams(text: str) -> set[str]:
    return {text[place : place + 2] for place in range(len(text) - 1)}


def overlap(row: Any) -> float:
    """The share of the bigrams of the text with fewer that the other has too."""
    first, second = bigrams(row.text_a), bigrams(row.text_b)
    return len(first & second) / max(1, min(len(first), len(second)))


def thresholds(rows: Sequence[Any], scores: Sequence[float]) -> dict[str, float]:
    """Of each task the threshold with the best F1."""
    from kexue_hf.trainers.matching_figures import best_threshold

    found = {}
    for task in dict.fromkeys(row.task for row in rows):
        own = [(score, row.label) for row, score in zip(rows, scores, strict=True) if row.task == task]
        found[task] = best_threshold(*(np.array(side, dtype=float) for side in zip(*own, strict=True)))[1]
    return found


def above(rows: Sequence[Any], scores: Sequence[float], at: dict[str, float]) -> np.ndarray:
    """A pair matches if its score is above `at` its task's: zeros and ones."""
    return np.array([int(score > at[row.task]) for row, score in zip(rows, scores, strict=True)])


def figures_of(
    rows: Sequence[Any], scores: Sequence[float], at: dict[str, float], names: list[str]
) -> dict[str, float]:
    """F1 of each task, of each standard, and their mean."""
    from kexue_hf.trainers.matching_figures import matching_figures

    expected, tasks = labels_and_tasks(rows, names)
    found = matching_figures(above(rows, scores, at), expected, tasks, names)
    return {name: round(value, 4) for name, value in found.items()}


def labels_and_tasks(rows: Sequence[Any], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row.label for row in rows]), np.array([names.index(row.task) for row in rows])


def differences(
    rows: Sequence[Any], one: Sequence[np.ndarray], other: Sequence[np.ndarray], names: list[str]
) -> dict[str, dict[str, float]]:
    """By how much one contender's figures are larger than another's, each given by its predictions with each seed."""
    from kexue_hf.trainers.matching_figures import matching_figures

    expected, tasks = labels_and_tasks(rows, names)
    own, rng = [np.flatnonzero(tasks == task) for task in range(len(names))], np.random.default_rng(0)

    def difference(places: np.ndarray) -> dict[str, float]:
        sides = []
        for runs in (one, other):
            found = [matching_figures(run[places], expected[places], tasks[places], names) for run in runs]
            sides.append({name: statistics.mean(each[name] for each in found) for name in found[0]})
        return {name: sides[0][name] - sides[1][name] for name in sides[0]}

    again = [difference(np.concatenate([rng.choice(places, len(places)) for places in own])) for _ in range(DRAWN)]
    return {
        name: {
            "difference": round(value, 4),
            "standard error": round(statistics.stdev(each[name] for each in again), 4),
        }
        for name, value in difference(np.arange(len(rows))).items()
    }


def reliability_of(rows: Sequence[Any], scores: Sequence[float], names: list[str]) -> dict[str, dict[str, Any]]:
    """Of each task, those of one standard beside each other: how reliable the probabilities are."""
    from kexue_hf.trainers.matching_figures import standard_of
    from kexue_hf.trainers.reliability import reliability

    found = {}
    for name in sorted(names, key=lambda name: (standard_of(name) or "", names.index(name))):
        own = [(score, row.label) for row, score in zip(rows, scores, strict=True) if row.task == name]
        found[name] = asdict(reliability(*(np.array(side) for side in zip(*own, strict=True))))
    return found


def keep(result: Mapping[str, Any]) -> None:
    """Write the result, and draw of it what there is to be drawn."""
    from kexue_hf.trainers.reliability import Reliability
    from kexue_hf.trainers.reliability_picture import draw_reliability

    write_result("matcher_tasks", result)
    tasks = result.get("reliability", {}).get("tasks")
    if tasks:
        draw_reliability({name: Reliability(**found) for name, found in tasks.items()}, PICTURE)


def write_rows(path: Path, rows: Sequence[Any], task: str | None = None) -> Path:
    """As jsonl, all of one task if that is given."""
    lines = [
        {"text_a": row.text_a, "text_b": row.text_b, "task": task or row.task, "label": row.label} for row in rows
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def train(
    options: argparse.Namespace, folder: Path, parts: dict[str, Sequence[Any]], task: str | None, how: list[str]
) -> None:
    """A matcher in `folder`/model, and what its training tells in `folder`/report.json, unless it is there."""
    from transformers import HfArgumentParser

    from examples import finetune_matcher as script

    if (folder / "report.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: write_rows(folder / f"{name}.jsonl", parts[name], task) for name in ("train", "kept")}
    arguments = [
        f"--model={options.model}",
        f"--train_file={files['train']}",
        f"--eval_file={files['kept']}",
        f"--output_dir={folder / 'model'}",
        "--overwrite",
        f"--report={folder / 'report.json'}",
        f"--num_train_epochs={options.epochs}",
        f"--batch_size={options.batch_size}",
        "--per_device_eval_batch_size=64",
        "--warmup_steps=0.1",
        "--logging_strategy=no",
        "--report_to=none",
        "--disable_tqdm=True",
        *(["--use_cpu"] if options.device == "cpu" else []),
        *(["--bf16"] if options.bf16 else []),
        *how,
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        script.run(*HfArgumentParser((script.Options, script.Arguments)).parse_args_into_dataclasses(arguments))
    for checkpoint in (folder / "model").glob("checkpoint-*"):
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()


def scores_of(folder: Path, rows: Sequence[Any], task: str | None, device: str) -> list[float]:
    """The probability of each row, by its task or by the one that is given."""
    from transformers import AutoTokenizer

    from kexue_hf import ClnMatcherForSequenceClassification, match_texts

    model = ClnMatcherForSequenceClassification.from_pretrained(folder / "model").to(device)
    pairs = [{"text_a": row.text_a, "text_b": row.text_b, "task": task or row.task} for row in rows]
    found = match_texts(model, AutoTokenizer.from_pretrained(folder / "model"), pairs)
    return [next(iter(probabilities.values())) for probabilities in found]


def measured(
    options: argparse.Namespace, contender: str, parts: dict[str, list[Any]], names: list[str], rate: str, seed: int
) -> dict[str, Any]:
    """The contender trained at a rate with a seed: size, time, F1 on the rows kept out and on the held-out ones; and
    of these how reliable the probabilities are."""
    how = [f"--learning_rate={rate}", f"--seed={seed}"]
    base = options.output / contender.replace(" ", "_") / f"{rate}_{seed}"
    groups: dict[Path, tuple[dict[str, list[Any]], str | None]]
    if contender == SIX:
        groups = {
            base / str(number): (
                {part: [row for row in rows if row.task == name] for part, rows in parts.items()},
                None,
            )
            for number, name in enumerate(names)
        }
    else:
        groups = {base: (parts, ONLY if contender == UNTOLD else None)}
    rows: dict[str, list[Any]] = {"kept": [], "held-out": []}
    scores: dict[str, list[float]] = {"kept": [], "held-out": []}
    reports = []
    for folder, (own, task) in groups.items():
        train(options, folder, own, task, how)
        reports.append(json.loads((folder / "report.json").read_text("utf-8")))
        for part in rows:
            rows[part] += own[part]
            scores[part] += scores_of(folder, own[part], task, options.device)
    half = dict.fromkeys(names, 0.5)
    chosen = thresholds(rows["kept"], scores["kept"])
    return {
        "parameters": sum(report["parameters"] for report in reports),
        "training seconds": round(sum(report["seconds"] for report in reports), 1),
        "steps": sum(report["steps"] for report in reports),
        "kept out": figures_of(rows["kept"], scores["kept"], half, names),
        "held out": figures_of(rows["held-out"], scores["held-out"], half, names),
        "held out, with thresholds": figures_of(rows["held-out"], scores["held-out"], chosen, names),
        "thresholds": {name: round(value, 4) for name, value in chosen.items()},
        "predicted": above(rows["held-out"], scores["held-out"], chosen),
        "reliability": reliability_of(rows["held-out"], scores["held-out"], names),
    }


def by_overlap(parts: dict[str, list[Any]], names: list[str]) -> tuple[dict[str, Any], np.ndarray]:
    """What bigram overlap achieves, and what it predicts of the held-out rows."""
    known, rows = [*parts["train"], *parts["kept"]], parts["held-out"]
    at, scores = thresholds(known, [overlap(row) for row in known]), [overlap(row) for row in rows]
    found = {
        "parameters": len(names),
        "thresholds": {name: round(value, 4) for name, value in at.items()},
        "held out, with thresholds": figures_of(rows, scores, at, names),
    }
    return found, above(rows, scores, at)


def means(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the seeds, standard error of the mean (none of a single run), and all, of every figure."""
    found: dict[str, Any] = {}
    for kind in ("held out", "held out, with thresholds"):
        found[kind] = {}
        for name in runs[0][kind]:
            values = [run[kind][name] for run in runs]
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
            found[kind][name] = {
                "mean": round(statistics.mean(values), 4),
                "standard error": None if error is None else round(error, 4),
                "all": values,
            }
    found["training seconds"] = round(statistics.median(run["training seconds"] for run in runs), 1)
    return found


def divided(options: argparse.Namespace) -> dict[str, list[Any]]:
    """Rows to train on, kept out, and held out."""
    from kexue_hf.corpora.matching_rows import read_matching_rows, tasks_of

    rows, held_out = read_matching_rows(options.data, "train"), read_matching_rows(options.data, "valid")
    parts: dict[str, list[Any]] = {"train": [], "kept": [], "held-out": []}
    for name in tasks_of(rows):
        own, valid = ([row for row in part if row.task == name] for part in (rows, held_out))
        if options.quick:
            own, valid = own[: QUICK["train"]], valid[: QUICK["held-out"]]
        parts["train"] += [row for number, row in enumerate(own) if number % KEPT]
        parts["kept"] += own[::KEPT]
        parts["held-out"] += valid
    return parts


def compare(options: argparse.Namespace, write: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    from kexue_hf.corpora.matching_rows import tasks_of

    parts = divided(options)
    names = tasks_of(parts["train"])
    by_bigrams, predicted_by_bigrams = by_overlap(parts, names)
    result: dict[str, Any] = {
        "what": "F1 on held-out rows; the checkpoint and the rate chosen on training rows that were kept out",
        "machine": machine("torch", "transformers"),
        "model": options.model.name,
        "settings": {name: getattr(options, name) for name in ("epochs", "batch_size", "rates", "seeds", "bf16")},
        "rows": {
            part: {name: sum(row.task == name for row in rows) for name in names} for part, rows in parts.items()
        },
        "contenders": {OVERLAP: by_bigrams},
        "one matcher better by, with thresholds": {},
    }
    write(result)
    predicted = {OVERLAP: [predicted_by_bigrams]}
    for contender in (ONE, SIX, UNTOLD):
        tried = {rate: measured(options, contender, parts, names, rate, 0) for rate in options.rates}
        rate = max(tried, key=lambda each: tried[each]["kept out"]["f1"])
        runs = [tried[rate], *(measured(options, contender, parts, names, rate, s) for s in range(1, options.seeds))]
        result["contenders"][contender] = {
            "parameters": runs[0]["parameters"],
            "learning_rate": rate,
            "chosen by": {each: tried[each]["kept out"]["f1"] for each in tried},
            "thresholds of the first seed": runs[0]["thresholds"],
            **means(runs),
        }
        if contender == ONE:
            result["reliability"] = {"of": f"{ONE}, first seed, held-out rows", "tasks": runs[0]["reliability"]}
        # Of the same rows in the same order: they were divided task by task, as six models judge them.
        predicted[contender] = [run["predicted"] for run in runs]
        other = OVERLAP if contender == ONE else contender
        result["one matcher better by, with thresholds"][other] = differences(
            parts["held-out"], predicted[ONE], predicted[other], names
        )
        write(result)
        print(contender, json.dumps(result["contenders"][contender], ensure_ascii=False), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="folders of the contest's form")
    parser.add_argument("--output", type=Path, required=True, help="folder for the trained models")
    parser.add_argument("--model", type=Path, help="folder of an encoder; by default the packaged tiny WoBERT")
    parser.add_argument("--rates", nargs="+", default=["5e-4", "1e-3"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--quick", action="store_true", help="try the script; no figures")
    options = parser.parse_args()
    if options.quick:
        options.rates, options.seeds, options.epochs = options.rates[:1], 1, 1

    from transformers.utils import logging

    from kexue_hf import convert
    from kexue_hf.trainers.reliability_picture import check_picture

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.model is None:
        options.model = options.output / "wobert_tiny"
        if not options.model.exists():
            with resources.as_file(resources.files("kexue_hf") / "assets" / "wobert_tiny") as packaged:
                convert(packaged, options.model, dtype="float32")
    if not options.quick:
        check_picture(PICTURE)
    result = compare(options, (lambda found: None) if options.quick else keep)
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
