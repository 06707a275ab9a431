"""Generation of captures alone, for the end of the search."""

from collections.abc import Iterable

from kexue_hf.xiangqi.attacks import Squares
from kexue_hf.xiangqi.moves import Move
from kexue_hf.xiangqi.pieces import ADVISOR, CANNON, ELEPHANT, KING, KNIGHT, PAWN, ROOK
from kexue_hf.xiangqi.squares import (
    ADVISOR_TARGETS,
    ELEPHANT_TARGETS,
    KING_TARGETS,
    KNIGHT_TARGETS,
    PAWN_TARGETS,
    RAYS,
)


def pseudo_legal_captures(squares: Squares, side: int, origins: Iterable[int]) -> list[Move]:
    """Return those of `kexue_hf.xiangqi.moves.pseudo_legal_moves` that capture a piece."""
    found: list[Move] = []
    add = found.append
    for origin in origins:
        kind = squares[origin] * side
        if kind == ROOK:
            for ray in RAYS[origin]:
                for target in ray:
                    piece = squares[target]
                    if piece:
                        if piece * side < 0:
                            add((origin, target))
                        break
        elif kind == CANNON:
            for ray in RAYS[origin]:
                screened = False
                for target in ray:
                    piece = squares[target]
                    if piece:
                        if screened:
                            if piece * side < 0:
                                add((origin, target))
                            break
                        screened = True
        elif kind == KNIGHT:
            for target, leg in KNIGHT_TARGETS[origin]:
                if squares[target] * side < 0 and not squares[leg]:
                    add((origin, target))
        elif kind == PAWN:
            for target in PAWN_TARGETS[side][origin]:
                if squares[target] * side < 0:
                    add((origin, target))
        elif kind == ELEPHANT:
            for target, middle in ELEPHANT_TARGETS[origin]:
                if squares[target] * side < 0 and not squares[middle]:
                    add((origin, target))
        elif kind in (ADVISOR, KING):
            for target in (ADVISOR_TARGETS if kind == ADVISOR else KING_TARGETS)[origin]:
                if squares[target] * side < 0:
                    add((origin, target))
    return found


__all__ = ["pseudo_legal_captures"]
