"""Attacks on a king, and pieces that would expose it by moving."""

from kexue_hf.xiangqi.pieces import CANNON, KING, KNIGHT, PAWN, ROOK
from kexue_hf.xiangqi.squares import KNIGHT_ATTACKERS, PAWN_ATTACKERS, RAYS

Squares = list[int]


def is_attacked(squares: Squares, side: int, king: int | None = None) -> bool:
    """Return whether the king of a side is attacked, by the other king along an open file too.

    Args:
        squares: 90 signed pieces.
        side: 1 for Red, -1 for Black.
        king: square of the king, if the caller knows it.
    """
    if king is None:
        king = squares.index(KING * side)
    rook, cannon, other_king = -ROOK * side, -CANNON * side, -KING * side
    for ray in RAYS[king]:
        screened = False
        for square in ray:
            piece = squares[square]
            if piece:
                if screened:
                    if piece == cannon:
                        return True
                    break
                # Two palaces share no rank, so kings meet on files only.
                if piece in (rook, other_king):
                    return True
                screened = True
    knight, pawn = -KNIGHT * side, -PAWN * side
    for square, leg in KNIGHT_ATTACKERS[king]:
        if squares[square] == knight and not squares[leg]:
            return True
    return any(squares[square] == pawn for square in PAWN_ATTACKERS[-side][king])


def king_safety(squares: Squares, side: int, king: int) -> tuple[bool, set[int], set[int]]:
    """Return what decides which moves of a side are safe for its king.

    Returns:
        Whether the king is attacked; if it is not, the squares that a move from can expose it, and the squares that a
        move to can expose it (as the screen of a cannon). Every other move of another piece than the king is safe.
    """
    rook, cannon, other_king = -ROOK * side, -CANNON * side, -KING * side
    origins: set[int] = set()
    targets: set[int] = set()
    for ray in RAYS[king]:
        met = 0
        first = second = -1
        for square in ray:
            piece = squares[square]
            if not piece:
                continue
            met += 1
            if met == 1:
                if piece in (rook, other_king):
                    return True, origins, targets
                if piece == cannon:
                    targets.update(ray[: ray.index(square)])
                first = square
            elif met == 2:
                if piece == cannon:
                    return True, origins, targets
                if piece in (rook, other_king):
                    origins.add(first)
                second = square
            else:
                if piece == cannon:
                    origins.update((first, second))
                break
    knight, pawn = -KNIGHT * side, -PAWN * side
    for square, leg in KNIGHT_ATTACKERS[king]:
        if squares[square] == knight:
            if not squares[leg]:
                return True, origins, targets
            origins.add(leg)
    for square in PAWN_ATTACKERS[-side][king]:
        if squares[square] == pawn:
            return True, origins, targets
    return False, origins, targets
