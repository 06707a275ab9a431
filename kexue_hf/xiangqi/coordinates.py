"""Moves as coordinates: ICCS, whose ranks are 0 to 9, and UCI, whose ranks are 1 to 10.

ICCS "h2e2" is UCI "h3e3", and ICCS "a9a8" is UCI "a10a9". The package writes ICCS in lower case without a hyphen.
"""

import re

from kexue_hf.errors import InputError, quoted
from kexue_hf.xiangqi.squares import ALL, SQUARE_NAMES, SQUARE_OF_NAME

# Entry `origin * 90 + target`.
ICCS = tuple(first + second for first in SQUARE_NAMES for second in SQUARE_NAMES)
_MOVE_OF_ICCS = {ICCS[origin * len(ALL) + target]: (origin, target) for origin in ALL for target in ALL}

_ICCS_TEXT = re.compile(r"([a-i][0-9])-?([a-i][0-9])", re.ASCII | re.IGNORECASE)
_CHINESE_ACTIONS = "进進退平"
_UCI_TEXT = re.compile(r"([a-i])(10|[1-9])([a-i])(10|[1-9])", re.ASCII | re.IGNORECASE)


def iccs_of(move: tuple[int, int]) -> str:
    """Return (origin, target) as ICCS."""
    return ICCS[move[0] * len(ALL) + move[1]]


def squares_of(iccs: str) -> tuple[int, int]:
    """Return (origin, target) of an ICCS move in any spelling that `parse_iccs` takes."""
    move = _MOVE_OF_ICCS.get(iccs) if isinstance(iccs, str) else None
    return move if move is not None else _MOVE_OF_ICCS[parse_iccs(iccs)]


def parse_iccs(text: str) -> str:
    """Return an ICCS move in the package's spelling: "H2-E2" becomes "h2e2".

    Raises:
        InputError: the text is not two squares a0 to i9.
    """
    match = _ICCS_TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        advice = ""
        if isinstance(text, str) and any(char in _CHINESE_ACTIONS for char in text):
            advice = "; this is Chinese notation, which from_chinese(board, text) converts to ICCS"
        raise InputError(
            f"expected an ICCS move such as h2e2 (files a to i, ranks 0 to 9), got {quoted(str(text))}{advice}"
        )
    return (match[1] + match[2]).lower()


def to_uci(iccs: str) -> str:
    """Return an ICCS move as UCI, whose ranks count from 1.

    Raises:
        InputError: as `parse_iccs`.
    """
    iccs = parse_iccs(iccs)
    return f"{iccs[0]}{int(iccs[1]) + 1}{iccs[2]}{int(iccs[3]) + 1}"


def from_uci(uci: str) -> str:
    """Return a UCI move, whose ranks count from 1, as ICCS.

    Raises:
        InputError: the text is not two squares a1 to i10.
    """
    match = _UCI_TEXT.fullmatch(uci) if isinstance(uci, str) else None
    if match is None:
        raise InputError(f"expected a UCI move such as h3e3 (files a to i, ranks 1 to 10), got {quoted(str(uci))}")
    return f"{match[1]}{int(match[2]) - 1}{match[3]}{int(match[4]) - 1}".lower()


def square_of(name: str) -> int:
    """Return the number of a square such as "h2".

    Raises:
        InputError: there is no such square.
    """
    if not isinstance(name, str) or name.lower() not in SQUARE_OF_NAME:
        raise InputError(f"expected a square from a0 to i9, got {quoted(str(name))}")
    return SQUARE_OF_NAME[name.lower()]
