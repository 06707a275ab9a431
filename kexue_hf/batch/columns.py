"""Read the columns of a batch, and add columns to it, whatever engine made the batch.

A batch is a dictionary of lists or NumPy arrays (Ray Data), a mapping that formats its columns on demand (`datasets`),
or a pandas DataFrame (Spark).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kexue_hf.errors import InputError, printable, quoted


def text_column(batch: Any, name: str) -> list[str | None]:
    """Return the texts of a column; None for a null.

    Raises:
        InputError: the batch is not a table, lacks the column, or a cell is not a text; names the column and the row,
            counted from 0 in this batch.
    """
    if not (isinstance(batch, Mapping) or _is_frame(batch)):
        raise InputError(f"expected a batch of columns (a dictionary or a DataFrame), got {type(batch).__name__}")
    if name not in batch:
        found = printable(", ".join(map(str, batch)), 300) or "nothing"
        raise InputError(
            f"the batch has no column {quoted(name)}, only {found}: name the texts with column=, or the "
            "two of pairs with column_a= and column_b="
        )
    values = batch[name]
    if _is_frame(values):
        raise InputError(f"the batch has several columns {quoted(name)}; expected one: rename the others")
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        kind = type(values).__name__
        raise InputError(
            f"column {quoted(name)} must hold a list of texts, got {kind}: call with batches (batched=True)"
        )
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return [_text(value, name, row) for row, value in enumerate(values)]


def _text(value: Any, column: str, row: int) -> str | None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"column {quoted(column)}, row {row} of the batch: half a surrogate pair is not a character; remove it"
            ) from None
        return value
    # pandas' nulls are NaN and NA; the latter has no truth value.
    if value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value):
        return None
    raise InputError(
        f"column {quoted(column)}, row {row} of the batch: expected a text, got {type(value).__name__}; convert the "
        "column to strings, or name another one"
    )


def with_columns(batch: Any, new: dict[str, np.ndarray]) -> Any:
    """Return the batch with new columns, each [rows, ...]; the new columns alone for a mapping of `datasets`.

    `datasets` adds them to its own columns. Returning its columns too would decode and write them again, and
    `remove_columns` would have no effect.

    Raises:
        InputError: the batch already has a column of this name.
    """
    for name in new:
        if name in batch:
            raise InputError(f"the batch already has a column {quoted(name)}: choose other names with prefix=")
    if _is_frame(batch):
        # pandas has no two-dimensional columns.
        return batch.assign(**{name: values if values.ndim == 1 else list(values) for name, values in new.items()})
    return {**batch, **new} if isinstance(batch, dict) else new


def _is_frame(batch: Any) -> bool:
    return hasattr(batch, "columns") and hasattr(batch, "assign")


def string_column(texts: list[str | None]) -> np.ndarray:
    """Return texts and nulls as an array of objects, [rows]."""
    column = np.empty(len(texts), dtype=object)
    column[:] = texts
    return column


__all__ = ["string_column", "text_column", "with_columns"]
