"""Find the text files that a name stands for: a file, a folder (searched recursively), or a glob."""

import glob
import os
from pathlib import Path

from kexue_hf.corpora.text_files import TABLES, is_text_file, suffix_of
from kexue_hf.errors import InputError


def text_file_names(name: str | os.PathLike[str], expected: str) -> list[str]:
    """Return the text files that a name stands for, sorted. In folders, .csv and .tsv files are skipped.

    Args:
        expected: description of the supported files, for the message.

    Raises:
        InputError: there is no file, or a file has an unsupported format.
    """
    name = os.fspath(name)
    path = Path(name)
    if is_saved_dataset(path):
        raise InputError(f"{name}: is a folder of datasets.save_to_disk; {expected}")
    if path.is_dir():
        # Tables often hold something other than texts.
        files = sorted(
            str(file)
            for file in path.rglob("*")
            if file.is_file() and is_text_file(file) and suffix_of(file) not in TABLES
        )
        if not files:
            raise InputError(f"{name}: is a folder without text files; {expected}")
        return files
    if not path.exists():
        if not glob.has_magic(name):
            raise InputError(f"{name} does not exist; {expected}")
        files = sorted(glob.glob(name, recursive=True))
        if not files:
            raise InputError(f"{name}: no file matches")
    else:
        files = [name]
    for file in files:
        if not is_text_file(file):
            raise InputError(f"{file}: {expected}")
    return files


def is_saved_dataset(path: Path) -> bool:
    """Return whether `datasets.save_to_disk` wrote a folder."""
    return path.is_dir() and any((path / mark).exists() for mark in ("state.json", "dataset_dict.json"))


__all__ = ["is_saved_dataset", "text_file_names"]
