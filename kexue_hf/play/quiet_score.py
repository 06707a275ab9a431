"""Material after all captures: the score of a position without a model."""

from kexue_hf.play.alpha_beta import MATE, MATE_BOUND, AlphaBeta
from kexue_hf.play.search_position import SearchPosition
from kexue_hf.xiangqi import Board


def quiet_score(board: Board) -> int:
    """Return the centipawns for the side to move once the captures that pay have been made."""
    position = SearchPosition(board)
    score = AlphaBeta(position, lambda: None).search(0, -MATE, MATE, 0, 0)
    return max(-MATE_BOUND, min(MATE_BOUND, score))


__all__ = ["quiet_score"]
