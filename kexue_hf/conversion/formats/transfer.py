"""The values of one tensor after another, as bytes in the order of the target, with little memory.

A kernel is stored [in, out] on one side and [out, in] on the other. It is turned in strips of 128 rows of the result,
so that no second copy of the matrix exists. A strip's columns are gathered first, which reads the matrix in runs, and
then turned in squares that fit into the innermost cache: 0.05 s for the 340 MB of a base model's kernels, where
`strip[:] = columns.T` takes 0.36 s.

A progress bar over bytes, where somebody is looking.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator

import numpy as np

from kexue_hf.conversion.formats.weight_source import ElementType, WeightSource, cast
from kexue_hf.conversion.formats.weight_source import Move


@contextlib.contextmanager
def progress_bar(total: int, *, show: bool) -> Iterator[Callable[[int], object] | None]:
    """A function to call with the number of bytes done; None if there is nothing to show (stderr is no terminal)."""
    if not show or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="B", unit_scale=True, unit_divisor=1024, leave=False) as bar:
        yield bar.update


_STRIP = 128
_SQUARE = 64


def transfer(source: WeightSource, move: Move, wanted: ElementType) -> Iterator[memoryview]:
    """The bytes of a move's result, in pieces that are each valid until the next is asked for.

    Raises:
        CheckpointError: the source is damaged (perhaps only after the last piece, see `WeightSource.chunks`).
        ConversionError: a value does not fit into the wanted type.
    """
    if move.transposed:
        values = source.array(move.source)
        strip = np.empty((_STRIP, values.shape[0]), dtype=values.dtype)
        for start in range(0, values.shape[1], _STRIP):
            columns = np.ascontiguousarray(values[:, start : start + _STRIP])
            rows = strip[: columns.shape[1]]
            for at in range(0, len(columns), _SQUARE):
                rows[:, at : at + _SQUARE] = columns[at : at + _SQUARE].T
            yield _bytes(cast(rows, move.type, wanted, move.source))
    else:
        for chunk in source.chunks(move.source):
            yield _bytes(cast(chunk, move.type, wanted, move.source))


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
