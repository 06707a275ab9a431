"""Casts between floating-point types on numpy arrays, bfloat16 included (numpy has none: its bits are uint16)."""

import numpy as np

from kexue_hf.conversion.element_types import ElementType
from kexue_hf.errors import ConversionError, quoted


def cast(values: np.ndarray, stored: ElementType, wanted: ElementType, name: str = "") -> np.ndarray:
    """Cast, rounding to the nearest value (ties to even); the same array if there is nothing to do.

    Raises:
        ConversionError: a finite value is too large for the wanted type (names the tensor).
    """
    if stored == wanted:
        return values
    if stored.name == "bfloat16":
        values = (values.astype("<u4") << 16).view("<f4")
    with np.errstate(over="ignore"):
        if wanted.name == "bfloat16":
            result = _to_bfloat16(values.astype("<f4"))
            infinite = (result & 0x7F80) == 0x7F80
        else:
            result = values.astype(wanted.numpy)
            infinite = ~np.isfinite(result)
    if infinite.any() and np.isfinite(values[infinite]).any():
        raise ConversionError(
            f"tensor {quoted(name)} has values up to {np.abs(values[np.isfinite(values)]).max():.3g}, too large for "
            f"{wanted.name}; choose --dtype bfloat16 or float32"
        )
    return result


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values).view("<u4")
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, rounded).astype("<u2")
