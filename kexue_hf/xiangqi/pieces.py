"""The pieces: their codes, FEN letters, Chinese names and number at the start.

A piece is a small integer: positive for Red, negative for Black, 0 for an empty point.
"""

KING, ADVISOR, ELEPHANT, KNIGHT, ROOK, CANNON, PAWN = range(1, 8)
RED, BLACK = 1, -1
SIDE_NAMES = {RED: "Red", BLACK: "Black"}
SIDE_LETTERS = {RED: "w", BLACK: "b"}

NAMES = {
    KING: "king",
    ADVISOR: "advisor",
    ELEPHANT: "elephant",
    KNIGHT: "knight",
    ROOK: "rook",
    CANNON: "cannon",
    PAWN: "pawn",
}
# The most that one side can have; no piece is ever promoted.
AT_MOST = {KING: 1, ADVISOR: 2, ELEPHANT: 2, KNIGHT: 2, ROOK: 2, CANNON: 2, PAWN: 5}

_LETTERS = {KING: "k", ADVISOR: "a", ELEPHANT: "b", KNIGHT: "n", ROOK: "r", CANNON: "c", PAWN: "p"}
# E and H are what some programs write for B and N.
_READ_LETTERS = {letter: kind for kind, letter in _LETTERS.items()} | {"e": ELEPHANT, "h": KNIGHT}

LETTER_OF = {0: "."}
for _kind, _letter in _LETTERS.items():
    LETTER_OF[_kind], LETTER_OF[-_kind] = _letter.upper(), _letter
PIECE_OF_LETTER = {}
for _letter, _kind in _READ_LETTERS.items():
    PIECE_OF_LETTER[_letter.upper()], PIECE_OF_LETTER[_letter] = _kind, -_kind

# What is written on the pieces of a board: the two sides differ in every character.
GLYPHS = dict(zip((*range(1, 8), *range(-1, -8, -1)), "帥仕相傌俥炮兵將士象馬車砲卒", strict=True))


def side_of(piece: int) -> int:
    """Return 1 for a Red piece, -1 for a Black one, 0 for an empty point."""
    return (piece > 0) - (piece < 0)


def describe(piece: int) -> str:
    """Return a piece in words, such as "Red cannon"."""
    return f"{SIDE_NAMES[side_of(piece)]} {NAMES[abs(piece)]}"
