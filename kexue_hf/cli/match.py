"""`kexue-hf match`: the probability that two texts match, by each task of a matcher.

Files of any size are read in chunks of a bounded number of pairs and characters (at least one pair). Output line n is
the result of input line n.
"""

import collections
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kexue_hf.cli.error_messages import readable_errors
from kexue_hf.cli.match_rows import FIELDS, Row, labelled_pairs, pairs_of_lines, pairs_of_objects
from kexue_hf.cli.options import BatchTokens, Device, Dtype, NoProgress, ResultFile, Resume
from kexue_hf.cli.result_output import (
    counted,
    one_line,
    print_summary,
    print_wrote,
    results_sink,
    text_sink,
    unfinished_rows,
    with_progress,
)
from kexue_hf.cli.run_facts import resume_facts
from kexue_hf.cli.text_input import input_suffix, note_if_empty
from kexue_hf.errors import InputError, printable

if TYPE_CHECKING:
    from kexue_hf.evaluation.matching import Reliability

_PAIRS_AT_ONCE = 1024
_TWO_FILES = "--files A.txt B.txt, two files separated by a space"
# Columns of the table of --evaluate, after the number of pairs and the share of matches.
_COLUMNS = ("f1", "best f1", "best threshold", "average precision", "calibration error")
# Hints for the error that an option got fewer than two values.
TWO_VALUES = {"--files": _TWO_FILES, "--columns": "--columns source target, two names separated by a space"}


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("match")(match_command)


def match_command(
    model: Annotated[
        str,
        typer.Argument(help="A matcher, or another two-class classifier of pairs: a folder, or a name on the Hub."),
    ],
    text_a: Annotated[str | None, typer.Argument(help="First text of one pair.", show_default=False)] = None,
    text_b: Annotated[str | None, typer.Argument(help="Second text of the pair.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Pairs, one JSON object per line with `text_a`, `text_b` and optionally `task`; or a .csv or .tsv "
            "table. .jsonl, .txt, .csv, .tsv, optionally .gz; - for stdin (not with --evaluate).",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two .txt files, optionally .gz: line n of one and line n of the other are a pair."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Name or id of the task to judge by. Can be repeated.", show_default="the pair's, or all"),
    ] = None,
    output: ResultFile = None,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate",
            help="Print the F1 of each task. Rows of FILE need a `label`, 0 or 1. FILE can also be a file of the Sohu "
            "contest, the folder of one of its tasks, or the folder of all (valid.txt is read). With --task, only "
            "rows of TASK count; rows of a single task that the model does not have are all judged by TASK.",
        ),
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="With --evaluate, write a reliability diagram of each task: NAME.svg, .png or .pdf. Needs "
            "matplotlib.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        tuple[str, str] | None, typer.Option(help="Columns of the two texts in FILE.", show_default="text_a text_b")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Maximum tokens of a pair; the longer text of a longer pair is cut.", show_default="the model's limit"
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = None,
    as_json: Annotated[bool, typer.Option("--json", help="With --evaluate: print the figures as JSON.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT and PICTURE once the new files are complete.")
    ] = False,
    resume: Resume = False,
    quiet: NoProgress = False,
) -> None:
    """Print the probability that two texts match, by one task of a matcher or by all."""
    started = time.perf_counter()
    if files is not None and any(_is_not_a_file_name(path) for path in files):
        raise InputError(f"expected {_TWO_FILES}; got {files[0]} and {files[1]}")
    inputs = [text_a is not None, file is not None, files is not None]
    if sum(inputs) != 1:
        raise InputError(f"expected two texts, --file PAIRS.jsonl or {_TWO_FILES}")
    if text_a is not None and text_b is None:
        raise InputError("a pair needs two texts, got one; name files with --file or --files")
    without_effect = {
        "--evaluate without --file": evaluate and file is None,
        "--picture without --evaluate": picture is not None and not evaluate,
        "--json without --evaluate": as_json and not evaluate,
        "--columns without --file": columns is not None and file is None,
        "--columns with --evaluate": columns is not None and evaluate,
    }
    for options, given in without_effect.items():
        if given:
            raise InputError(f"{options} has no effect; leave it out")
    if evaluate and task is not None and len(task) > 1:
        raise InputError(f"--evaluate takes one --task, got {len(task)}")
    if evaluate and resume:
        raise InputError("--resume does not work with --evaluate, which needs all rows; leave one of them out")
    if evaluate and str(file) == "-":
        raise InputError("--evaluate cannot read stdin (-); name a file or folder with --file")
    if file is not None and not evaluate:
        input_suffix(file, (".jsonl", ".csv", ".tsv", ".txt"))
    for path in files or ():
        input_suffix(path, (".txt",))
    if picture is not None:
        from kexue_hf.evaluation.reliability_picture import check_picture

        check_picture(picture, overwrite=overwrite)
    if files is not None and [str(path) for path in files] == ["-", "-"]:
        raise InputError("only one of the two files can be stdin (-)")
    facts = resume_facts(
        "match", model, task=task, max_length=max_length, device=device, dtype=dtype, batch_tokens=batch_tokens
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        # The rows of --evaluate have another format and cannot be resumed.
        sink = stack.enter_context(
            text_sink(output, overwrite, (".jsonl",)) if evaluate else results_sink(output, overwrite, resume, facts)
        )

        from kexue_hf.batch.model_loading import load_text_matcher
        from kexue_hf.files.quiet_loading import quiet_libraries
        from kexue_hf.pipelines.text_matching import match_texts, task_names, task_numbers
        from kexue_hf.pipelines.text_pairs import TextPair, read_pair

        network, tokenizer = load_text_matcher(model, device, dtype)
        stack.enter_context(quiet_libraries())
        names = task_names(network)
        if task:
            # A task's name may itself be a number.
            named = [int(word) if word.isdecimal() and word not in names else word for word in task]
            task = [names[number] for number in task_numbers(named, names)]
        rows: Iterator[Row]
        if files is not None:
            rows = pairs_of_lines(*files)
        elif evaluate:
            assert file is not None  # checked above
            judge = task or (names if len(names) == 1 else [])
            rows = labelled_pairs(file, names, judge[0] if judge else None, quiet)
        elif file is not None:
            rows = pairs_of_objects(file, columns or FIELDS, None if task else names)
        else:
            rows = iter([(read_pair(TextPair(text_a or "", text_b or "")), None)])
        pending: collections.deque[Row] = collections.deque()
        rest = unfinished_rows(rows, sink, (network, tokenizer), _chunks, quiet)
        found = match_texts(
            network,
            tokenizer,
            _queued(rest, pending),
            task or None,
            max_length=max_length,
            batch_tokens=batch_tokens,
            pairs_at_once=_PAIRS_AT_ONCE,
            pairs_done=getattr(sink, "rows", 0),
        )
        judged: list[tuple[str, float, int]] = []
        to_text, written = _formatter(output, evaluate), getattr(sink, "rows", 0)
        for probabilities in with_progress(found, None, quiet, network):
            pair, label = pending.popleft()
            written += 1
            if label is not None:
                judged.append((*next(iter(probabilities.items())), label))
            sink.write(to_text({"text_a": pair.text_a, "text_b": pair.text_b, "probabilities": probabilities}))
    if file is not None or files is not None:
        note_if_empty(written, "pairs", files or [Path(str(file))], quiet)
    if written:
        print_summary(counted(written, "pairs"), output, started, quiet)
    if evaluate:
        reliabilities = _print_figures(judged, names, as_json)
        if picture is not None:
            from kexue_hf.evaluation.reliability_picture import draw_reliability

            draw_reliability(reliabilities, picture, overwrite=overwrite)
            print_wrote(picture, quiet)


def _is_not_a_file_name(path: Path) -> bool:
    """Return whether a value of --files is another option, or names separated by commas."""
    text = str(path)
    return (text.startswith("-") and text != "-") or ("," in text and not path.exists())


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Split the rows as `match_texts` splits their pairs."""
    from kexue_hf.pipelines.chunks import MAX_CHARACTERS, chunks

    return chunks(rows, _PAIRS_AT_ONCE, MAX_CHARACTERS, lambda row: len(row[0].text_a) + len(row[0].text_b))


def _queued(rows: Iterable[Row], pending: "collections.deque[Row]") -> Iterator[Any]:
    """Yield the pairs, and queue each row until its result arrives, which is several pairs later."""
    for row in rows:
        pending.append(row)
        yield row[0]


def _formatter(output: Path | None, evaluate: bool) -> Callable[[dict[str, Any]], str]:
    """Return the function that converts a result to the text to write."""
    if output is None and evaluate:
        return lambda result: ""
    if output is None and sys.stdout.isatty():
        return _readable
    return lambda result: json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n"


def _readable(result: dict[str, Any]) -> str:
    lines = [f"{one_line(result['text_a'])} | {one_line(result['text_b'])}\n"]
    lines += [f"  {value:.3f}  {printable(task)}\n" for task, value in result["probabilities"].items()]
    return "".join(lines)


def _print_figures(
    judged: list[tuple[str, float, int]], names: Sequence[str], as_json: bool
) -> "dict[str, Reliability]":
    """Print the figures of `probability_figures` and the calibration errors; return each task's Reliability."""
    import numpy as np

    from kexue_hf.evaluation.matching import probability_figures, reliability

    values = np.array([value for _, value, _ in judged])
    labels = np.array([label for _, _, label in judged])
    tasks = np.array([names.index(task) for task, _, _ in judged])
    figures: dict[str, Any] = {"pairs": len(judged), **probability_figures(values, labels, tasks, names)}
    reliabilities = {}
    for number, name in enumerate(names):
        of_task = tasks == number
        if of_task.any():
            reliabilities[name] = reliability(values[of_task], labels[of_task])
            figures[f"calibration error of {name}"] = reliabilities[name].calibration_error
    if as_json:
        typer.echo(json.dumps(figures, ensure_ascii=False))
        return reliabilities
    typer.echo(_line("pairs", "matches", *_COLUMNS, "task"))
    for number, name in enumerate(names):
        task_labels = labels[tasks == number]
        if len(task_labels):
            row = [task_labels.mean(), *(figures.get(f"{column} of {name}") for column in _COLUMNS)]
            cells = ["-" if value is None else f"{value:.3f}" for value in row]
            typer.echo(_line(f"{len(task_labels):,}", *cells, printable(name)))
    for name in ("f1_A", "f1_B", "f1", "average precision"):
        if name in figures and (len(reliabilities) > 1 or name == "f1"):
            typer.echo(f"{name}: {figures[name]:.3f}")
    return reliabilities


def _line(*cells: str) -> str:
    """Return a row of the table of --evaluate."""
    heads = ("pairs", "matches", *_COLUMNS)
    return "  ".join([*(f"{cell:>{max(len(head), 7)}}" for cell, head in zip(cells, heads, strict=False)), cells[-1]])
