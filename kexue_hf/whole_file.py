"""A file of results that appears whole or not at all: written into a sibling, which is renamed at the end."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from kexue_hf.errors import KexueError, OutputError


@contextlib.contextmanager
def whole_file(output: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[TextIO]:
    """A text file to write into (UTF-8); when the block ends without an error, it becomes `output`.

    Args:
        overwrite: replace a file that is there.

    Raises:
        OutputError: there is something at `output`, or it cannot be written. What was there before still is.
    """
    with _stage(output, overwrite) as stage, open(stage, "x", encoding="utf-8", newline="\n") as file:
        yield file


@contextlib.contextmanager
def whole_binary_file(output: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """As `whole_file`, of bytes."""
    with _stage(output, overwrite) as stage, open(stage, "xb") as file:
        yield file


@contextlib.contextmanager
def _stage(output: str | os.PathLike[str], overwrite: bool) -> Iterator[Path]:
    """Where to write; renamed in the end."""
    # Through a link, so that the file it points to is replaced and not the link.
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        raise OutputError(f"{output} is there and no ordinary file; name another")
    if target.exists() and not overwrite:
        raise OutputError(f"{output} exists; name another file, or pass --overwrite")
    if target.parent.is_file():
        raise OutputError(f"{output}: {target.parent} is a file and no folder; name another")
    stage = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    new = [folder for folder in target.parents if not folder.exists()]  # the innermost first
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield stage
        os.replace(stage, target)
    except OSError as error:
        if isinstance(error, KexueError):
            raise
        raise OutputError(f"{output}: cannot be written ({error.strerror or error})") from error
    finally:
        # Only clearing up: an error here must not stand in for the one that led here.
        with contextlib.suppress(OSError):
            stage.unlink(missing_ok=True)
        if not target.exists():
            with contextlib.suppress(OSError):
                for folder in new:
                    folder.rmdir()


__all__ = ["whole_binary_file", "whole_file"]
