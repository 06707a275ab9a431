"""Repeated positions: who, if anyone, loses by perpetual check or perpetual chase.

The rules are the Asian rules (Asian Xiangqi Federation; English text of the Hong Kong Chinese Chess Association at
wxf.org), simplified. When a position occurs for the third time, all moves since its first occurrence are judged:

1. A side that checks with every move loses. If both do, the game is a draw.
2. Otherwise, a side that chases the same piece with every move loses. If both do, the game is a draw.
3. Every other repetition is a draw: threats of mate, checks mixed with chases or with idle moves, chases of several
   pieces in turn, offers to exchange.

A move chases a piece if it gives no check and creates a threat to capture that piece, which means:

- The threat is made by a rook, knight, cannon, advisor or elephant. Kings and pawns may chase.
- The piece is no king and no pawn on its own side of the river.
- The capture is legal, and the other side could not legally recapture. A knight or a cannon chases a rook even if the
  other side could recapture.
- Attacker and piece are not of the same kind, unless the piece could not legally capture the attacker (else it is an
  offer to exchange).
- The same attacker did not threaten the same piece before the move. So a piece that follows its victim along a line
  which it already attacks does not chase, and removing the last defender of an attacked piece does.

Simplified:

- Chinese rules, which also forbid to alternate checks with threats of mate or chases, are not followed.
- Whether the chased piece tries to escape, the values of the pieces, and sacrifices are not weighed.
- A check never counts as a chase.
- The players are not warned: the third occurrence ends the game.
"""

from typing import NamedTuple

from kexue_hf.xiangqi.attacks import Squares, is_attacked
from kexue_hf.xiangqi.moves import Move, is_legal, is_safe, pseudo_legal_moves
from kexue_hf.xiangqi.outcome import DRAW, Outcome, Reason, win_for
from kexue_hf.xiangqi.pieces import ADVISOR, BLACK, CANNON, ELEPHANT, KING, KNIGHT, PAWN, RED, ROOK
from kexue_hf.xiangqi.squares import has_crossed

_CHASERS = (ROOK, KNIGHT, CANNON, ADVISOR, ELEPHANT)


class Ply(NamedTuple):
    """A move that was made, and the piece that it captured (0 for none)."""

    origin: int
    target: int
    captured: int


def judge_repetition(squares: Squares, side: int, history: list[Ply], occurrences: int) -> Outcome | None:
    """Return the outcome if the position has occurred often enough, else None.

    Args:
        squares: the present position, 90 signed pieces.
        side: the side to move.
        history: all moves that led to it, the last one last.
        occurrences: how often the position must have occurred, now included.
    """
    first = _first_occurrence(squares, history, occurrences)
    if first is None:
        return None
    always_checks, always_chases = _offences(squares, side, history[first:])
    offences: tuple[tuple[set[int], Reason], ...] = (
        (always_checks, "perpetual check"),
        (always_chases, "perpetual chase"),
    )
    for offenders, reason in offences:
        if len(offenders) == 1:
            return win_for(-offenders.pop(), reason)
        if offenders:
            break
    return Outcome(DRAW, "repetition")


def _first_occurrence(squares: Squares, history: list[Ply], occurrences: int) -> int | None:
    """Return how many moves had been made at the earliest of the last `occurrences` of this position."""
    past = list(squares)
    different = 0
    seen = 1
    for index in reversed(range(len(history))):
        origin, target, captured = history[index]
        if captured:
            return None
        for square, piece in ((origin, past[target]), (target, 0)):
            different += (piece != squares[square]) - (past[square] != squares[square])
            past[square] = piece
        if not different and (len(history) - index) % 2 == 0:
            seen += 1
            if seen == occurrences:
                return index
    return None


def _offences(squares: Squares, side: int, cycle: list[Ply]) -> tuple[set[int], set[int]]:
    """Return the sides that check with every move of a cycle, and those that chase the same piece with every move."""
    # A cycle without captures ends where it began, so the present position is its first, too.
    squares = list(squares)
    identities = {square: square for square, piece in enumerate(squares) if piece}
    checking = {RED, BLACK}
    chased: dict[int, set[int] | None] = {RED: None, BLACK: None}
    for origin, target, _ in cycle:
        before = _threats(squares, side, identities, legal=False)
        squares[target], squares[origin] = squares[origin], 0
        identities[target] = identities.pop(origin)
        if is_attacked(squares, -side):
            victims: set[int] = set()
        else:
            checking.discard(side)
            victims = {victim for _, victim in _threats(squares, side, identities, legal=True) - before}
        so_far = chased[side]
        chased[side] = victims if so_far is None else so_far & victims
        side = -side
    return checking, {side for side, victims in chased.items() if victims}


def _threats(squares: Squares, side: int, identities: dict[int, int], legal: bool) -> set[tuple[int, int]]:
    """Return (attacker, victim) for each threat of a side, as if it were to move; pieces are named by identity.

    Args:
        legal: leave out captures that would expose the own king. Before a move they count as threats, so that a move
            out of check does not seem to create them.
    """
    origins = [square for square, piece in enumerate(squares) if piece * side in _CHASERS]
    return {
        (identities[move[0]], identities[move[1]])
        for move in pseudo_legal_moves(squares, side, origins)
        if _can_be_chased(squares, side, move[1])
        and (not legal or is_safe(squares, side, move))
        and _gains(squares, side, move)
    }


def _can_be_chased(squares: Squares, side: int, target: int) -> bool:
    kind = squares[target] * -side
    return kind > 0 and kind != KING and (kind != PAWN or has_crossed(target, -side))


def _gains(squares: Squares, side: int, capture: Move) -> bool:
    """Return whether a capture counts as a threat, whoever its victim is."""
    attacker, victim = abs(squares[capture[0]]), abs(squares[capture[1]])
    if victim == ROOK and attacker in (KNIGHT, CANNON):
        return True
    if victim == attacker and is_legal(squares, -side, capture[::-1]):
        return False
    return not _can_recapture(squares, side, capture)


def _can_recapture(squares: Squares, side: int, capture: Move) -> bool:
    origin, target = capture
    captured = squares[target]
    squares[target], squares[origin] = squares[origin], 0
    others = [square for square, piece in enumerate(squares) if piece * side < 0]
    found = any(
        move[1] == target and is_safe(squares, -side, move) for move in pseudo_legal_moves(squares, -side, others)
    )
    squares[origin], squares[target] = squares[target], captured
    return found
