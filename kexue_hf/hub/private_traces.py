"""Traces of the machine and of its owner in a folder's text files: absolute paths and access tokens.

Every published file whose beginning is text is read to its end. What is not text, like weights and pictures, is not.
Text is UTF-8, UTF-16 with a byte order mark, or another encoding that keeps ASCII, which all that is searched for
consists of.
"""

import codecs
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kexue_hf.errors import printable
from kexue_hf.hub.folder_files import FolderFile
from kexue_hf.hub.secret_patterns import secret_in

# Tokens of a vocabulary may look like paths.
_VOCABULARIES = ("vocab.txt", "tokenizer.json")
_BLOCK, _OVERLAP, _BEFORE = 1 << 20, 2048, 8
# A path may follow a colon or `file://`, but is no part of a word, of a relative path or of another URL.
_START = r"(?<![\w.-])(?<!\w:/)"
_HOME = re.compile(_START + r"(?:/home/|/Users/|/root/|[A-Za-z]:\\+Users\\+)[\w.-]+(?:[/\\]+[\w.-]+)*")
_ABSOLUTE = re.compile(_START + r"(?<!<)/[\w.@+-]+(?:/[\w.@+-]+)+")
# Paths that every Unix has say nothing about this one.
_COMMON = ("/usr/", "/bin/", "/etc/", "/dev/", "/proc/", "/lib/", "/opt/")


def private_traces(folder: Path, files: Sequence[FolderFile]) -> list[str]:
    """Return a line for each text file that names a path of this machine, or that holds an access token."""
    found = []
    for file in files:
        secret, path, checked = None, None, set[str]()
        for text, start in _blocks(folder / file.path):
            secret = secret or secret_in(text, start)
            if path is None and Path(file.path).name not in _VOCABULARIES:
                path = _local_path(text, start, checked)
        if secret is not None:
            found.append(f"{file.path} holds {secret}: remove it, and revoke it where it was made")
        if path is not None:
            found.append(f"{file.path} names a path of this machine, {printable(path, 200)}: remove it")
    return found


def _blocks(path: Path) -> Iterator[tuple[str, int]]:
    """Yield overlapping parts of a text file, each with the place from which to search; none of another file."""
    with path.open("rb") as file:
        content = file.read(_BLOCK)
        encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8"
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            text = decoder.decode(content)
        except UnicodeDecodeError:
            decoder, text = _other_decoder(content)
        if "\0" in text:
            return
        # Damage further on does not end the search.
        decoder.errors = "replace"
        start = 0
        while True:
            yield text, start
            content = file.read(_BLOCK)
            if not content:
                return
            start = min(len(text), _BEFORE)
            text = text[-_OVERLAP - _BEFORE :] + decoder.decode(content)


def _other_decoder(content: bytes) -> tuple[codecs.IncrementalDecoder, str]:
    """Return a decoder for text that is neither UTF-8 nor UTF-16, and the text."""
    decoder = codecs.getincrementaldecoder("gb18030")()
    try:
        return decoder, decoder.decode(content)
    except UnicodeDecodeError:
        decoder = codecs.getincrementaldecoder("latin-1")()
        return decoder, decoder.decode(content)


def _local_path(text: str, start: int, checked: set[str]) -> str | None:
    """Return the first path that is in a home folder, or that exists here.

    Args:
        checked: paths that are known not to exist; new ones are added.
    """
    if (home := _HOME.search(text, start)) is not None:
        return home[0]
    for match in _ABSOLUTE.finditer(text, start):
        if match[0] not in checked and not match[0].startswith(_COMMON):
            if os.path.exists(match[0]):
                return match[0]
            checked.add(match[0])
    return None


__all__ = ["private_traces"]
