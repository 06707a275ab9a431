"""What a player answers: the move, and the moves that it considered."""

import math
from dataclasses import dataclass

from kexue_hf.play.alpha_beta import MATE_BOUND

# Centipawns at which one side wins three games in four more than the other, roughly.
_SCALE = 400.0


@dataclass(frozen=True)
class Candidate:
    """A legal move.

    Attributes:
        move: as ICCS.
        probability: by the policy of the model, over all legal moves.
        visits: positions that the search visited after it; 0 without a search.
        value: expected result for the side to move, from -1 (loses) to 1 (wins): with a search, the mean of its score
            and of the value head after the move, at most this for moves that are not the best; without a search, that
            of the position.
    """

    move: str
    probability: float
    visits: int
    value: float


@dataclass(frozen=True)
class Choice:
    """A chosen move.

    Attributes:
        move: as ICCS.
        candidates: all moves that were considered, the best first; the chosen one need not be the first if the player
            draws its moves.
        value: expected result for the side to move, from -1 to 1.
        line: the moves that both sides are expected to make, beginning with `move`.
        nodes: positions that the search visited; 0 without a search.
        seconds: time taken.
        score: centipawns for the side to move, from the search, or from material without one.
        depth: half-moves that the search has finished.
    """

    move: str
    candidates: list[Candidate]
    value: float
    line: list[str]
    nodes: int
    seconds: float
    score: int = 0
    depth: int = 0


def value_of_score(score: float) -> float:
    """Return the expected result, from -1 to 1, that a score in centipawns means."""
    if abs(score) >= MATE_BOUND:
        return 1.0 if score > 0 else -1.0
    return math.tanh(score / _SCALE / 2)


def results_of_score(score: float) -> tuple[float, float, float]:
    """Return probabilities of a win, a draw and a loss that sum to 1 and have the mean `value_of_score`."""
    value = value_of_score(score)
    draw = (1 - abs(value)) * 0.5
    return (1 - draw + value) / 2, draw, (1 - draw - value) / 2


__all__ = ["Candidate", "Choice", "results_of_score", "value_of_score"]
