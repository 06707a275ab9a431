"""Draw the pictures of docs/*.svg: the same file from the same figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def picture_of(
    path: Path, size: tuple[float, float], columns: int = 1, *, frame: bool = False, tight: bool = True, **options: Any
) -> Iterator[list[Any]]:
    """Yield the axes of a figure, one for each column, and write the figure to `path`.

    Args:
        size: width and height in inches.
        frame: keep the top and the right edge of the axes.
        tight: fit the axes to the figure's size.
        options: further arguments of `pyplot.subplots`.
    """
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "kexue"  # names within the file depend on the figures alone
    figure, axes = pyplot.subplots(1, columns, figsize=size, squeeze=False, **options)
    yield list(axes[0])
    if not frame:
        for axis in axes[0]:
            axis.spines[["top", "right"]].set_visible(False)
    if tight:
        figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
