"""The end of a game: its result and the reason."""

from dataclasses import dataclass
from typing import Literal

from kexue_hf.xiangqi.pieces import BLACK, RED

RED_WINS, BLACK_WINS, DRAW, UNKNOWN = "1-0", "0-1", "1/2-1/2", "*"
RESULTS = (RED_WINS, BLACK_WINS, DRAW, UNKNOWN)

Reason = Literal[
    "checkmate",
    "stalemate",
    "perpetual check",
    "perpetual chase",
    "repetition",
    "no capture",
    "no attackers",
]


@dataclass(frozen=True)
class Outcome:
    """How a game ended.

    Attributes:
        result: "1-0" if Red has won, "0-1" if Black has won, "1/2-1/2" for a draw.
        reason: the rule that ended the game.
    """

    result: str
    reason: Reason

    @property
    def winner(self) -> str | None:
        """Return "w" for Red, "b" for Black, None for a draw."""
        return {RED_WINS: "w", BLACK_WINS: "b"}.get(self.result)


def win_for(side: int, reason: Reason) -> Outcome:
    """Return the outcome of a game that a side (1 for Red, -1 for Black) has won."""
    return Outcome({RED: RED_WINS, BLACK: BLACK_WINS}[side], reason)
