"""One-line messages for the errors of the commands that read texts."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from kexue_hf.errors import InputError, KexueError, OutputError


@contextlib.contextmanager
def readable_errors(output: Path | None) -> Iterator[None]:
    """Convert ValueError, out-of-memory errors and Ctrl-C into errors with a one-line message."""
    try:
        yield
    except KexueError:
        raise
    except KeyboardInterrupt:
        raise OutputError(
            "interrupted" if output in (None, Path("-")) else "interrupted; nothing was written"
        ) from None
    except ValueError as error:
        raise InputError(str(error)) from error
    except RuntimeError as error:
        # The error class depends on the device and on torch's version.
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            if "--resume" in str(error):
                raise InputError(
                    "not enough memory; the results so far are kept: rerun with --resume when more memory is free, or "
                    "start over without --resume and with a lower --batch-tokens"
                ) from error
            raise InputError("not enough memory; lower --batch-tokens") from error
        raise


__all__ = ["readable_errors"]
