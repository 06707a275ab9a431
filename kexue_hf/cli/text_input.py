"""The input of the commands that read texts: lines, JSON lines, tables, from a file or stdin.

A line is always read whole, however long it is.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError

_TEXTS_AT_ONCE = 1024
# With one pass per token, fewer texts fill the batches, and results appear sooner.
_TEXTS_MASKED_AT_ONCE = 128


def input_texts(
    file: Path, column: str | None = None, suffixes: Sequence[str] = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
) -> Iterable[str]:
    """Return the texts of a file, or the lines of stdin (-). Empty texts are kept, so row n is text n.

    Args:
        column: name of the text column in formats other than .txt; None for `text`.
        suffixes: the accepted file name suffixes.

    Raises:
        InputError: immediately if the file is missing or has another suffix, or if a column is named for a .txt;
            while reading, with file and line, if a line is invalid.
    """
    suffix = input_suffix(file, suffixes, column)
    if suffix == ".parquet":
        from kexue_hf.corpora.text_files import read_texts

        return read_texts([file], column or "text")
    if suffix != ".txt":
        return _texts_of(file, column or "text")
    return (line for _, line in places_and_lines(file))


def input_suffix(file: Path, suffixes: Sequence[str], column: str | None = None) -> str:
    """Return the suffix in `suffixes` that the file has; `.txt` for stdin and for a name without a suffix.

    Raises:
        InputError: the file does not exist or has another suffix, or a column is named for lines of text.
    """
    suffix = ".txt" if str(file) == "-" else _suffix_of_file(file, suffixes)
    if column is not None and suffix == ".txt":
        raise InputError(f"--text-column has no effect on lines of text ({_shown(file)}); leave it out")
    return suffix


def _suffix_of_file(file: Path, suffixes: Sequence[str]) -> str:
    from kexue_hf.corpora.text_files import suffix_of

    if not file.exists():
        raise InputError(f"{file} does not exist")
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file")
    suffix = suffix_of(file) or ".txt"
    if suffix not in suffixes:
        hint = (
            "one object per line, as .jsonl" if suffix == ".json" else f"{', '.join(suffixes)} (text optionally .gz)"
        )
        raise InputError(f"{file}: expected {hint}, got {suffix}; to read it as lines of text: --file - < FILE")
    return suffix


def places_and_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each line's place ("FILE, line N", from 1) and its text; - reads stdin."""
    from kexue_hf.corpora.text_files import read_lines

    opened = sys.stdin.buffer if str(file) == "-" else None
    for number, line in read_lines(_shown(file), opened):
        yield f"{_shown(file)}, line {number}", line


def places_and_rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each row of a .csv or .tsv, or of each JSON line; None for an empty line."""
    from kexue_hf.corpora.text_files import TABLES, parse_json_line, read_objects, suffix_of

    if suffix_of(file) in TABLES:
        yield from read_objects(file)
        return
    for place, line in places_and_lines(file):
        yield place, parse_json_line(line, place) if line.strip() else None


def _texts_of(file: Path, column: str) -> Iterator[str]:
    from kexue_hf.corpora.text_files import text_of

    for place, row in places_and_rows(file):
        yield "" if row is None else text_of(row, column, place)


def _shown(file: Path) -> str:
    return "stdin" if str(file) == "-" else str(file)


def note_if_empty(rows: int, what: str, files: Iterable[Path], quiet: bool) -> None:
    """Print a note if the files held nothing. That is not an error: an empty file has an empty result."""
    if not rows and not quiet:
        print(f"no {what} in {' and '.join(map(_shown, files))}: the result is empty", file=sys.stderr)


def texts_per_chunk(model: Any, method: str) -> int:
    """Return how many texts to read ahead and sort by length, for a masked language model's method.

    Raises:
        ValueError: the model does not support the method.
    """
    from kexue_hf.pipelines.leave_one_out import chosen_method

    return _TEXTS_AT_ONCE if chosen_method(model, method) == "one_pass" else _TEXTS_MASKED_AT_ONCE


__all__ = ["input_suffix", "input_texts", "note_if_empty", "places_and_lines", "places_and_rows", "texts_per_chunk"]
