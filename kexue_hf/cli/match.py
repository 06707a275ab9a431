"""`kexue-hf match`: do two texts match, by each of a matcher's standards?

Files of any size are read in pieces of a bounded number of pairs and characters (but always at least one pair); output
line n is input line n's.
"""

import collections
import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kexue_hf.cli.options import AsJson, BatchTokens, Device, Dtype, NoProgress, ResultFile, Resume
from kexue_hf.cli.text_io import (
    facts_of,
    input_form,
    objects_of,
    one_line,
    places_and_lines,
    readable_errors,
    rest_of,
    results_sink,
    say_if_empty,
    text_sink,
    with_progress,
)
from kexue_hf.errors import InputError, printable

if TYPE_CHECKING:
    from kexue_hf.evaluation.matching import Reliability

_PAIRS_AT_ONCE = 1024
_FIELDS = ("text_a", "text_b")
_CONTEST = ("source", "target")
_TWO_FILES = "--files A.txt B.txt, two files with a space between"
# Of the table of --evaluate, behind the number of pairs and the share of matches.
_COLUMNS = ("f1", "best f1", "best threshold", "average precision", "calibration error")
# What to say besides where the option got fewer values than it has.
TWO_VALUES = {"--files": _TWO_FILES, "--columns": "--columns source target, two names with a space between"}
# A pair, and 1 or 0 where that is known.
_Row = tuple[Any, int | None]


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("match")(match_command)


def match_command(
    model: Annotated[
        str,
        typer.Argument(help="A matcher, or a classifier of pairs with two classes: a folder, or a name on the Hub."),
    ],
    text_a: Annotated[str | None, typer.Argument(help="One text,", show_default=False)] = None,
    text_b: Annotated[str | None, typer.Argument(help="and the other.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Pairs, a JSON object a line: `text_a`, `text_b`, perhaps the `task` that the pair is to be judged "
            "by. .jsonl, .csv, .tsv or .txt, perhaps .gz; - for stdin (not with --evaluate).",
            show_default=False,
        ),
    ] = None,
    files: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Two files of lines, .txt, perhaps .gz: line n of one and line n of the other are a pair."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="By which task, its name or its id; may be given again.", show_default="the pair's own, or all"
        ),
    ] = None,
    output: ResultFile = None,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate",
            help="Print the F1 of each task. Each row of FILE has a `label`, 0 or 1, too; or FILE is the contest's, a "
            "folder of it, or the folder of all (of which valid.txt is read). With --task, only that task's rows "
            "count; if all are of one that the model has not, they are judged by TASK.",
        ),
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="With --evaluate: how reliable the probabilities of each task are, a picture to make, NAME.svg, .png "
            "or .pdf; needs matplotlib.",
            show_default=False,
        ),
    ] = None,
    columns: Annotated[
        tuple[str, str] | None, typer.Option(help="Where the texts are in FILE.", show_default="text_a text_b")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Tokens of a pair; of one that has more, the longer text is cut.", show_default="what the model takes"
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = 8192,
    as_json: AsJson = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT and PICTURE once complete.")] = False,
    resume: Resume = False,
    quiet: NoProgress = False,
) -> None:
    """The probability that two texts match, by one task of a matcher or all."""
    if files is not None and any(_is_no_file(one) for one in files):
        raise InputError(f"expected {_TWO_FILES}; got {files[0]} and {files[1]}")
    given = [text_a is not None, file is not None, files is not None]
    if sum(given) != 1:
        raise InputError(f"give either two texts, --file PAIRS.jsonl or {_TWO_FILES}")
    if text_a is not None and text_b is None:
        raise InputError("a pair needs two texts, got one; files go with --file or --files")
    useless = {
        "--evaluate without --file": evaluate and file is None,
        "--picture without --evaluate": picture is not None and not evaluate,
        "--json without --evaluate": as_json and not evaluate,
        "--columns without --file": columns is not None and file is None,
        "--columns with --evaluate": columns is not None and evaluate,
    }
    for what, wrong in useless.items():
        if wrong:
            raise InputError(f"{what} has no effect; leave it out")
    if evaluate and task is not None and len(task) > 1:
        raise InputError("--evaluate takes --task once: what the labels of rows without a task are of")
    if evaluate and resume:
        raise InputError("--resume cannot go on with --evaluate, which needs all rows; leave one of them out")
    if evaluate and str(file) == "-":
        raise InputError("--evaluate reads a file or a folder, which --file names, not stdin (-)")
    if file is not None and not evaluate:
        input_form(file, (".jsonl", ".csv", ".tsv", ".txt"))
    for one in files or ():
        input_form(one, (".txt",))
    if picture is not None:
        from kexue_hf.evaluation.reliability_picture import check_picture

        check_picture(picture, overwrite=overwrite)
    if files is not None and [str(one) for one in files] == ["-", "-"]:
        raise InputError("stdin (-) can be one of the two files only")
    facts = facts_of(
        "match", model, task=task, max_length=max_length, device=device, dtype=dtype, batch_tokens=batch_tokens
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        # The rows of a judgement are of another form, and none goes on with them.
        sink = stack.enter_context(
            text_sink(output, overwrite, (".jsonl",)) if evaluate else results_sink(output, overwrite, resume, facts)
        )

        from kexue_hf.cli.model_loading import load_text_matcher, quiet_libraries
        from kexue_hf.pipelines.text_matching import match_texts, task_names, task_numbers
        from kexue_hf.pipelines.text_pairs import TextPair, read_pair

        network, tokenizer = load_text_matcher(model, device, dtype)
        stack.enter_context(quiet_libraries())
        names = task_names(network)
        if task:
            # A name may be a number, too.
            known = [int(word) if word.isdecimal() and word not in names else word for word in task]
            task = [names[number] for number in task_numbers(known, names)]
        rows: Iterator[_Row]
        if files is not None:
            rows = _lines_of(*files)
        elif evaluate:
            assert file is not None  # looked at above
            judge = task or (names if len(names) == 1 else [])
            rows = _labelled(file, names, judge[0] if judge else None, quiet)
        elif file is not None:
            rows = _objects_of(file, columns or _FIELDS, None if task else names)
        else:
            rows = iter([(read_pair(TextPair(text_a or "", text_b or "")), None)])
        read: collections.deque[_Row] = collections.deque()
        rest = rest_of(rows, sink, (network, tokenizer), _pieces, quiet)
        found = match_texts(
            network,
            tokenizer,
            _noted(rest, read),
            task or None,
            max_length=max_length,
            batch_tokens=batch_tokens,
            pairs_at_once=_PAIRS_AT_ONCE,
            pairs_done=getattr(sink, "rows", 0),
        )
        judged: list[tuple[str, float, int]] = []
        show, written = _form(output, evaluate), getattr(sink, "rows", 0)
        for probabilities in with_progress(found, None, quiet, network):
            pair, label = read.popleft()
            written += 1
            if label is not None:
                judged.append((*next(iter(probabilities.items())), label))
            sink.write(show({"text_a": pair.text_a, "text_b": pair.text_b, "probabilities": probabilities}))
    if file is not None or files is not None:
        say_if_empty(written, "pairs", files or [Path(str(file))], quiet)
    if evaluate:
        reliable = _print_figures(judged, names, as_json)
        if picture is not None:
            from kexue_hf.evaluation.reliability_picture import draw_reliability

            draw_reliability(reliable, picture, overwrite=overwrite)


def _is_no_file(path: Path) -> bool:
    """Whether what stands for a file is an option, or several names with commas."""
    text = str(path)
    return (text.startswith("-") and text != "-") or ("," in text and not path.exists())


def _pieces(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """The rows as `match_texts` takes their pairs together."""
    from kexue_hf.pipelines.chunks import MAX_CHARACTERS, chunks

    return chunks(rows, _PAIRS_AT_ONCE, MAX_CHARACTERS, lambda row: len(row[0].text_a) + len(row[0].text_b))


def _noted(rows: Iterable[_Row], read: "collections.deque[_Row]") -> Iterator[Any]:
    """The pairs, each noted before it is given on: they are read further ahead than results come."""
    for row in rows:
        read.append(row)
        yield row[0]


def _lines_of(first: Path, second: Path) -> Iterator[_Row]:
    from kexue_hf.pipelines.text_pairs import TextPair, is_blank

    both = itertools.zip_longest(places_and_lines(first), places_and_lines(second))
    for number, (one, other) in enumerate(both):
        if one is None or other is None:
            ended, longer = (first, second) if one is None else (second, first)
            raise InputError(f"{ended} has {number} lines, {longer} has more: line n of both is a pair")
        for place, text in (one, other):
            if is_blank(text):
                raise InputError(f"{place}: is empty; a pair needs two texts")
        yield TextPair(one[1], other[1]), None


def _objects_of(file: Path, columns: tuple[str, str], names: Sequence[str] | None) -> Iterator[_Row]:
    """The pairs of a file; what is wrong is said with file and line.

    Args:
        names: which tasks the pairs may have; None if theirs are not asked for.
    """
    from kexue_hf.pipelines.text_matching import task_numbers
    from kexue_hf.pipelines.text_pairs import read_pair

    for place, row in objects_of(file):
        if row is None:
            raise InputError(f"{place}: is empty; expected a JSON object with {' and '.join(columns)}")
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}")
        if columns == _FIELDS and not any(name in row for name in _FIELDS) and all(map(row.__contains__, _CONTEST)):
            raise InputError(f"{place}: has source and target, not text_a and text_b: add --columns source target")
        for name in columns:
            if name not in row:
                found = printable(", ".join(map(str, row)), 80) or "nothing"
                raise InputError(f"{place}: has no column {name!r}, only {found}; name both: --columns FIRST SECOND")
        pair = read_pair(row, place, columns)
        if pair.task is not None and names is not None:
            try:
                task_numbers([pair.task], names)
            except ValueError as error:
                raise InputError(f"{place}: {error}") from None
        yield pair, None


def _labelled(file: Path, names: Sequence[str], judge: str | None, quiet: bool) -> Iterator[_Row]:
    """The pairs and labels of a file or folder.

    Args:
        names: the model's tasks. judge: the one that all rows are judged by; None: each by its own.
        quiet: whether not to say that rows are left out, or of a task with another name.
    """
    from kexue_hf.corpora.matching_rows import read_matching_rows, tasks_of
    from kexue_hf.pipelines.text_pairs import TextPair

    rows, said = read_matching_rows([file], "valid", None if judge else names, judge), ""
    found = tasks_of(rows)
    if judge in found and len(found) > 1:
        kept = [row for row in rows if row.task == judge]
        said = f"{file}: {len(rows) - len(kept):,} rows of other tasks than {judge!r} are left out"
        rows = kept
    elif judge is not None and judge not in found:
        if len(found) > 1 or found[0] in names:
            raise InputError(
                f"{file} has rows of {', '.join(map(repr, found))} and none of {judge!r}, by which they would be "
                "judged: name the file or folder of a single task that the model has under another name"
            )
        said = f"{file}: rows of {found[0]!r} are judged by {judge!r}"
    if said and not quiet:
        typer.echo(said, err=True)
    return ((TextPair(row.text_a, row.text_b, judge or row.task), row.label) for row in rows)


def _form(output: Path | None, evaluate: bool) -> Callable[[dict[str, Any]], str]:
    """What is written of a result."""
    if output is None and evaluate:
        return lambda result: ""
    if output is None and sys.stdout.isatty():
        return _shown
    return lambda result: json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n"


def _shown(result: dict[str, Any]) -> str:
    lines = [f"{one_line(result['text_a'])} | {one_line(result['text_b'])}\n"]
    lines += [f"  {value:.3f}  {printable(task)}\n" for task, value in result["probabilities"].items()]
    return "".join(lines)


def _print_figures(
    judged: list[tuple[str, float, int]], names: Sequence[str], as_json: bool
) -> "dict[str, Reliability]":
    """What `probability_figures` has, and how far the probabilities are off, which is returned."""
    import numpy as np

    from kexue_hf.evaluation.matching import probability_figures, reliability

    values = np.array([value for _, value, _ in judged])
    labels = np.array([label for _, _, label in judged])
    tasks = np.array([names.index(task) for task, _, _ in judged])
    figures: dict[str, Any] = {"pairs": len(judged), **probability_figures(values, labels, tasks, names)}
    reliable = {}
    for number, name in enumerate(names):
        own = tasks == number
        if own.any():
            reliable[name] = reliability(values[own], labels[own])
            figures[f"calibration error of {name}"] = reliable[name].calibration_error
    if as_json:
        typer.echo(json.dumps(figures, ensure_ascii=False))
        return reliable
    typer.echo(_line("pairs", "matches", *_COLUMNS, "task"))
    for number, name in enumerate(names):
        own = labels[tasks == number]
        if len(own):
            found = [own.mean(), *(figures.get(f"{what} of {name}") for what in _COLUMNS)]
            shown = ["-" if value is None else f"{value:.3f}" for value in found]
            typer.echo(_line(f"{len(own):,}", *shown, printable(name)))
    for name in ("f1_A", "f1_B", "f1", "average precision"):
        if name in figures and (len(reliable) > 1 or name == "f1"):
            typer.echo(f"{name}: {figures[name]:.3f}")
    return reliable


def _line(*cells: str) -> str:
    """Of the table of --evaluate."""
    heads = ("pairs", "matches", *_COLUMNS)
    return "  ".join([*(f"{cell:>{max(len(head), 7)}}" for cell, head in zip(cells, heads, strict=False)), cells[-1]])
