"""Read texts from files one at a time, with file and line in every error.

The builders of `datasets` read the same formats, but report undecodable bytes and damaged JSON without their place,
and partly only in the middle of training. Nobody can search 30 GB of text by hand.
"""

import bz2
import contextlib
import csv
import gzip
import importlib
import io
import itertools
import json
import lzma
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kexue_hf.errors import InputError, KexueError, printable
from kexue_hf.files.quiet_loading import first_line
from kexue_hf.files.regular_file import open_regular

# Suffix -> delimiter; the first row names the columns.
TABLES = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".txt", ".jsonl", ".json", *TABLES, ".parquet")
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
# In bytes. A damaged or hostile file of a few kilobytes may unpack to a line of gigabytes.
_LONGEST_LINE = 1 << 28
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_NO_PIPE = "to read a pipe, give - and use stdin"
EXPECTED = "expected .txt, .jsonl, .json, .csv, .tsv (optionally .gz, .bz2, .xz or .zst) or .parquet files"


def is_text_file(path: str | Path) -> bool:
    """Return whether the name ends like a file that `read_texts` reads.

    These are .txt, .jsonl, .json, .csv, .tsv and .parquet; all but the last may be compressed (.gz, .bz2, .xz, .zst).
    """
    return suffix_of(path) in SUFFIXES


def suffix_of(path: str | Path) -> str:
    """Return the suffix in lower case, without that of a compression: `.jsonl` for `a.JSONL` and `a.txt.jsonl.gz`.

    The suffix of `a.parquet.gz` is `.gz`, because parquet files are compressed inside and this one is not supported.
    """
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS and suffixes[-2:-1] != [".parquet"]:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_texts(files: Iterable[str | Path], column: str = "text") -> Iterator[str]:
    """Yield the texts of all files in order: the non-empty lines of .txt files, the `column` of others.

    Raises:
        InputError: a file has an unsupported format, is damaged, is not UTF-8, or lacks the column. The message names
            the file and the line (in a parquet file the row), from 1.
    """
    for file in files:
        suffix = suffix_of(file)
        if suffix not in SUFFIXES:
            raise InputError(f"{file}: {EXPECTED}")
        if suffix == ".parquet":
            yield from _parquet(file, column)
        elif suffix == ".txt":
            yield from (line for _, line in _lines(file))
        else:
            yield from (text_of(row, column, place) for place, row in read_objects(file))


def read_objects(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yield (file and line, value) for each JSON value of a .jsonl file or of an array in a .json file.

    Rows of .csv and .tsv files are dictionaries of strings. Quotation marks in .tsv files are part of the values.

    Raises:
        InputError: as `read_texts`.
    """
    if suffix_of(path) in TABLES:
        yield from _table(path)
        return
    lines = _lines(path)
    for number, line in lines:
        if line.startswith("[") and number == 1 and suffix_of(path) == ".json":
            # The file is one array, not one object a line.
            whole = parse_json_line("\n".join([line, *(rest for _, rest in lines)]), str(path))
            yield from ((f"{path}, element {index}", row) for index, row in enumerate(whole, 1))
            return
        place = f"{path}, line {number}"
        yield place, parse_json_line(line, place)


def parse_json_line(text: str, place: str) -> Any:
    """Return the JSON value of a text that was read at `place` (file and line).

    Raises:
        InputError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error})") from None


def text_of(row: Any, column: str, place: str) -> str:
    """Return the text in a column of a row.

    Args:
        place: file and line of the row, for messages.

    Raises:
        InputError: the column is missing, is not a string, or is not valid Unicode.
    """
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected a JSON object, got {type(row).__name__}")
    if column not in row:
        found = printable(", ".join(map(str, row)), 300) or "nothing"
        raise InputError(f"{place}: has no column {column!r}, only {found}; name the text column (--text-column)")
    text = row[column]
    if text is None:
        raise InputError(f"{place}: column {column!r} is null, expected a string: fill it in, or remove the row")
    if not isinstance(text, str):
        raise InputError(f"{place}: {column!r} must be a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{place}: half a surrogate pair is not a valid character; remove it") from None
    return text


def _open(path: str | Path) -> BinaryIO:
    compression = Path(path).suffix.lower()
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(compression)
    if compression == ".zst":
        try:
            opener = importlib.import_module("zstandard").open
        except ImportError:
            raise InputError(f"{path}: reading .zst needs the package zstandard: pip install zstandard") from None
    raw = open_regular(path, hint=_NO_PIPE)
    if opener is None:
        return raw
    raw.close()  # The openers would not close a file that was passed open.
    file: Any = opener(path, "rb")
    # zstandard's reader has no readline.
    return io.BufferedReader(file) if compression == ".zst" else file


def _damage() -> tuple[type[Exception], ...]:
    """Return the exceptions that reading may raise; those of zlib and zstandard are not OSErrors."""
    zstandard = sys.modules.get("zstandard")
    more = (zstandard.ZstdError,) if zstandard else ()
    return (OSError, EOFError, lzma.LZMAError, zlib.error, *more)


def read_lines(path: str | Path, file: BinaryIO | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, content without line end) of every line, including empty ones.

    Args:
        path: a file, optionally compressed; only its name is used if an open `file` is given.

    Raises:
        InputError: as `read_texts`.
    """
    number = 0
    try:
        with _open(path) if file is None else contextlib.nullcontext(file) as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE), b""), 1):
                if len(line) == _LONGEST_LINE:
                    raise InputError(f"{path}, line {number}: has more than {_LONGEST_LINE:,} bytes")
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"{path}, line {number}: not UTF-8 (byte 0x{byte:02x} at position {error.start} of the line); "
            f"{recoding_advice(error.object)}"
        ) from None
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except _damage() as error:
        if isinstance(error, KexueError):
            raise
        raise InputError(f"{path}, after line {number}: cannot be read ({error})") from error


def recoding_advice(line: bytes) -> str:
    """Return the command that converts a file to UTF-8, given a line of it that is not UTF-8."""
    if line.startswith(_UTF16_MARKS):
        encoding = "utf-16"
    elif b"\0" in line:
        encoding = "utf-16le"
    else:
        encoding = "gb18030"
    return f"convert the file, for example: iconv -f {encoding} -t utf-8"


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (number, stripped content) of the non-empty lines."""
    for number, line in read_lines(path):
        if text := line.strip():
            yield number, text


def _table(path: str | Path) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Yield (file and line, row) of a .csv or .tsv file; missing values are None."""
    delimiter = TABLES[suffix_of(path)]
    quoting: Any = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(
        (f"{line}\n" for _, line in read_lines(path)), delimiter=delimiter, quoting=quoting, strict=True
    )
    names: list[str] = []
    number = 1
    try:
        for row in reader:
            place, number = f"{path}, line {number}", reader.line_num + 1
            if not names:
                names = row
            elif len(row) > len(names):
                hint = '; put a value with a comma in quotation marks (")' if delimiter == "," else ""
                raise InputError(f"{place}: has {len(row)} values, but the first row names {len(names)} columns{hint}")
            elif row:
                yield place, dict(itertools.zip_longest(names, row))
    except csv.Error as error:
        raise InputError(f"{path}, line {number}: not a valid row ({error})") from None


def _parquet(path: str | Path, column: str) -> Iterator[str]:
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        open_regular(path).close()
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if column not in names:
                found = printable(", ".join(names), 300)
                raise InputError(
                    f"{path}: has no column {column!r}, only {found}; name the text column (--text-column)"
                )
            for batch in file.iter_batches(batch_size=1000, columns=[column]):
                for value in batch.column(0):
                    number += 1
                    yield text_of({column: value.as_py()}, column, f"{path}, row {number}")
    except UnicodeDecodeError:
        raise InputError(f"{path}, row {number}: not UTF-8") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}, after row {number}: cannot be read ({first_line(error)})") from error


__all__ = [
    "EXPECTED",
    "SUFFIXES",
    "TABLES",
    "is_text_file",
    "parse_json_line",
    "read_lines",
    "read_objects",
    "read_texts",
    "recoding_advice",
    "suffix_of",
    "text_of",
]
