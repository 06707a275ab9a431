"""The 90 points of the board, and where each piece can stand and reach on an empty board.

A square is `rank * 9 + file`, 0 to 89: file 0 is "a", the leftmost for Red, and rank 0 is Red's back rank, as in ICCS.
The tables have one entry per square.
"""

from kexue_hf.xiangqi.pieces import ADVISOR, BLACK, CANNON, ELEPHANT, KING, KNIGHT, PAWN, RED, ROOK

FILES, RANKS = 9, 10
FILE_LETTERS = "abcdefghi"
SQUARE_NAMES = tuple(f"{file}{rank}" for rank in range(RANKS) for file in FILE_LETTERS)
SQUARE_OF_NAME = {name: square for square, name in enumerate(SQUARE_NAMES)}
ALL = range(FILES * RANKS)

_STRAIGHT = ((1, 0), (-1, 0), (0, 1), (0, -1))
_DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))


def file_of(square: int) -> int:
    """Return 0 for file a to 8 for file i."""
    return square % FILES


def rank_of(square: int) -> int:
    """Return 0 for Red's back rank to 9 for Black's."""
    return square // FILES


def has_crossed(square: int, side: int) -> bool:
    """Return whether a square is beyond the river for a side."""
    return (rank_of(square) >= 5) == (side == RED)


def _shifted(square: int, files: int, ranks: int) -> int | None:
    """Return the square some files to the right and ranks up, or None outside the board."""
    file, rank = file_of(square) + files, rank_of(square) + ranks
    return rank * FILES + file if 0 <= file < FILES and 0 <= rank < RANKS else None


def _ray(square: int, files: int, ranks: int) -> tuple[int, ...]:
    found = []
    target = _shifted(square, files, ranks)
    while target is not None:
        found.append(target)
        target = _shifted(target, files, ranks)
    return tuple(found)


def _in_palace(square: int) -> bool:
    return 3 <= file_of(square) <= 5 and rank_of(square) in (0, 1, 2, 7, 8, 9)


def _palace_targets(square: int, steps: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    targets = (_shifted(square, *step) for step in steps)
    return tuple(target for target in targets if target is not None and _in_palace(target))


def _elephant_targets(square: int) -> tuple[tuple[int, int], ...]:
    """Return (target, point between) of an elephant's moves, none of which crosses the river."""
    found = []
    for files, ranks in _DIAGONAL:
        target, middle = _shifted(square, 2 * files, 2 * ranks), _shifted(square, files, ranks)
        if target is not None and middle is not None and has_crossed(square, RED) == has_crossed(target, RED):
            found.append((target, middle))
    return tuple(found)


def _knight_moves(square: int) -> tuple[tuple[int, int, int], ...]:
    """Return (target, leg of the move, leg of the move back).

    The leg, which must be empty, is next to the origin in the direction of the longer step.
    """
    found = []
    for files, ranks in _STRAIGHT:
        leg = _shifted(square, files, ranks)
        for sideways in (1, -1):
            target = _shifted(square, 2 * files or sideways, 2 * ranks or sideways)
            if leg is not None and target is not None:
                found.append((target, leg, target - files - FILES * ranks))
    return tuple(found)


def _pawn_targets(square: int, side: int) -> tuple[int, ...]:
    steps = ((0, side), (1, 0), (-1, 0)) if has_crossed(square, side) else ((0, side),)
    return tuple(target for step in steps if (target := _shifted(square, *step)) is not None)


# Right, left, towards Black, towards Red; the nearest square first.
RAYS = tuple(tuple(_ray(square, *step) for step in _STRAIGHT) for square in ALL)
KING_TARGETS = tuple(_palace_targets(square, _STRAIGHT) for square in ALL)
ADVISOR_TARGETS = tuple(_palace_targets(square, _DIAGONAL) for square in ALL)
ELEPHANT_TARGETS = tuple(_elephant_targets(square) for square in ALL)
KNIGHT_TARGETS = tuple(tuple((target, leg) for target, leg, _ in _knight_moves(square)) for square in ALL)
# (origin, leg) of every knight that could capture on the square.
KNIGHT_ATTACKERS = tuple(tuple((origin, leg) for origin, _, leg in _knight_moves(square)) for square in ALL)
PAWN_TARGETS = {side: tuple(_pawn_targets(square, side) for square in ALL) for side in (RED, BLACK)}
# Origins of every pawn of a side that could capture on the square.
PAWN_ATTACKERS = {
    side: tuple(tuple(origin for origin in ALL if square in PAWN_TARGETS[side][origin]) for square in ALL)
    for side in (RED, BLACK)
}


def _closure(start: str, targets: dict[int, set[int]]) -> frozenset[int]:
    """Return the squares that a piece can ever reach from the named squares."""
    reached, waiting = set(), [SQUARE_OF_NAME[name] for name in start.split()]
    while waiting:
        square = waiting.pop()
        if square not in reached:
            reached.add(square)
            waiting.extend(targets[square])
    return frozenset(reached)


def _possible_squares() -> dict[int, frozenset[int]]:
    """Return where each piece can ever stand, from its moves and its place at the start."""
    found = {}
    for side, starts in (
        (RED, ("e0", "d0", "c0 g0", "a3 c3 e3 g3 i3")),
        (BLACK, ("e9", "d9", "c9 g9", "a6 c6 e6 g6 i6")),
    ):
        moves = (
            {square: set(KING_TARGETS[square]) for square in ALL},
            {square: set(ADVISOR_TARGETS[square]) for square in ALL},
            {square: {target for target, _ in ELEPHANT_TARGETS[square]} for square in ALL},
            {square: set(PAWN_TARGETS[side][square]) for square in ALL},
        )
        for kind, start, targets in zip((KING, ADVISOR, ELEPHANT, PAWN), starts, moves, strict=True):
            found[side * kind] = _closure(start, targets)
        for kind in (KNIGHT, ROOK, CANNON):
            found[side * kind] = frozenset(ALL)
    return found


POSSIBLE_SQUARES = _possible_squares()
