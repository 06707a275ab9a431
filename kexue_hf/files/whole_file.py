"""Write a file that appears complete or not at all: it is written in a stage beside it and renamed at the end."""

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
    """Yield a text file (UTF-8) to write into. It becomes `output` when the block ends without an error.

    Args:
        overwrite: replace an existing file.

    Raises:
        OutputError: `output` exists (perhaps only since the block started), or cannot be written. The previous file is
            still there.
    """
    target = check_file(output, overwrite=overwrite)
    with _staged(output, target, overwrite) as path, open(path, "x", encoding="utf-8", newline="\n") as file:
        yield file


@contextlib.contextmanager
def whole_binary_file(output: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary file to write into, as `whole_file` does."""
    target = check_file(output, overwrite=overwrite)
    with _staged(output, target, overwrite) as path, open(path, "xb") as file:
        yield file


def check_file(output: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Return the path to write, with links resolved, so that the target of a link is replaced and not the link.

    Raises:
        OutputError: a file may not be written to `output`.
    """
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        raise OutputError(f"{output} exists and is not a regular file; name another file")
    if target.exists() and not overwrite:
        raise OutputError(f"{output} exists; name another file, or pass --overwrite")
    if target.parent.is_file():
        raise OutputError(f"{output}: {target.parent} is a file, expected a folder; name another file")
    return target


@contextlib.contextmanager
def _staged(output: str | os.PathLike[str], target: Path, overwrite: bool) -> Iterator[Path]:
    def publish(stage: Stage) -> None:
        try:
            put_file(stage.path / _RESULT, target, overwrite=overwrite)
        except FileExistsError:
            raise OutputError(
                f"{output}: another process wrote this file meanwhile, and it was not replaced; name another file"
            ) from None

    with staged(output, target, publish) as stage:
        yield stage.path / _RESULT


__all__ = ["check_file", "whole_binary_file", "whole_file"]
