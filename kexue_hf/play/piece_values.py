"""Values of the pieces on each square in centipawns, for the search.

`VALUES[piece][square]` is what a piece adds to Red's score: positive for Red's pieces, negative for Black's. Black's
pieces have negative codes, so the list is indexed from its end for them.
"""

from kexue_hf.xiangqi.pieces import ADVISOR, CANNON, ELEPHANT, KING, KNIGHT, PAWN, ROOK
from kexue_hf.xiangqi.squares import ALL, FILES, RANKS, file_of, rank_of

# Without the bonus for a square. A king is never captured.
PIECE_VALUE = {0: 0, KING: 0, ADVISOR: 200, ELEPHANT: 200, KNIGHT: 430, ROOK: 960, CANNON: 460, PAWN: 80}


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
        return 20 if rank == 9 else 60 + 16 * centre + (14 if rank in (6, 7) else 0) + (8 if rank == 8 else 0)
    if kind == KNIGHT:
        edge = -25 if file in (0, 8) else 0
        forward = (-25, -20, 0, 8, 14, 24, 30, 30, 22, 0)[rank]
        return forward + edge + 5 * min(centre, 3) - (40 if rank == 1 and centre == 4 else 0)
    if kind == CANNON:
        forward = (-4, 0, 4, 0, 4, 4, 10, 8, 10, 14)[rank]
        return forward + (18 if centre == 4 and rank < 5 else 2 * centre)
    return (-12, -4, 0, 4, 14, 16, 20, 24, 20, 10)[rank] + (-6 if file in (0, 8) else 3 * centre)


def _table() -> list[list[int]]:
    table = [[0] * len(ALL) for _ in range(15)]
    for kind, value in PIECE_VALUE.items():
        if kind:
            for square in ALL:
                table[kind][square] = value + _bonus(kind, square)
                mirrored = (RANKS - 1 - rank_of(square)) * FILES + file_of(square)
                table[-kind][mirrored] = -table[kind][square]
    return table


VALUES = _table()


def material(squares: tuple[int, ...] | list[int]) -> int:
    """Return the score of a position for Red: its pieces and where they stand."""
    return sum(VALUES[piece][square] for square, piece in enumerate(squares) if piece)


__all__ = ["PIECE_VALUE", "VALUES", "material"]
