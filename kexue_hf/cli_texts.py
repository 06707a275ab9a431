"""What the commands share that read texts by the line and write a result for each: errors, output, progress."""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from kexue_hf.errors import InputError, KexueError, OutputError


@contextlib.contextmanager
def readable_errors(output: Path | None) -> Iterator[None]:
    """What the functions raise as ValueError, a lack of memory and Ctrl-C, as one line each."""
    try:
        yield
    except KexueError:
        raise
    except KeyboardInterrupt:
        raise OutputError("interrupted" if output is None else "interrupted; nothing was written") from None
    except ValueError as error:
        raise InputError(str(error)) from error
    except RuntimeError as error:
        # torch has several classes for it, by device and version.
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            raise InputError("not enough memory; lower --batch-tokens") from error
        raise


@contextlib.contextmanager
def text_sink(output: Path | None, overwrite: bool) -> Iterator[TextIO]:
    """Where the results go: stdout, or a file that appears once it is complete."""
    if output is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    from kexue_hf.whole_file import whole_file

    with whole_file(output, overwrite=overwrite) as opened:
        yield opened


def parsed(line: str, place: str) -> Any:
    """A line's JSON.

    Raises:
        InputError: it is none; `place` says where.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error})") from None


def with_progress(results: Iterable[Any], total: int | None, quiet: bool) -> Iterable[Any]:
    """The results, with a bar on stderr where somebody sees it and it takes a while."""
    if quiet or not sys.stderr.isatty():
        return results
    from tqdm import tqdm

    bar: Iterable[Any] = tqdm(results, total=total, unit=" texts", leave=False, mininterval=0.5, delay=2)
    return bar
