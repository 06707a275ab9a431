"""Traces of the machine and of its owner in a folder's text files: absolute paths and access tokens."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kexue_hf.hub.folder_files import FolderFile

_TEXTS = (".json", ".md", ".txt", ".py", ".yaml", ".yml", ".jinja", ".model", ".csv", ".tsv", ".svg", ".jsonl")
# A vocabulary, or a large table, holds no settings.
_LARGEST = 4 << 20
_SKIPPED = ("vocab.txt", "tokenizer.json")
_HOME = re.compile(r"(?<![\w/.:-])(?:/home/|/Users/|/root/|[A-Za-z]:\\+Users\\+)[\w.-]+(?:[/\\]+[\w.-]+)*")
_ABSOLUTE = re.compile(r"(?<![\w/.:<-])/[\w.@+-]+(?:/[\w.@+-]+)+")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")
# Paths that every Unix has say nothing about this one.
_COMMON = ("/usr/", "/bin/", "/etc/", "/dev/", "/proc/", "/lib/", "/opt/")


def private_traces(folder: Path, files: Sequence[FolderFile]) -> list[str]:
    """Return a line for each text file that names a path of this machine, or that holds an access token."""
    found = []
    for file in files:
        if not file.path.endswith(_TEXTS) or file.size > _LARGEST or Path(file.path).name in _SKIPPED:
            continue
        text = (folder / file.path).read_text("utf-8", errors="replace")
        if _TOKEN.search(text):
            found.append(f"{file.path} holds an access token of the Hub: remove it, and revoke it in your settings")
        path = _local_path(text)
        if path is not None:
            found.append(f"{file.path} names a path of this machine, {path}: remove it")
    return found


def _local_path(text: str) -> str | None:
    """Return the first path that is in a home folder, or that exists here."""
    if (home := _HOME.search(text)) is not None:
        return home[0]
    for match in _ABSOLUTE.finditer(text):
        if not match[0].startswith(_COMMON) and os.path.exists(match[0]):
            return match[0]
    return None


__all__ = ["private_traces"]
