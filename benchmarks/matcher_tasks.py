"""One matcher for six standards of "similar", against six models and against one that is not told the standard.

    python benchmarks/matcher_tasks.py --data sohu2021 --output FOLDER [--model FOLDER] [--rates 5e-4 1e-3] [--seeds 3]

The data are folders in the contest's format, with train.txt and valid.txt for each task. All contenders start from the
same encoder (the packaged tiny WoBERT by default; one of benchmarks/matcher_encoder.py has learned to compare) and are
trained by examples/finetune_matcher.py with the same options:

* one matcher: all rows, each with its task.
* six models: one model per task, trained on its rows, with plain layer norms.
* not told the task: one model with plain layer norms, trained on all rows as a single task.
* bigram overlap: no network. Two texts match if they share enough character bigrams, as a share of the bigrams of the
  text with fewer. The threshold is chosen for each task on the training rows.

Splits: every tenth training row of each task is kept out of training. Several tasks may have a row with the same two
texts, and its label in one task says much about its label in another. So training rows and kept-out rows whose texts
are a held-out pair of any task are left out, as are training rows whose texts are a kept-out pair.

Training: all contenders train for the same number of epochs. The average of the weights at the end is evaluated; no
checkpoint is chosen. The learning rate is the one with the best average precision on the kept-out rows, averaged over
the tasks of the rows, also for the model that is not told them. Average precision needs no threshold, whose best value
on so few rows is a matter of chance, and it depends on the rank of every pair.

Figures: F1 on valid.txt, on which nothing was chosen: of each task, F1_A and F1_B over the rows of all loose and of
all strict tasks, and their mean. They are computed once as in the contest, by the likelier class, and once with a
threshold per task chosen on the kept-out rows. The overlap always needs a threshold, and with thresholds even a model
that is not told the task can decide differently for different tasks.

Differences between the one matcher and each of the others are means over the seeds. Their standard errors are
bootstrapped: held-out pairs are resampled within their tasks, the same pairs for both contenders, and seeds are
resampled for each contender. This treats pairs as independent, although some share a text, so the errors are slightly
too small.

Limits: for a model of a task with few rows the number of epochs means few steps, so its average still contains much of
the initial weights, and its kept-out rows have few matches for choosing a threshold; the JSON has the counts. The six
models share a learning rate. If the best rate is the lowest or highest one tried, a rate beyond it may be better.

The result also has the reliability of the one matcher's probabilities (first seed, chosen rate): the share of matches
by probability, the expected calibration error, and the probabilities of pairs that match and of those that do not.

Run again with the same --output to add what is missing. A training with another encoder, other rows or other options
in that folder is an error. Writes benchmarks/results/matcher_tasks.json after each contender, and
docs/matcher_reliability.svg. --quick uses a few rows, whose figures mean nothing, and writes no file.
"""

import argparse
import contextlib
import functools
import hashlib
import io
import json
import shutil
import statistics
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from measuring import ROOT, machine, mean_and_error, write_result

ONE, SIX, UNTOLD, OVERLAP = "one matcher", "six models", "not told the task", "bigram overlap"
BETTER, BETTER_WITH_THRESHOLDS = "one matcher better by", "one matcher better by, with thresholds"
ONLY = "all"  # the task of the model that is not told the task
KEPT = 10  # every 10th training row of a task is kept out
DRAWN = 1000  # bootstrap samples of the held-out pairs
QUICK = {"train": 40, "held-out": 10}
PICTURE = ROOT / "docs" / "matcher_reliability.svg"


def bigrams(text: str) -> set[str]:
    return {text[place : place + 2] for place in range(len(text) - 1)}


def overlap(row: Any) -> float:
    """Return the share of the bigrams of the text with fewer that the other text also has."""
    first, second = bigrams(row.text_a), bigrams(row.text_b)
    return len(first & second) / max(1, min(len(first), len(second)))


def thresholds(rows: Sequence[Any], scores: Sequence[float]) -> dict[str, float]:
    """Return the threshold with the best F1 for each task."""
    from kexue_hf.evaluation.matching import best_threshold

    found = {}
    for task in dict.fromkeys(row.task for row in rows):
        own = [(score, row.label) for row, score in zip(rows, scores, strict=True) if row.task == task]
        found[task] = best_threshold(*(np.array(side, dtype=float) for side in zip(*own, strict=True)))[1]
    return found


def above(rows: Sequence[Any], scores: Sequence[float], at: dict[str, float]) -> np.ndarray:
    """Return 1 for each pair whose score is above its task's threshold, else 0."""
    return np.array([int(score > at[row.task]) for row, score in zip(rows, scores, strict=True)])


def figures_of(
    rows: Sequence[Any], scores: Sequence[float], at: dict[str, float], names: list[str]
) -> dict[str, float]:
    """Return the F1 of each task, of each standard, and their mean."""
    from kexue_hf.evaluation.matching import matching_figures

    expected, tasks = labels_and_tasks(rows, names)
    found = matching_figures(above(rows, scores, at), expected, tasks, names)
    return {name: round(value, 4) for name, value in found.items()}


def labels_and_tasks(rows: Sequence[Any], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row.label for row in rows]), np.array([names.index(row.task) for row in rows])


def differences(
    rows: Sequence[Any], one: Sequence[np.ndarray], other: Sequence[np.ndarray], names: list[str]
) -> dict[str, dict[str, float]]:
    """Return how much larger one contender's figures are than another's, from the predictions of each seed.

    Pairs and seeds are resampled for the standard error. Of n seeds, n - 1 are drawn: the variance of a mean of n
    draws from n values is too small by a share of 1 / n.
    """
    from kexue_hf.evaluation.matching import matching_figures

    expected, tasks = labels_and_tasks(rows, names)
    own, rng = [np.flatnonzero(tasks == task) for task in range(len(names))], np.random.default_rng(0)

    def difference(places: np.ndarray, *contenders: Sequence[np.ndarray]) -> dict[str, float]:
        sides = []
        for runs in contenders:
            found = [matching_figures(run[places], expected[places], tasks[places], names) for run in runs]
            sides.append({name: statistics.mean(each[name] for each in found) for name in found[0]})
        return {name: sides[0][name] - sides[1][name] for name in sides[0]}

    def drawn(runs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [runs[number] for number in rng.integers(len(runs), size=max(1, len(runs) - 1))]

    again = [
        difference(np.concatenate([rng.choice(places, len(places)) for places in own]), drawn(one), drawn(other))
        for _ in range(DRAWN)
    ]
    return {
        name: {
            "difference": round(value, 4),
            "standard error": round(statistics.stdev(each[name] for each in again), 4),
        }
        for name, value in difference(np.arange(len(rows)), one, other).items()
    }


def reliability_of(rows: Sequence[Any], scores: Sequence[float], names: list[str]) -> dict[str, dict[str, Any]]:
    """Return the reliability of the probabilities for each task, with tasks of one standard side by side."""
    from kexue_hf.evaluation.matching import reliability, standard_of

    found = {}
    for name in sorted(names, key=lambda name: (standard_of(name) or "", names.index(name))):
        own = [(score, row.label) for row, score in zip(rows, scores, strict=True) if row.task == name]
        found[name] = asdict(reliability(*(np.array(side) for side in zip(*own, strict=True))))
    return found


def keep(result: Mapping[str, Any]) -> None:
    """Write the result, and draw the reliability if it has been measured."""
    from kexue_hf.evaluation.matching import Reliability
    from kexue_hf.evaluation.reliability_picture import draw_reliability

    write_result("matcher_tasks", result)
    tasks = result.get("reliability", {}).get("tasks")
    if tasks:
        draw_reliability({name: Reliability(**found) for name, found in tasks.items()}, PICTURE)


def lines_of(rows: Sequence[Any], task: str | None = None) -> str:
    """Return the rows as JSON lines, all with `task` if it is given."""
    lines = [
        {"text_a": row.text_a, "text_b": row.text_b, "task": task or row.task, "label": row.label} for row in rows
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def train(
    options: argparse.Namespace,
    model: Path,
    folder: Path,
    parts: Mapping[str, Sequence[Any]],
    task: str | None,
    how: list[str],
) -> None:
    """Train a matcher unless `folder` already has it.

    Writes the matcher to `folder`/model, the training's report to report.json, and its settings to made.json.

    Raises:
        InputError: `folder` has a training with other settings.
    """
    from transformers import HfArgumentParser

    from examples import finetune_matcher as script

    settings = [
        f"--num_train_epochs={options.epochs}",
        f"--batch_size={options.batch_size}",
        "--warmup_steps=0.1",
        "--save_strategy=no",
        *(["--use_cpu"] if options.device == "cpu" else []),
        *(["--bf16"] if options.bf16 else []),
        *how,
    ]
    content = lines_of(parts["train"], task)
    made = {
        "encoder": digest_of(model),
        "training rows": hashlib.sha256(content.encode()).hexdigest(),
        **{name: value or "yes" for name, _, value in (setting.partition("=") for setting in settings)},
    }
    if (folder / "report.json").exists():
        check_made(folder, made)
        return
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "train.jsonl"
    rows.write_text(content, encoding="utf-8")
    (folder / "made.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    arguments = [
        f"--model={model}",
        f"--train_file={rows}",
        f"--output_dir={folder / 'model'}",
        "--overwrite",
        f"--report={folder / 'report.json'}",
        "--logging_strategy=no",
        "--report_to=none",
        "--disable_tqdm=True",
        *settings,
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        script.run(*HfArgumentParser((script.Options, script.Arguments)).parse_args_into_dataclasses(arguments))


def check_made(folder: Path, made: Mapping[str, str]) -> None:
    """Raise InputError if the training in `folder` has other settings."""
    from kexue_hf.errors import InputError

    path = folder / "made.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    other = [
        f"{name} {found.get(name, 'none'):.12} (now {made.get(name, 'none'):.12})"
        for name in {**made, **found}
        if found.get(name) != made.get(name)
    ]
    if other:
        raise InputError(f"{folder} has a training with other settings, {', '.join(other)}: name another --output")


@functools.cache
def digest_of(folder: Path) -> str:
    """Return a digest of the names and contents of a folder's files."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        found.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    return found.hexdigest()


def plain(options: argparse.Namespace) -> Path:
    """Return a copy of the encoder's folder whose matcher has no conditional layer norms.

    Raises:
        InputError: the encoder is a matcher, which already has them.
    """
    from kexue_hf.errors import InputError

    config = json.loads((options.model / "config.json").read_text("utf-8"))
    if config["model_type"] == "cln_matcher":
        raise InputError(f"--model {options.model} is a matcher: six models start from an encoder, name its folder")
    folder: Path = options.output / f"plain_{digest_of(options.model)[:12]}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=options.output) as made:
            copy = Path(made) / "copy"
            shutil.copytree(options.model, copy)
            (copy / "config.json").write_text(json.dumps(config | {"conditional": False}), encoding="utf-8")
            copy.rename(folder)
    return folder


def scores_of(folder: Path, rows: Sequence[Any], task: str | None, device: str) -> list[float]:
    """Return the probability of each row, with its own task or with `task`."""
    from transformers import AutoTokenizer

    from kexue_hf import ClnMatcherForSequenceClassification, match_texts

    model = ClnMatcherForSequenceClassification.from_pretrained(folder / "model").to(device)
    pairs = [{"text_a": row.text_a, "text_b": row.text_b, "task": task or row.task} for row in rows]
    found = match_texts(model, AutoTokenizer.from_pretrained(folder / "model"), pairs)
    return [next(iter(probabilities.values())) for probabilities in found]


def measured(
    options: argparse.Namespace, contender: str, parts: dict[str, list[Any]], names: list[str], rate: str, seed: int
) -> dict[str, Any]:
    """Train the contender with a rate and a seed, and return its figures on the kept-out and the held-out rows."""
    from kexue_hf.evaluation.matching import probability_figures

    how = [f"--learning_rate={rate}", f"--seed={seed}"]
    model = options.model if contender == ONE else plain(options)
    base = options.output / contender.replace(" ", "_") / f"{rate}_{seed}"
    groups: dict[Path, tuple[dict[str, list[Any]], str | None]] = {}
    if contender == SIX:
        for number, name in enumerate(names):
            of_task = {part: [row for row in rows if row.task == name] for part, rows in parts.items()}
            groups[base / str(number)] = (of_task, None)
    else:
        groups[base] = (parts, ONLY if contender == UNTOLD else None)
    rows: dict[str, list[Any]] = {"kept": [], "held-out": []}
    scores: dict[str, list[float]] = {"kept": [], "held-out": []}
    reports = []
    for folder, (own, task) in groups.items():
        train(options, model, folder, own, task, how)
        reports.append(json.loads((folder / "report.json").read_text("utf-8")))
        for part in rows:
            rows[part] += own[part]
            scores[part] += scores_of(folder, own[part], task, options.device)
    half = dict.fromkeys(names, 0.5)
    chosen = thresholds(rows["kept"], scores["kept"])
    of_kept = probability_figures(np.array(scores["kept"]), *labels_and_tasks(rows["kept"], names), names)
    return {
        "parameters": sum(report["parameters"] for report in reports),
        "training seconds": round(sum(report["seconds"] for report in reports), 1),
        "steps": sum(report["steps"] for report in reports),
        "average precision": round(of_kept["average precision"], 4),
        "held out": figures_of(rows["held-out"], scores["held-out"], half, names),
        "held out, with thresholds": figures_of(rows["held-out"], scores["held-out"], chosen, names),
        "thresholds": {name: round(value, 4) for name, value in chosen.items()},
        "predicted": {
            BETTER: above(rows["held-out"], scores["held-out"], half),
            BETTER_WITH_THRESHOLDS: above(rows["held-out"], scores["held-out"], chosen),
        },
        "reliability": reliability_of(rows["held-out"], scores["held-out"], names),
    }


def by_overlap(parts: dict[str, list[Any]], names: list[str]) -> tuple[dict[str, Any], np.ndarray]:
    """Return the figures of bigram overlap, and its predictions for the held-out rows."""
    known, rows = [*parts["train"], *parts["kept"]], parts["held-out"]
    at, scores = thresholds(known, [overlap(row) for row in known]), [overlap(row) for row in rows]
    found = {
        "parameters": len(names),
        "thresholds": {name: round(value, 4) for name, value in at.items()},
        "held out, with thresholds": figures_of(rows, scores, at, names),
    }
    return found, above(rows, scores, at)


def means(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over the seeds, its standard error (None for a single run), and all values of each figure."""
    found: dict[str, Any] = {}
    for kind in ("held out", "held out, with thresholds"):
        found[kind] = {}
        for name in runs[0][kind]:
            values = [run[kind][name] for run in runs]
            mean, error = mean_and_error(values)
            found[kind][name] = {"mean": mean, "standard error": error, "all": values}
    found["training seconds"] = round(statistics.median(run["training seconds"] for run in runs), 1)
    return found


def divided(options: argparse.Namespace) -> tuple[dict[str, list[Any]], dict[str, dict[str, int]]]:
    """Return training, kept-out and held-out rows, and the number of rows of each task that were left out of a part.

    No pair of texts is in two parts, whatever its tasks.
    """
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
    left_out: dict[str, dict[str, int]] = {}
    taken = {pair_of(row) for row in parts["held-out"]}
    for part in ("kept", "train"):
        left_out[part] = Counter(row.task for row in parts[part] if pair_of(row) in taken)
        parts[part] = [row for row in parts[part] if pair_of(row) not in taken]
        taken |= {pair_of(row) for row in parts[part]}
    return parts, left_out


def pair_of(row: Any) -> frozenset[str]:
    """Return the two texts in sorted order, without spaces and without differences in width and case."""
    return frozenset(
        "".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (row.text_a, row.text_b)
    )


def training_of(model: Path) -> Any:
    """Return what benchmarks/matcher_encoder.py recorded about the encoder, or None for another encoder."""
    path = model / "training.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def compare(options: argparse.Namespace, write: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    from kexue_hf.corpora.matching_rows import tasks_of

    parts, left_out = divided(options)
    names = tasks_of(parts["train"])
    by_bigrams, predicted_by_bigrams = by_overlap(parts, names)
    result: dict[str, Any] = {
        "what": "F1 on held-out rows; the rate chosen on training rows that were kept out, by average precision",
        "machine": machine("torch", "transformers"),
        "model": options.model.name,
        "its training": training_of(options.model),
        "settings": {name: getattr(options, name) for name in ("epochs", "batch_size", "rates", "seeds", "bf16")},
        "rows": {
            part: {name: sum(row.task == name for row in rows) for name in names} for part, rows in parts.items()
        },
        "matches": {
            part: {name: sum(row.label for row in rows if row.task == name) for name in names}
            for part, rows in parts.items()
        },
        "left out, their texts being in another part": left_out,
        "contenders": {OVERLAP: by_bigrams},
        BETTER: {},
        BETTER_WITH_THRESHOLDS: {},
    }
    write(result)
    # By kind of decision, then by contender. Overlap only has figures with thresholds.
    predicted: dict[str, dict[str, list[np.ndarray]]] = {
        BETTER: {},
        BETTER_WITH_THRESHOLDS: {OVERLAP: [predicted_by_bigrams]},
    }
    for contender in (ONE, SIX, UNTOLD):
        tried = {rate: measured(options, contender, parts, names, rate, 0) for rate in options.rates}
        rate = max(tried, key=lambda each: tried[each]["average precision"])
        runs = [tried[rate], *(measured(options, contender, parts, names, rate, s) for s in range(1, options.seeds))]
        result["contenders"][contender] = {
            "parameters": runs[0]["parameters"],
            "learning_rate": rate,
            "chosen by": {each: tried[each]["average precision"] for each in tried},
            "thresholds of the first seed": runs[0]["thresholds"],
            **means(runs),
        }
        if contender == ONE:
            result["reliability"] = {"of": f"{ONE}, first seed, held-out rows", "tasks": runs[0]["reliability"]}
        # The rows are in the same order: they were divided task by task, as the six models score them.
        for kind, found in predicted.items():
            found[contender] = [run["predicted"][kind] for run in runs]
            other = OVERLAP if contender == ONE else contender
            if other in found:
                result[kind][other] = differences(parts["held-out"], found[ONE], found[other], names)
        write(result)
        print(contender, json.dumps(result["contenders"][contender], ensure_ascii=False), flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="folders in the contest's format")
    parser.add_argument("--output", type=Path, required=True, help="folder for the trained models")
    parser.add_argument("--model", type=Path, help="folder of an encoder; the packaged tiny WoBERT by default")
    parser.add_argument("--rates", nargs="+", default=["5e-4", "1e-3"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--quick", action="store_true", help="try the script with few rows; write nothing")
    options = parser.parse_args()
    if options.quick:
        options.rates, options.seeds, options.epochs = options.rates[:1], 1, 1

    from transformers.utils import logging

    from kexue_hf import convert
    from kexue_hf.errors import KexueError
    from kexue_hf.evaluation.reliability_picture import check_picture

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
    try:
        result = compare(options, (lambda found: None) if options.quick else keep)
    except KexueError as error:
        parser.exit(2, f"matcher_tasks: error: {error}\n")
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
