"""Values of the pieces on each square in centipawns, for the search.

`table[piece][square]` is what a piece adds to Red's score: positive for Red's pieces, negative for Black's. Black's
pieces have negative codes, so the table is indexed from its end for them.

A side whose opponent has hardly any attackers left hunts the king: its pieces gain by coming near, and its pawns and
the defenders around the king are worth more.
"""

import functools

from kexue_hf.xiangqi.pieces import ADVISOR, BLACK, CANNON, ELEPHANT, KING, KNIGHT, PAWN, RED, ROOK
from kexue_hf.xiangqi.squares import ALL, FILES, RANKS, file_of, rank_of

Table = list[list[int]]

# Without the bonus for a square. A king is never captured.
PIECE_VALUE = {0: 0, KING: 0, ADVISOR: 200, ELEPHANT: 200, KNIGHT: 430, ROOK: 960, CANNON: 460, PAWN: 65}
# An opponent with at most this much attacks no more: a rook counts 2, a knight or cannon 1.
_HARMLESS = 2
_ATTACKERS = {ROOK: 2, KNIGHT: 1, CANNON: 1}


def _bonus(kind: int, square: int) -> int:
    """Return the bonus of a Red piece on a square."""
    file, rank = file_of(square), rank_of(square)
    centre = 4 - abs(file - 4)
    if kind == KING:
        return {0: 20, 1: -10, 2: -30}.get(rank, 0) + (10 if centre == 4 and rank == 0 else 0)
    if kind == ADVISOR:
        return 10 if rank == 0 else 15 if centre == 4 else 0
    if kind == ELEPHANT:
        return 25 if centre == 4 else 0 if centre == 0 else 12
    if kind == PAWN:
        if rank < 5:
            return (10 if rank == 4 else 0) + (15 if centre == 4 else 0)
        # Beyond the river: best near the palace, worth little behind it.
        return 20 if rank == 9 else 70 + 16 * centre + (14 if rank in (6, 7) else 0) + (8 if rank == 8 else 0)
    if kind == KNIGHT:
        edge = -20 if file in (0, 8) else 0
        forward = (-30, -20, 0, 8, 14, 24, 30, 30, 22, 0)[rank]
        return forward + edge + 5 * min(centre, 3) - (40 if rank == 1 and centre == 4 else 0)
    if kind == CANNON:
        forward = (-4, 0, 4, 0, 4, 4, 8, 4, 6, 10)[rank]
        return forward + (20 if centre == 4 and rank < 5 else 2 * centre)
    corner = -25 if rank == 0 and centre == 0 else 0
    return (-4, 0, 4, 6, 14, 16, 20, 24, 20, 12)[rank] + 3 * centre + corner


def _hunting_bonus(kind: int, square: int) -> int:
    """Return what a Red piece on a square gains if Red hunts Black's king."""
    file, rank = file_of(square), rank_of(square)
    distance = abs(file - 4) + abs(rank - 8)
    if kind == KING:
        return 10 if file == 4 else 0
    if kind == PAWN:
        # Pawns next to the palace mate; those on the last rank cannot come back.
        return 30 if rank < 5 else 0 if rank == 9 else 30 + 12 * max(0, 6 - distance)
    return {KNIGHT: 7, ROOK: 4, CANNON: 0}.get(kind, 0) * max(0, 9 - distance)


@functools.cache
def value_table(red_hunts: bool = False, black_hunts: bool = False) -> Table:
    """Return the values of all pieces on all squares."""
    table = [[0] * len(ALL) for _ in range(15)]
    for kind, value in PIECE_VALUE.items():
        if not kind:
            continue
        for square in ALL:
            mirrored = (RANKS - 1 - rank_of(square)) * FILES + file_of(square)
            plain, hunting = value + _bonus(kind, square), _hunting_bonus(kind, square)
            defends = 60 if kind in (ADVISOR, ELEPHANT) else 0
            table[kind][square] = plain + hunting * red_hunts + defends * black_hunts
            table[-kind][mirrored] = -(plain + hunting * black_hunts + defends * red_hunts)
    return table


def table_for(squares: tuple[int, ...] | list[int]) -> Table:
    """Return the values for a game that has come to this position."""
    strength = {side: sum(_ATTACKERS.get(piece * side, 0) for piece in squares) for side in (RED, BLACK)}
    return value_table(*(strength[side] > strength[-side] and strength[-side] <= _HARMLESS for side in (RED, BLACK)))


def material(squares: tuple[int, ...] | list[int]) -> int:
    """Return the score of a position for Red: its pieces and where they stand."""
    table = table_for(squares)
    return sum(table[piece][square] for square, piece in enumerate(squares) if piece)


__all__ = ["PIECE_VALUE", "material", "table_for", "value_table"]
