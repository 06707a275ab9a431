"""A progress bar over bytes, where somebody is looking."""

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(total: int, *, show: bool) -> Iterator[Callable[[int], object] | None]:
    """A function to call with the number of bytes done; None if there is nothing to show (stderr is no terminal)."""
    if not show or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as bar:
        yield bar.update
