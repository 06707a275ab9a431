"""A file of results that appears whole or not at all: written into a stage beside it, and renamed at the end."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from kexue_hf.errors import OutputError
from kexue_hf.files.staging import Stage, put_file, staged

_RESULT = "result"


@contextlib.contextmanager
def whole_file(output: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[TextIO]:
    """A text file to write into (UTF-8); when the block ends without an error, it becomes `output`.

    Args:
        overwrite: replace a file that is there.

    Raises:
        OutputError: there is something at `output`, if only since the block was begun, or it cannot be written. What
            was there before still is.
    """
    target = check_file(output, overwrite=overwrite)
    with _staged(output, target, overwrite) as path, open(path, "x", encoding="utf-8", newline="\n") as file:
        yield file


@contextlib.contextmanager
def whole_binary_file(output: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """As `whole_file`, of bytes."""
    target = check_file(output, overwrite=overwrite)
    with _staged(output, target, overwrite) as path, open(path, "xb") as file:
        yield file


def check_file(output: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Where a file will be: through a link, so that what it points to is replaced, and not the link.

    Raises:
        OutputError: a file may not be put at `output`.
    """
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        raise OutputError(f"{output} is there and no ordinary file; name another")
    if target.exists() and not overwrite:
        raise OutputError(f"{output} exists; name another file, or pass --overwrite")
    if target.parent.is_file():
        raise OutputError(f"{output}: {target.parent} is a file and no folder; name another")
    return target


@contextlib.contextmanager
def _staged(output: str | os.PathLike[str], target: Path, overwrite: bool) -> Iterator[Path]:
    def publish(stage: Stage) -> None:
        try:
            put_file(stage.path / _RESULT, target, overwrite=overwrite)
        except FileExistsError:
            raise OutputError(f"{output} has been made by somebody else meanwhile, and is left as it is") from None

    with staged(output, target, publish) as stage:
        yield stage.path / _RESULT


__all__ = ["check_file", "whole_binary_file", "whole_file"]
