"""The files that a name stands for: a file, a folder with all below it, or a glob. Needs no `datasets`."""

import glob
import os
from pathlib import Path

from kexue_hf.corpora.text_files import TABLES, form_of, is_text_file
from kexue_hf.errors import InputError


def text_file_names(name: str | os.PathLike[str], expected: str) -> list[str]:
    """The files of text that a name stands for, sorted; .csv and .tsv files in a folder have to be named.

    Args:
        expected: what the message says of what is read.

    Raises:
        InputError: there is none, or one is of another kind.
    """
    name = os.fspath(name)
    path = Path(name)
    if is_saved_dataset(path):
        raise InputError(f"{name}: a folder of datasets.save_to_disk; {expected}")
    if path.is_dir():
        # Tables hold other things than texts as often.
        files = sorted(
            str(file)
            for file in path.rglob("*")
            if file.is_file() and is_text_file(file) and form_of(file) not in TABLES
        )
        if not files:
            raise InputError(f"{name}: a folder without text; {expected}")
        return files
    if not path.exists():
        if not glob.has_magic(name):
            raise InputError(f"{name} does not exist; {expected}")
        files = sorted(glob.glob(name, recursive=True))
        if not files:
            raise InputError(f"{name}: no file has such a name")
    else:
        files = [name]
    for file in files:
        if not is_text_file(file):
            raise InputError(f"{file}: {expected}")
    return files


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder is one that `datasets.save_to_disk` wrote."""
    return path.is_dir() and any((path / mark).exists() for mark in ("state.json", "dataset_dict.json"))


__all__ = ["is_saved_dataset", "text_file_names"]
