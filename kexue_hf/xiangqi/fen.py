"""FEN, the text of a position: `rnbakabnr/9/.../RNBAKABNR w - - 0 1`.

Ranks from Black's back rank to Red's, upper case for Red; then the side to move (w or r for Red, b for Black), two
unused fields, the half-moves since the last capture, and the number of the move, which counts from 1. The fields after
the side may be missing. E and H are read as B (elephant) and N (knight), and never written.
"""

from collections import Counter
from typing import NamedTuple

from kexue_hf.errors import InputError, quoted
from kexue_hf.xiangqi.attacks import is_attacked
from kexue_hf.xiangqi.pieces import (
    AT_MOST,
    BLACK,
    KING,
    LETTER_OF,
    NAMES,
    PAWN,
    PIECE_OF_LETTER,
    RED,
    SIDE_LETTERS,
    SIDE_NAMES,
    describe,
    side_of,
)
from kexue_hf.xiangqi.squares import (
    FILE_LETTERS,
    FILES,
    POSSIBLE_SQUARES,
    RANKS,
    SQUARE_NAMES,
    file_of,
    has_crossed,
)

START = "rnbakabnr/9/1c5c1/p1p1p1p1p/9/9/P1P1P1P1P/1C5C1/9/RNBAKABNR w - - 0 1"

_SIDES = {"w": RED, "r": RED, "b": BLACK}
_LONGEST_NUMBER = 6
# Of those after the first in a message.
_MOST_FAULTS = 2


class Position(NamedTuple):
    """A parsed FEN: 90 signed pieces, the side to move, half-moves without a capture, number of the move."""

    squares: list[int]
    side: int
    half_moves: int
    move_number: int


def read_fen(fen: str) -> Position:
    """Parse a FEN and check that the position can occur in a game.

    Raises:
        InputError: the text is no FEN, or the position breaks a rule. The message names the first fault.
    """
    if not isinstance(fen, str):
        raise InputError(f"expected a FEN as a string, got {type(fen).__name__}")
    fields = fen.split()
    if not fields:
        raise InputError("expected a FEN, got an empty text; kexue_hf.xiangqi.START is the start")
    if len(fields) < 2 or fields[1] not in _SIDES:
        came = quoted(fields[1]) if len(fields) > 1 else "nothing"
        raise _fault(fen, f"expected w, r or b as the side to move, got {came}")
    if len(fields) > 6:
        raise _fault(fen, f"expected at most 6 fields, got {len(fields)}")
    squares = _read_squares(fen, fields[0])
    half_moves = _read_number(fen, fields, 4, "half-moves without a capture", 0)
    move_number = _read_number(fen, fields, 5, "the number of the move", 1)
    side = _SIDES[fields[1]]
    _check_pieces(fen, squares)
    _check_kings(fen, squares, side)
    return Position(squares, side, half_moves, move_number)


def is_start(fen: str) -> bool:
    """Return whether a FEN is the usual start, however it is spelt and whatever its numbers are."""
    first, start = read_fen(fen), read_fen(START)
    return (tuple(first.squares), first.side) == (tuple(start.squares), start.side)


def write_fen(position: Position) -> str:
    """Return the FEN of a position, with all six fields."""
    rows = []
    for rank in reversed(range(RANKS)):
        row = "".join(LETTER_OF[piece] for piece in position.squares[rank * FILES : (rank + 1) * FILES])
        for empty in range(FILES, 0, -1):
            row = row.replace("." * empty, str(empty))
        rows.append(row)
    return f"{'/'.join(rows)} {SIDE_LETTERS[position.side]} - - {position.half_moves} {position.move_number}"


def _fault(fen: str, fault: str) -> InputError:
    return InputError(f"FEN {quoted(fen)}: {fault}")


def _read_squares(fen: str, text: str) -> list[int]:
    rows = text.split("/")
    if len(rows) != RANKS:
        raise _fault(fen, f"expected {RANKS} ranks separated by /, got {len(rows)}{_other_faults(rows)}")
    squares: list[int] = []
    for rank, row in zip(range(RANKS), reversed(rows), strict=True):
        pieces: list[int] = []
        for char in row:
            if char in PIECE_OF_LETTER:
                pieces.append(PIECE_OF_LETTER[char])
            elif char in "123456789":
                pieces.extend([0] * int(char))
            else:
                raise _fault(fen, f"expected a digit from 1 to 9 or a letter of KABNRCP, got {quoted(char)}")
        if len(pieces) != FILES:
            raise _fault(fen, f"expected {FILES} files in rank {rank}, got {len(pieces)}")
        squares.extend(pieces)
    return squares


def _other_faults(rows: list[str]) -> str:
    """Return what else is wrong with a wrong number of ranks, as the end of a message."""
    if len(rows) == 1:
        return f"; a position looks like {START}"
    widths = [sum(int(char) if char in "123456789" else 1 for char in row) for row in rows]
    if len(rows) == 8 and set(widths) == {8}:
        return "; this is a position of Western chess"
    faults = [
        f"{quoted(char)} is no piece (letters of KABNRCP)"
        for char in dict.fromkeys("".join(rows))
        if char not in PIECE_OF_LETTER and char not in "123456789"
    ]
    faults += [
        f"{quoted(row)} has {width} files instead of {FILES}"
        for row, width in zip(rows, widths, strict=True)
        if width != FILES
    ]
    more = f"; and {len(faults) - _MOST_FAULTS} more faults" if len(faults) > _MOST_FAULTS else ""
    return "".join(f"; {fault}" for fault in faults[:_MOST_FAULTS]) + more


def _read_number(fen: str, fields: list[str], index: int, meaning: str, default: int) -> int:
    if len(fields) <= index or fields[index] == "-":
        return default
    text = fields[index]
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise _fault(fen, f"expected {meaning} as a whole number in field {index + 1}, got {quoted(text)}")
    return int(text)


def _check_pieces(fen: str, squares: list[int]) -> None:
    counts = Counter(squares)
    for side in (RED, BLACK):
        for kind, most in AT_MOST.items():
            if kind == KING and counts[side * KING] != 1:
                raise _fault(fen, f"expected one king of each side, got {counts[side * KING]} of {SIDE_NAMES[side]}")
            if counts[side * kind] > most:
                raise _fault(
                    fen,
                    f"{SIDE_NAMES[side]} has {counts[side * kind]} {NAMES[kind]}s; a side has at most {most}",
                )
    for square, piece in enumerate(squares):
        if piece and square not in POSSIBLE_SQUARES[piece]:
            raise _fault(fen, f"a {describe(piece)} can never stand on {SQUARE_NAMES[square]}")
    at_home = Counter(
        (piece, file_of(square))
        for square, piece in enumerate(squares)
        if abs(piece) == PAWN and not has_crossed(square, side_of(piece))
    )
    for (piece, file), count in at_home.items():
        # A pawn moves sideways beyond the river only.
        if count > 1:
            place = f"before the river on file {FILE_LETTERS[file]}"
            raise _fault(fen, f"expected at most one {describe(piece)} {place}, got {count}")


def _check_kings(fen: str, squares: list[int], side: int) -> None:
    red, black = squares.index(KING), squares.index(-KING)
    if file_of(red) == file_of(black) and not any(squares[red + FILES : black : FILES]):
        raise _fault(fen, f"the kings face each other on file {FILE_LETTERS[file_of(red)]}; put a piece between them")
    if is_attacked(squares, -side):
        checked, other = SIDE_NAMES[-side], SIDE_NAMES[side]
        raise _fault(fen, f"{checked} is in check but {other} is to move; expected {SIDE_LETTERS[-side]} to move")
