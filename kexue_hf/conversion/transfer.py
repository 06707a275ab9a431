"""The values of one tensor after another, as bytes in the order of the target, with little memory.

A kernel is stored [in, out] on one side and [out, in] on the other. It is turned in strips of 64 rows of the result: a
strip fits into the processor's cache, and no second copy of the matrix exists.
"""

from collections.abc import Iterator

import numpy as np

from kexue_hf.conversion.casting import cast
from kexue_hf.conversion.element_types import ElementType
from kexue_hf.conversion.weight_source import WeightSource
from kexue_hf.conversion.weight_table import Move

_STRIP = 64


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
            rows = strip[: min(_STRIP, values.shape[1] - start)]
            rows[:] = values[:, start : start + _STRIP].T
            yield _bytes(cast(rows, move.type, wanted, move.source))
    else:
        for chunk in source.chunks(move.source):
            yield _bytes(cast(chunk, move.type, wanted, move.source))


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
