"""One matcher for six standards of "similar" against six models, and against one that is not told the standard.

    python benchmarks/matcher_tasks.py --data sohu2021 --output FOLDER [--model FOLDER] [--rates 5e-4 1e-3] [--seeds 3]

The data are folders of the contest's form, train.txt and valid.txt for each task. Contenders, all started from the
same encoder (by default the packaged tiny WoBERT; one of benchmarks/matcher_encoder.py knows how to compare) and
trained by examples/finetune_matcher.py, with the same options:

* one matcher: all rows, each with its task.
* six models: a model for each task, trained on its rows, with plain layer norms, as a model of one task has them.
* not told the task: one model with plain layer norms, all rows, of one and the same task.
* bigram overlap: no network. Two texts match if they share enough of the character bigrams of the one that has fewer;
  how many are enough, is chosen for each task on the training rows.

Every tenth training row of each task is kept out of the training. The same two texts may be a row of several tasks,
whose labels tell much of each other: so of the training rows, and of those that are kept out, every one is left out
whose two texts are a held-out pair of any task, and of the training rows also those whose texts are kept out.

All train for the same number of epochs, and nothing chooses among checkpoints: judged is the average of the weights
in the end, so that none can gain by a choice on few rows, or lose by one that looks at other figures than those that
it is measured by. Of the rates that one is taken which has the best average precision on the rows kept out, a mean
over the tasks, which are those of the rows even for the model that is not told them. Average precision and not F1: it
needs no threshold, of which the best one on so few rows is a matter of luck, and it changes with every pair's place.

Then F1 on valid.txt, which nothing was chosen on: of each task, F1_A and F1_B over the rows of all loose and of all
strict tasks, and their mean. Once as the contest has it, the larger of two classes; and once with a threshold for each
task, chosen on the rows that were kept out, which the overlap has anyway and which lets even a model that is not told
the task do different things for different tasks.

By how much the one matcher is better than each of the others, is a mean over the seeds; its standard error is that of
held-out pairs drawn anew, with replacement and within their tasks, the same ones for both, and of seeds drawn anew for
each of the two. It takes pairs as independent, though some share a text, and so is rather too small.

Limits. The same number of epochs are few steps for a model of a task with few rows, whose average has still much of
its beginning, and the rows kept out of such a task have few matches to choose a threshold by; the JSON says how many.
Six models share a rate; and where the best rate is the lowest or the highest of those tried, a still lower or higher
one may be better.

And how reliable the one matcher's probabilities are on these rows (first seed, rate as chosen): the share of matches
by probability, the expected calibration error, the probabilities of pairs that match and of those that do not.

Started again with the same --output, it goes on with what is missing; a training that was made otherwise, of another
encoder, of other rows or with other options, is an error. Writes benchmarks/results/matcher_tasks.json
after each contender, and docs/matcher_reliability.svg; with --quick, a few rows, figures that tell nothing and no
file.
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
    from kexue_hf.evaluation.matching import best_threshold

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
    from kexue_hf.evaluation.matching import matching_figures

    expected, tasks = labels_and_tasks(rows, names)
    found = matching_figures(above(rows, scores, at), expected, tasks, names)
    return {name: round(value, 4) for name, value in found.items()}


def labels_and_tasks(rows: Sequence[Any], names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row.label for row in rows]), np.array([names.index(row.task) for row in rows])


def differences(
    rows: Sequence[Any], one: Sequence[np.ndarray], other: Sequence[np.ndarray], names: list[str]
) -> dict[str, dict[str, float]]:
    """By how much one contender's figures are larger than another's, each given by its predictions with each seed.

    Pairs and seeds are drawn anew for the standard error; of n seeds n - 1, for the mean of n that were drawn from n
    varies too little, by 1 / n of the variance.
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
    """Of each task, those of one standard beside each other: how reliable the probabilities are."""
    from kexue_hf.evaluation.matching import reliability, standard_of

    found = {}
    for name in sorted(names, key=lambda name: (standard_of(name) or "", names.index(name))):
        own = [(score, row.label) for row, score in zip(rows, scores, strict=True) if row.task == name]
        found[name] = asdict(reliability(*(np.array(side) for side in zip(*own, strict=True))))
    return found


def keep(result: Mapping[str, Any]) -> None:
    """Write the result, and draw of it what there is to be drawn."""
    from kexue_hf.evaluation.matching import Reliability
    from kexue_hf.evaluation.reliability_picture import draw_reliability

    write_result("matcher_tasks", result)
    tasks = result.get("reliability", {}).get("tasks")
    if tasks:
        draw_reliability({name: Reliability(**found) for name, found in tasks.items()}, PICTURE)


def lines_of(rows: Sequence[Any], task: str | None = None) -> str:
    """As jsonl, all of one task if that is given."""
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
    """A matcher in `folder`/model, what its training tells in `folder`/report.json, and what it was made of and how in
    `folder`/made.json; unless they are there.

    Raises:
        InputError: what is there was made otherwise.
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
    """Raise InputError if the training in `folder` was made otherwise."""
    from kexue_hf.errors import InputError

    path = folder / "made.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    other = [
        f"{name} {found.get(name, 'none'):.12} (now {made.get(name, 'none'):.12})"
        for name in {**made, **found}
        if found.get(name) != made.get(name)
    ]
    if other:
        raise InputError(f"{folder} holds a training of another kind, {', '.join(other)}: name another --output")


@functools.cache
def digest_of(folder: Path) -> str:
    """Of all files of a folder, their names and what is in them."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        found.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    return found.hexdigest()


def plain(options: argparse.Namespace) -> Path:
    """A copy of the encoder's folder from which a matcher of one task starts without conditions.

    Raises:
        InputError: the encoder is a matcher, which has conditions already.
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
    """The contender trained at a rate with a seed: size, time, average precision on the rows kept out, F1 on the
    held-out ones, and of these how reliable the probabilities are."""
    from kexue_hf.evaluation.matching import probability_figures

    how = [f"--learning_rate={rate}", f"--seed={seed}"]
    model = options.model if contender == ONE else plain(options)
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
            mean, error = mean_and_error(values)
            found[kind][name] = {"mean": mean, "standard error": error, "all": values}
    found["training seconds"] = round(statistics.median(run["training seconds"] for run in runs), 1)
    return found


def divided(options: argparse.Namespace) -> tuple[dict[str, list[Any]], dict[str, dict[str, int]]]:
    """Rows to train on, kept out, and held out, no pair of texts in two of these parts, of whatever tasks; and how
    many rows of each task were left out of a part for that."""
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
    """The two texts, in whichever order, and whatever the spaces and the width and case of letters in them."""
    return frozenset(
        "".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (row.text_a, row.text_b)
    )


def training_of(model: Path) -> Any:
    """What benchmarks/matcher_encoder.py says of the encoder, None for another one."""
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
    # By kind of decision, then by contender; overlap has no likelier class.
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
        # Of the same rows in the same order: they were divided task by task, as six models judge them.
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
