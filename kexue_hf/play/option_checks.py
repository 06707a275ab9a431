"""Checks of a player's options."""

import math
from typing import Any

from kexue_hf.errors import InputError


def whole_number(name: str, number: Any) -> int:
    """Return a whole number from 0.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InputError(f"{name}: expected a whole number from 0, got {number!r}")
    return number


def number_from_0(name: str, number: Any) -> float:
    """Return a finite number from 0.

    Raises:
        InputError: it is something else.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise InputError(f"{name}: expected a number from 0, got {number!r}")
    return float(number)


__all__ = ["number_from_0", "whole_number"]
