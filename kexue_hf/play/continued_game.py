"""The game that a position belongs to.

UCCI programs send the position after the last capture and the moves since, not the moves before it, which the model
reads.
"""

from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.fen import is_start


def continued_game(board: Board, last: Board, answer: str | None) -> Board:
    """Return the last game up to the position of a board without moves, or else the board.

    The position may also be one or, after the engine's own answer, two half-moves later than the end of the game.

    Args:
        last: the game that was played last.
        answer: the engine's move after it, if any.
    """
    if is_start(board.start_fen):
        return board
    wanted = (board.side, board.squares)
    game = last.copy()
    while (game.side, game.squares) != wanted and game.moves:
        game.pop()
    if (game.side, game.squares) == wanted:
        return game
    for begun in ([], [] if answer is None else [answer]):
        game = last.copy()
        for move in begun:
            game.push(move)
        for move in game.legal_moves():
            game.push(move)
            if (game.side, game.squares) == wanted:
                return game
            game.pop()
    return board


__all__ = ["continued_game"]
