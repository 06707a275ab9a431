"""Moves drawn at a temperature. A draw depends on the seed and the game alone, never on other games of the player."""

import math
import random
from collections.abc import Sequence

from kexue_hf.xiangqi import Board


def drawn_index(board: Board, logits: Sequence[float], temperature: float, seed: int | None) -> int:
    """Return an index drawn by logits, divided by the temperature; at temperature 0, the first.

    Args:
        board: with the seed, it decides the draw.
        seed: None for a draw that cannot be repeated.
    """
    if temperature == 0 or len(logits) == 1:
        return 0
    source: random.Random = random.SystemRandom()
    if seed is not None:
        source = random.Random(f"{seed} {board.start_fen} {' '.join(board.moves)}")
    greatest = max(logits)
    weights = [math.exp(max(-700.0, (logit - greatest) / temperature)) for logit in logits]
    return source.choices(range(len(logits)), weights)[0]


__all__ = ["drawn_index"]
