"""The two symmetries of the rules, for moves, positions, games and boards.

Mirror: left and right change places (file a becomes i), which keeps who plays and who wins.

Flip: the board turns by 180 degrees and the colours change places, which also swaps the side to move and the results
1-0 and 0-1. The Chinese text of a move keeps all but its digits and characters: Red's 炮二平五 becomes Black's
炮２平５. A game from the start becomes one that Black begins.

Applied twice, each gives the original back. The legal moves of an image are the images of the legal moves.
"""

from collections.abc import Callable

from kexue_hf.xiangqi.board import Board
from kexue_hf.xiangqi.coordinates import parse_iccs
from kexue_hf.xiangqi.fen import read_fen, write_fen
from kexue_hf.xiangqi.games import Game
from kexue_hf.xiangqi.outcome import BLACK_WINS, RED_WINS
from kexue_hf.xiangqi.squares import FILES

# For str.translate, of whole moves and of single squares, files and ranks.
MIRRORED = str.maketrans("abcdefghi", "ihgfedcba")
FLIPPED = str.maketrans("abcdefghi0123456789", "ihgfedcba9876543210")
_OTHER_RESULT = {RED_WINS: BLACK_WINS, BLACK_WINS: RED_WINS}


def mirror_move(iccs: str) -> str:
    """Return a move with left and right exchanged: "h2e2" becomes "b2e2"."""
    return parse_iccs(iccs).translate(MIRRORED)


def flip_move(iccs: str) -> str:
    """Return a move as the other side would make it: "h2e2" becomes "b7e7"."""
    return parse_iccs(iccs).translate(FLIPPED)


def mirror_fen(fen: str) -> str:
    """Return a position with left and right exchanged.

    Raises:
        InputError: as `Board`.
    """
    position = read_fen(fen)
    squares = position.squares
    ranks = [squares[start : start + FILES] for start in range(0, len(squares), FILES)]
    return write_fen(position._replace(squares=[piece for rank in ranks for piece in reversed(rank)]))


def flip_fen(fen: str) -> str:
    """Return a position with the colours exchanged and the board turned, so that the other side is to move.

    Raises:
        InputError: as `Board`.
    """
    position = read_fen(fen)
    return write_fen(position._replace(squares=[-piece for piece in reversed(position.squares)], side=-position.side))


def mirror_game(game: Game) -> Game:
    """Return a game with left and right exchanged. Result and tags stay, but for a tag FEN."""
    return _game_image(game, mirror_move, mirror_fen, game.result)


def flip_game(game: Game) -> Game:
    """Return a game with the colours exchanged, its result too. Of the tags, FEN and Result change as well."""
    return _game_image(game, flip_move, flip_fen, _OTHER_RESULT.get(game.result, game.result))


def mirror_board(board: Board) -> Board:
    """Return a new board with left and right exchanged, with its history and options."""
    return _board_image(board, mirror_move, mirror_fen)


def flip_board(board: Board) -> Board:
    """Return a new board with the colours exchanged, with its history and options."""
    return _board_image(board, flip_move, flip_fen)


def _game_image(game: Game, move: Callable[[str], str], fen: Callable[[str], str], result: str) -> Game:
    first = fen(game.fen)
    changed = {"FEN": first, "Result": result}
    tags = {name: changed.get(name, value) for name, value in game.tags.items()}
    return Game(tuple(map(move, game.moves)), result, first, tags)


def _board_image(board: Board, move: Callable[[str], str], fen: Callable[[str], str]) -> Board:
    image = Board(fen(board.start_fen), no_capture_limit=board.no_capture_limit, occurrences=board.occurrences)
    for iccs in board.moves:
        image.push(move(iccs))
    return image
