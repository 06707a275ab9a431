"""Readers of the text pairs that `kexue-hf match` judges."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from kexue_hf.cli.text_input import places_and_lines, places_and_rows
from kexue_hf.errors import InputError, printable

# A TextPair, and its label (1 or 0) if it has one.
Row = tuple[Any, int | None]
FIELDS = ("text_a", "text_b")
_CONTEST_FIELDS = ("source", "target")


def pairs_of_lines(first: Path, second: Path) -> Iterator[Row]:
    """Yield the pairs of two files: line n of one with line n of the other.

    Raises:
        InputError: a file has fewer lines, or a line is empty.
    """
    from kexue_hf.pipelines.text_pairs import TextPair, is_blank

    both = itertools.zip_longest(places_and_lines(first), places_and_lines(second))
    for number, (line_a, line_b) in enumerate(both):
        if line_a is None or line_b is None:
            shorter, longer = (first, second) if line_a is None else (second, first)
            raise InputError(f"{shorter} has {number} lines, {longer} has more: expected line n of both to be a pair")
        for place, text in (line_a, line_b):
            if is_blank(text):
                raise InputError(f"{place}: is empty; a pair needs two texts")
        yield TextPair(line_a[1], line_b[1]), None


def pairs_of_objects(file: Path, columns: tuple[str, str], names: Sequence[str] | None) -> Iterator[Row]:
    """Yield the pairs of a file of objects.

    Args:
        columns: names of the two text columns.
        names: the tasks that a pair may name; None to ignore the pairs' own tasks.

    Raises:
        InputError: a row is invalid; the message names the file and the line.
    """
    from kexue_hf.pipelines.text_matching import task_numbers
    from kexue_hf.pipelines.text_pairs import read_pair

    for place, row in places_and_rows(file):
        if row is None:
            raise InputError(f"{place}: is empty; expected a JSON object with {' and '.join(columns)}")
        if not isinstance(row, dict):
            raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}")
        if columns == FIELDS and row.keys().isdisjoint(FIELDS) and row.keys() >= set(_CONTEST_FIELDS):
            raise InputError(f"{place}: has source and target, not text_a and text_b: add --columns source target")
        for name in columns:
            if name not in row:
                found = printable(", ".join(map(str, row)), 80) or "nothing"
                raise InputError(f"{place}: no column {name!r}, only {found}; name both: --columns FIRST SECOND")
        pair = read_pair(row, place, columns)
        if pair.task is not None and names is not None:
            try:
                task_numbers([pair.task], names)
            except ValueError as error:
                raise InputError(f"{place}: {error}") from None
        yield pair, None


def labelled_pairs(file: Path, names: Sequence[str], judge: str | None, quiet: bool) -> Iterator[Row]:
    """Return the pairs and labels of a file or folder.

    Args:
        names: the model's tasks.
        judge: the task to judge all rows by; None judges each row by its own task.
        quiet: print no note on rows that are left out or judged by a task of another name.

    Raises:
        InputError: a row is invalid, or `judge` is given and the file has rows of several other tasks.
    """
    from kexue_hf.corpora.matching_rows import read_matching_rows, tasks_of
    from kexue_hf.pipelines.text_pairs import TextPair

    rows, note = read_matching_rows([file], "valid", None if judge else names, judge), ""
    found = tasks_of(rows)
    if judge in found and len(found) > 1:
        kept = [row for row in rows if row.task == judge]
        note = f"{file}: {len(rows) - len(kept):,} rows of tasks other than {judge!r} are left out"
        rows = kept
    elif judge is not None and judge not in found:
        if len(found) > 1 or found[0] in names:
            raise InputError(
                f"{file} has rows of {', '.join(map(repr, found))} and none of {judge!r}: name a file or folder with "
                "rows of that task, or of a single task that the model does not have"
            )
        note = f"{file}: rows of {found[0]!r} are judged by {judge!r}"
    if note and not quiet:
        typer.echo(note, err=True)
    return ((TextPair(row.text_a, row.text_b, judge or row.task), row.label) for row in rows)
