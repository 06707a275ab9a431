"""Generation of moves.

A move is a tuple (origin, target) of squares. A pseudo-legal move follows the piece's way of moving; a legal one also
leaves the own king unattacked, which includes that the two kings do not face each other on an open file.
"""

from collections.abc import Iterable

from kexue_hf.xiangqi.attacks import Squares, is_attacked, king_safety
from kexue_hf.xiangqi.pieces import ADVISOR, CANNON, ELEPHANT, KING, KNIGHT, PAWN, ROOK
from kexue_hf.xiangqi.squares import (
    ADVISOR_TARGETS,
    ELEPHANT_TARGETS,
    KING_TARGETS,
    KNIGHT_TARGETS,
    PAWN_TARGETS,
    RAYS,
)

Move = tuple[int, int]


def pseudo_legal_moves(squares: Squares, side: int, origins: Iterable[int]) -> list[Move]:
    """Return the pseudo-legal moves of a side's pieces on the given squares."""
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
                    add((origin, target))
        elif kind == CANNON:
            for ray in RAYS[origin]:
                screened = False
                for target in ray:
                    piece = squares[target]
                    if not screened:
                        if piece:
                            screened = True
                        else:
                            add((origin, target))
                    elif piece:
                        if piece * side < 0:
                            add((origin, target))
                        break
        elif kind == KNIGHT:
            for target, leg in KNIGHT_TARGETS[origin]:
                if not squares[leg] and squares[target] * side <= 0:
                    add((origin, target))
        elif kind == PAWN:
            for target in PAWN_TARGETS[side][origin]:
                if squares[target] * side <= 0:
                    add((origin, target))
        elif kind == ELEPHANT:
            for target, middle in ELEPHANT_TARGETS[origin]:
                if not squares[middle] and squares[target] * side <= 0:
                    add((origin, target))
        elif kind == ADVISOR:
            for target in ADVISOR_TARGETS[origin]:
                if squares[target] * side <= 0:
                    add((origin, target))
        elif kind == KING:
            for target in KING_TARGETS[origin]:
                if squares[target] * side <= 0:
                    add((origin, target))
    return found


def legal_moves(squares: Squares, side: int) -> list[Move]:
    """Return the legal moves of a side, ordered by origin, from a0 to i9 rank by rank."""
    king = squares.index(KING * side)
    own = [square for square, piece in enumerate(squares) if piece * side > 0]
    moves = pseudo_legal_moves(squares, side, own)
    attacked, risky_origins, risky_targets = king_safety(squares, side, king)
    if attacked:
        return [move for move in moves if is_safe(squares, side, move)]
    risky_origins.add(king)
    return [
        move
        for move in moves
        if (move[0] not in risky_origins and move[1] not in risky_targets) or is_safe(squares, side, move)
    ]


def is_safe(squares: Squares, side: int, move: Move) -> bool:
    """Return whether a pseudo-legal move leaves the own king unattacked."""
    origin, target = move
    captured = squares[target]
    squares[target], squares[origin] = squares[origin], 0
    safe = not is_attacked(squares, side)
    squares[origin], squares[target] = squares[target], captured
    return safe


def is_legal(squares: Squares, side: int, move: Move) -> bool:
    """Return whether a side may make a move, without generating all moves."""
    return move in pseudo_legal_moves(squares, side, move[:1]) and is_safe(squares, side, move)


def count_leaves(squares: Squares, side: int, depth: int) -> int:
    """Return the number of sequences of `depth` legal moves. `squares` changes meanwhile and is restored."""
    if depth == 0:
        return 1
    moves = legal_moves(squares, side)
    if depth == 1:
        return len(moves)
    leaves = 0
    for origin, target in moves:
        captured = squares[target]
        squares[target], squares[origin] = squares[origin], 0
        leaves += count_leaves(squares, -side, depth - 1)
        squares[origin], squares[target] = squares[target], captured
    return leaves
