"""The board after each token of a game, for a model that also reads the position."""

from collections.abc import Sequence

import numpy as np
import torch

SQUARES, PIECES = 90, 14
# Classes of a point, rank by rank from a0: 0 is empty; 1 to 7 are Red's king, advisor, elephant, knight, rook, cannon
# and pawn, 8 to 14 are Black's.
_BACK_RANK = [5, 4, 3, 2, 1, 2, 3, 4, 5]
_RED_HALF = [*_BACK_RANK, *[0] * 10, 6, *[0] * 5, 6, 0, *[7, 0] * 4, 7, *[0] * 9]
START = np.array([*_RED_HALF, *(piece and piece + 7 for piece in reversed(_RED_HALF))], dtype=np.uint8)


def boards_of(input_ids: torch.Tensor, vocab_size: int, pad_token_id: int = 0) -> torch.Tensor:
    """Return the board after each token, uint8 [batch, length, 90]; it changes with the last token of a move.

    Moves are made without asking whether they are legal. A [PAD] changes nothing, and moves are counted from a row's
    first other token, so padding on either side is allowed.

    Args:
        input_ids: [batch, length]; whole games, from the first move on.
        vocab_size: 20 for characters, 91 for squares.
    """
    rows = input_ids.tolist()
    boards = np.empty((len(rows), input_ids.shape[1], SQUARES), dtype=np.uint8)
    for row, ids in zip(boards, rows, strict=True):
        _replay(ids, row, pad_token_id, ids_per_square=1 if vocab_size > 20 else 2)
    return torch.from_numpy(boards).to(input_ids.device)


def _replay(ids: Sequence[int], boards: np.ndarray, pad_token_id: int, ids_per_square: int) -> None:
    """Write the board after each token to `boards`, [length, 90]."""
    board = START.copy()
    move: list[int] = []
    start = 0
    for place, index in enumerate(ids):
        if index == pad_token_id:
            continue
        move.append(index)
        if len(move) == 2 * ids_per_square:
            boards[start:place] = board
            start = place
            origin, target = _square(move[:ids_per_square]), _square(move[ids_per_square:])
            board[target], board[origin] = board[origin], 0
            move = []
    boards[start:] = board


def _square(ids: Sequence[int]) -> int:
    """Return the square of its ids, as the vocabularies order them: from a0 to i9, or digits before files."""
    if len(ids) == 1:
        return (ids[0] - 1) % SQUARES
    file, rank = ids
    # A sequence that is no move gives any square, never an error.
    return (rank - 1) % 10 * 9 + (file - 11) % 9


__all__ = ["PIECES", "SQUARES", "START", "boards_of"]
