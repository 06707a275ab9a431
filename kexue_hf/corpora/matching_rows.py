"""Read pairs of texts that match or do not, each by the standard of a task.

There are two formats. The contest (Sohu 2021, https://kexue.fm/archives/8337) has a folder for each task, such as
短短匹配A类, with train.txt and valid.txt, whose lines are {"source": text, "target": text, "labelA": "0" or "1"}, or
labelB. All other data are .jsonl files of {"text_a": text, "text_b": text, "task": name, "label": 0 or 1}.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_hf.corpora.text_files import read_objects, text_of
from kexue_hf.errors import InputError
from kexue_hf.pipelines.text_pairs import is_blank

CONTEST_LABELS = ("labelA", "labelB")
EXPECTED = (
    "expected a .jsonl of text_a, text_b, task, label; or a contest file of source, target, labelA or labelB, the "
    "folder of a task, or a folder of such folders"
)
_VALUES = {"0": 0, "1": 1}
# Matches 短短匹配A类 and pairs_B, but not QA, CB or STS-B, whose letter is part of a word.
_STANDARD = re.compile(r"(?:^|[_ ]|[^\x00-\x7f])([AB])类?$")


@dataclass(frozen=True, slots=True)
class MatchingRow:
    """Two texts that match (`label` 1) or do not (0) by the standard of `task`."""

    text_a: str
    text_b: str
    task: str
    label: int


def read_matching_rows(
    names: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    part: str = "train",
    task_names: Sequence[str] | None = None,
    default: str | None = None,
) -> list[MatchingRow]:
    """Return the rows of files and folders, in the given order.

    The task folders inside a folder are read in the order of their names, which for the contest is that of the
    original's task ids.

    Args:
        names: one name or several: files of either format, folders with `part`.txt (the folder's name is the task),
            or folders of such folders.
        part: train or valid.
        task_names: the allowed tasks; with a single one, .jsonl rows need not name it.
        default: the task of .jsonl rows that name none.

    Raises:
        InputError: there is no such file or folder; `task_names` is a single string; or a row is invalid: a text or
            the label is missing, a text is empty, a label is not 0 or 1 or does not belong to the folder, or the task
            is unknown. The message names file and line.
    """
    rows: list[MatchingRow] = []
    for name in [names] if isinstance(names, str | os.PathLike) else names:
        before = len(rows)
        for path in _files(Path(name), part):
            rows += _rows(path, task_names, default)
        if len(rows) == before:
            raise InputError(f"{name} holds no rows; {EXPECTED}")
    return rows


def tasks_of(rows: Iterable[MatchingRow]) -> list[str]:
    """Return the tasks that occur, sorted by name. This is the default order of task ids."""
    return sorted({row.task for row in rows})


def standard_of(task: str) -> str | None:
    """Return A or B if the task's name ends with that letter as a separate word, or with it and 类; else None."""
    found = _STANDARD.search(task)
    return found[1] if found else None


def _files(path: Path, part: str) -> list[Path]:
    if not path.is_dir():
        return [path]
    file = f"{part}.txt"
    if (path / file).is_file():
        return [path / file]
    files = sorted(folder / file for folder in path.iterdir() if (folder / file).is_file())
    if not files:
        raise InputError(f"{path}: neither it nor a folder in it holds {file}; {EXPECTED}")
    return files


def _rows(path: Path, task_names: Sequence[str] | None, default: str | None) -> Iterator[MatchingRow]:
    # abspath resolves "..", but not links, whose own name is the task.
    folder = Path(os.path.abspath(path)).parent.name
    for place, row in read_objects(path):
        yield matching_row(row, place, task_names, folder, default)


def matching_row(
    row: Any,
    place: str,
    task_names: Sequence[str] | None = None,
    folder: str | None = None,
    default: str | None = None,
) -> MatchingRow:
    """Return the row of a JSON object.

    Args:
        row: the object, in either format.
        place: file and line, for messages.
        task_names, default: as in `read_matching_rows`.
        folder: the task of a row in the contest's format; None allows only the other format.

    Raises:
        InputError: as `read_matching_rows`.
    """
    if isinstance(task_names, str):
        # Iterating would make each letter a task.
        raise InputError(f"task_names must be a list of names, got the string {task_names!r:.60}")
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}")
    # A .jsonl data set may have an additional column called source.
    contest = "text_a" not in row and any(name in row for name in ("source", *CONTEST_LABELS))
    if folder is not None and contest:
        columns, task = ("source", "target"), folder
        label = _contest_label(row, place, folder)
    else:
        columns, task = ("text_a", "text_b"), _task(row, task_names, default, place)
        label = _label(row, "label", place)
    if task_names is not None and task not in task_names:
        raise InputError(f"{place}: unknown task {task!r:.60}; known are {', '.join(map(repr, task_names))}")
    first, second = (_text(row, column, place) for column in columns)
    return MatchingRow(first, second, task, label)


def _contest_label(row: dict[str, Any], place: str, folder: str) -> int:
    found = [name for name in CONTEST_LABELS if row.get(name) is not None]
    if len(found) == 2:
        raise InputError(f"{place}: has both labelA and labelB, expected one of them")
    if not found:
        raise InputError(f"{place}: no label: expected labelA or labelB, found only {_listed(row)}")
    standard = standard_of(folder)
    if standard is not None and found[0] != f"label{standard}":
        raise InputError(f"{place}: has {found[0]}, but is in the folder {folder}, whose rows have label{standard}")
    return _label(row, found[0], place)


def _label(row: dict[str, Any], column: str, place: str) -> int:
    if row.get(column) is None:
        raise InputError(f"{place}: no label: expected the column {column!r}, found only {_listed(row)}")
    value = row[column]
    # 1.0 and true are refused: they probably mean something else, such as a score.
    known = _VALUES.get(value) if isinstance(value, str) else value if type(value) is int else None
    if known not in (0, 1):
        raise InputError(f"{place}: {column!r} must be 0 or 1, got {json.dumps(value, ensure_ascii=False):.60}")
    return known


def _task(row: dict[str, Any], task_names: Sequence[str] | None, default: str | None, place: str) -> str:
    task = row.get("task")
    if default is None and task_names is not None and len(task_names) == 1:
        default = task_names[0]
    if task is None and default is not None:
        return default
    # An invisible space at either end must not make a new task.
    spaced = isinstance(task, str) and task != task.strip() and task not in (task_names or ())
    if not isinstance(task, str) or not task or spaced:
        what = f"must be a name, got {json.dumps(task, ensure_ascii=False):.60}" if "task" in row else "is missing"
        raise InputError(f"{place}: 'task' {what} (found {_listed(row)})")
    return task


def _text(row: dict[str, Any], column: str, place: str) -> str:
    if column not in row:
        raise InputError(f"{place}: no column {column!r}, found only {_listed(row)}; {EXPECTED}")
    text = text_of(row, column, place)
    if is_blank(text):
        raise InputError(f"{place}: {column} is empty; a pair needs two texts")
    return text


def _listed(row: dict[str, Any]) -> str:
    return ", ".join(map(str, row)) or "nothing"


__all__ = ["MatchingRow", "matching_row", "read_matching_rows", "standard_of", "tasks_of"]
