"""The board after each token of a game, for a model that also reads the position."""

from collections.abc import Sequence

import numpy as np
import torch

SQUARES, PIECES = 90, 14
# Classes of a point, rank by rank from a0: 0 is empty; 1 to 7 are Red's king, advisor, elephant, knight, rook, cannon
# and pawn, 8 to 14 are Black's;
# 15 to 28 are these 14 for the piece that is about to move.
_BACK_RANK = [5, 4, 3, 2, 1, 2, 3, 4, 5]
_RED_HALF = [*_BACK_RANK, *[0] * 10, 6, *[0] * 5, 6, 0, *[7, 0] * 4, 7, *[0] * 9]
START = np.array([*_RED_HALF, *(piece and piece + 7 for piece in reversed(_RED_HALF))], dtype=np.uint8)


# Compilers would trace the loops over all ids.
@torch.compiler.disable
def boards_of(
    input_ids: torch.Tensor, ids_per_square: int, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the board after each token, uint8 [batch, length, 90].

    It changes with the token that completes a move's origin, where the piece is marked as chosen, and with the move's
    last token. Moves are made without asking whether they are legal. Id 0, which stands before a game and after it,
    and padding change nothing, and moves are counted from a row's first other token.

    Args:
        input_ids: [batch, length]; whole games, from the first move on.
        ids_per_square: `config.ids_per_square`.
        attention_mask: [batch, length], 0 for padding.

    Raises:
        ValueError: inside a trace or an export, where the example's boards would become constants.
    """
    if torch.jit.is_tracing() or is_exporting():
        raise ValueError(
            "a traced or exported model cannot make moves: call boards_of(input_ids, config.ids_per_square) outside, "
            "and give the model its result as the input `boards`"
        )
    if attention_mask is not None:
        input_ids = input_ids.masked_fill(attention_mask == 0, 0)
    rows = input_ids.tolist()
    boards = np.empty((len(rows), input_ids.shape[1], SQUARES), dtype=np.uint8)
    for row, ids in zip(boards, rows, strict=True):
        _replay(ids, row, ids_per_square)
    return torch.from_numpy(boards).to(input_ids.device)


def is_exporting() -> bool:
    # Older versions of torch lack this function.
    return hasattr(torch.compiler, "is_exporting") and torch.compiler.is_exporting()


def _replay(ids: Sequence[int], boards: np.ndarray, ids_per_square: int) -> None:
    """Write the board after each token to `boards`, [length, 90]."""
    board = START.copy()
    move: list[int] = []
    start = 0
    for place, index in enumerate(ids):
        if index == 0:
            continue
        move.append(index)
        if len(move) % ids_per_square == 0:
            boards[start:place] = board
            start = place
            _make(move, board, ids_per_square)
            move = move if len(move) == ids_per_square else []
    boards[start:] = board


def boards_after(board: torch.Tensor, moves: Sequence[Sequence[int]], ids_per_square: int) -> torch.Tensor:
    """Return the boards [moves, 90] after each of the begun or whole moves, from a board [90] between two moves."""
    boards = board.cpu().numpy()[None].repeat(len(moves), axis=0)
    for after, move in zip(boards, moves, strict=True):
        for end in range(ids_per_square, len(move) + 1, ids_per_square):
            _make(move[:end], after, ids_per_square)
    return torch.from_numpy(boards).to(board.device)


def _make(move: Sequence[int], board: np.ndarray, ids_per_square: int) -> None:
    """Change a board [90] in place as a move's last id does: it completes the move, or its origin."""
    origin = _square(move[:ids_per_square])
    piece = board[origin]
    if len(move) == ids_per_square:
        board[origin] = piece + PIECES if 0 < piece <= PIECES else piece
    else:
        board[origin] = 0
        board[_square(move[ids_per_square:])] = piece - PIECES if piece > PIECES else piece


def _square(ids: Sequence[int]) -> int:
    """Return the square of its ids, as the vocabularies order them: from a0 to i9, or digits before files."""
    if len(ids) == 1:
        return (ids[0] - 1) % SQUARES
    file, rank = ids
    # A sequence that is no move gives any square, never an error.
    return (rank - 1) % 10 * 9 + (file - 11) % 9


__all__ = ["PIECES", "SQUARES", "START", "boards_after", "boards_of", "is_exporting"]
