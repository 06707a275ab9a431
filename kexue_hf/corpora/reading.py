"""Open a corpus by name (files, globs, folders, or a Hub data set), as a table on disk or as a stream.

load_corpus(["wiki/*.jsonl.gz", "news.parquet"])    # a datasets.Dataset with the single column `text`
stream_corpus(["wikimedia/wikipedia:20231101.zh"])  # an iterable of texts, read again at each iteration
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, Value, concatenate_datasets, load_dataset, load_from_disk

from kexue_hf.corpora.file_names import is_saved_dataset, text_file_names
from kexue_hf.corpora.text_files import EXPECTED as FILES
from kexue_hf.corpora.text_files import is_text_file, read_texts, text_of
from kexue_hf.errors import InputError, KexueError

HUB_NAME = re.compile(r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?")
EXPECTED = f"{FILES}, a folder of them, a folder of datasets.save_to_disk, or a Hub data set as name or name:config"


def load_corpus(names: Sequence[str], column: str = "text", num_proc: int | None = None) -> Dataset:
    """Return all texts as one table, cached by `datasets` until the files change.

    Args:
        names: files, globs, folders (of such files, or of `datasets.save_to_disk`), or Hub data sets `name[:config]`
            (their split `train`).
        column: column of the text in all but .txt files.
        num_proc: number of files to read in parallel.

    Raises:
        InputError: a name does not exist or holds no text, or a file is invalid (the message names the line).
    """
    tables = []
    for files, name in _resolved(names):
        if files:
            # Size and modification time are part of the cache key.
            versions = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
            several = {"num_proc": min(num_proc or 1, len(files))} if (num_proc or 1) > 1 and len(files) > 1 else {}
            try:
                table = Dataset.from_generator(
                    _rows,
                    features=Features({"text": Value("string")}),
                    gen_kwargs={"files": versions, "column": column},
                    **several,
                )
            except Exception as error:
                empty = InputError(f"{name} holds no text") if "corresponds to no data" in str(error) else None
                raise _kexue_cause(error) or empty or error from None
        else:
            table = _table(name, column, streaming=False)
        if not len(table):
            raise InputError(f"{name} holds no text")
        tables.append(table)
    return concatenate_datasets(tables) if len(tables) > 1 else tables[0]


class TextStream:
    """The texts of a corpus, read again at each iteration and not stored. See `stream_corpus`."""

    def __init__(self, names: Sequence[str], column: str = "text") -> None:
        self.parts: list[tuple[list[str], str, Any]] = [
            (files, name, None if files else _table(name, column, streaming=True)) for files, name in _resolved(names)
        ]
        self.column = column

    def __iter__(self) -> Iterator[str]:
        for files, name, table in self.parts:
            if files:
                yield from read_texts(files, self.column)
            else:
                for number, row in enumerate(table, 1):
                    yield text_of({self.column: row["text"]}, self.column, f"{name}, row {number}")

    def version(self) -> str:
        """Return a string that identifies the corpus by the names and sizes of its files, without reading it."""
        files = [file for files, _, _ in self.parts for file in files]
        sizes = [os.stat(file).st_size for file in files]
        others = [name for files, name, _ in self.parts if not files]
        names = [*(Path(file).name for file in files), *others]
        checksum = zlib.crc32(json.dumps([names, sizes]).encode())
        return f"{len(files)} files of {sum(sizes)} bytes, {len(others)} data sets ({checksum:08x})"


def stream_corpus(names: Sequence[str], column: str = "text") -> Iterable[str]:
    """Return the texts of a corpus as a stream, without a copy on disk. Arguments as `load_corpus`.

    Raises:
        InputError: a name does not exist; while reading, as `load_corpus`.
    """
    return TextStream(names, column)


def _resolved(names: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """Yield (files, name) for each name; the files are empty if `datasets` opens the name itself."""
    for name in names:
        on_hub = not Path(name).exists() and HUB_NAME.fullmatch(name) and not is_text_file(name)
        is_dataset = on_hub or is_saved_dataset(Path(name))
        yield ([] if is_dataset else text_file_names(name, EXPECTED)), name


def _table(name: str, column: str, streaming: bool) -> Any:
    """Return a folder of save_to_disk or a Hub data set, with the single column `text`."""
    if Path(name).is_dir():
        data = load_from_disk(name)
        if isinstance(data, DatasetDict):
            if "train" not in data:
                raise InputError(f"{name}: has no split train, only {', '.join(data)}; name the folder of a split")
            data = data["train"]
        data = data.to_iterable_dataset() if streaming else data
    else:
        match = HUB_NAME.fullmatch(name)
        assert match is not None  # _resolved has checked
        try:
            data = load_dataset(match["name"], match["config"], split="train", streaming=streaming)
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise InputError(f"{name} is not a file, and cannot be downloaded from the Hub ({reason[0]})") from error
    columns = data.column_names or list(next(iter(data)))
    if column not in columns:
        raise InputError(
            f"{name}: has no column {column!r}, only {', '.join(columns)}; name the text column (--text-column)"
        )
    kind = data.features[column] if data.features else None  # streams may have no features
    if kind is not None and getattr(kind, "dtype", None) not in ("string", "large_string"):
        raise InputError(f"{name}: column {column!r} must hold strings, got {getattr(kind, 'dtype', kind)}")
    if not streaming and data.data.column(column).null_count:
        for number, row in enumerate(data.select_columns([column]), 1):
            text_of(row, column, f"{name}, row {number}")
    return data.select_columns([column]).rename_columns({} if column == "text" else {column: "text"})


def _rows(files: list[tuple[str, int, int]], column: str) -> Iterator[dict[str, str]]:
    for text in read_texts([name for name, _, _ in files], column):
        yield {"text": text}


def _kexue_cause(error: BaseException | None) -> KexueError | None:
    """Return the KexueError that caused an error of `datasets`; None if another error did."""
    while error is not None and not isinstance(error, KexueError):
        error = error.__cause__ or error.__context__
    return error


__all__ = ["TextStream", "load_corpus", "stream_corpus"]
