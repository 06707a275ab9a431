"""Open regular files of limited size, and refuse everything else.

A pipe would block forever, a device may never end, and a sparse file of terabytes takes no space on the disk.
"""

import fnmatch
import os
import stat
from typing import BinaryIO

from kexue_hf.errors import InputError, KexueError

# Files of a model folder that loaders read into memory at once.
_TEXTS = (
    "*config.json", "config.*.json", "*tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "*vocab.*",
    "merges.txt", "*.index.json", "chat_template*", "*.model", "*.jinja",
)  # fmt: skip
# Endings of all files that loaders read.
READ = (".json", ".model", ".jinja", ".txt", ".py", ".safetensors", ".bin")
# Larger than the files of the largest tokenizers.
_LARGEST_TEXT = 1 << 26
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(
    path: str | os.PathLike[str],
    *,
    largest: int | None = None,
    buffering: int = -1,
    hint: str = "",
    error: type[KexueError] = InputError,
) -> BinaryIO:
    """Open a regular file for reading.

    Args:
        largest: maximum size in bytes; None for no limit.
        buffering: as for `open`.
        hint: advice for the message.
        error: exception class to raise.

    Raises:
        error: the file is a pipe, a device or a folder, is too large, or has an invalid name.
        OSError: the file cannot be opened.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits for its writer. It does not affect regular files.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except ValueError:  # a NUL, or half a surrogate pair
        raise error(f"{os.fspath(path)!r:.200}: not a valid file name") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = next((kind for test, kind in _KINDS if test(status.st_mode)), "something else")
            raise error(f"{path}: expected a regular file, got {kind}{hint and f'; {hint}'}")
        if largest is not None and status.st_size > largest:
            raise error(f"{path}: has {status.st_size:,} bytes, expected at most {largest:,}; is it the right file?")
        opened: BinaryIO = os.fdopen(descriptor, "rb", buffering)
        return opened
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], largest: int, error: type[KexueError] = InputError) -> bytes:
    """Return the content of a regular file of at most `largest` bytes. Errors as `open_regular`."""
    with open_regular(path, largest=largest, error=error) as file:
        # The limit also holds if the file grows meanwhile.
        return file.read(largest)


def check_folder(folder: str | os.PathLike[str]) -> None:
    """Raise InputError if a file that a loader would read from a model folder is not regular, or is too large."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        # Unlike entry.is_dir, this is False for a link to itself.
        if os.path.isdir(entry.path) or not entry.name.endswith(READ) or not os.path.exists(entry.path):
            continue
        read_whole = any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in _TEXTS)
        open_regular(entry.path, largest=_LARGEST_TEXT if read_whole else None).close()


__all__ = ["READ", "check_folder", "open_regular", "read_regular"]
