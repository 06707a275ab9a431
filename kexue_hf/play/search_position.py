"""A position of the search: squares, score and hash that follow each move, and what has occurred before."""

import random

from kexue_hf.play.piece_values import table_for
from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.attacks import is_attacked
from kexue_hf.xiangqi.coordinates import squares_of
from kexue_hf.xiangqi.moves import Move
from kexue_hf.xiangqi.pieces import KING
from kexue_hf.xiangqi.repetition import Ply, judge_repetition
from kexue_hf.xiangqi.squares import ALL

_random = random.Random(7877)
# By piece, from the end of the list for Black's, and square.
_HASHES = [[_random.getrandbits(62) for _ in ALL] for _ in range(15)]
_HASHES[0] = [0] * len(ALL)
SIDE_HASH = _random.getrandbits(62)


class SearchPosition:
    """Squares, side to move, score and hash of a position, and those since the last capture of the game.

    Attributes:
        score: material for Red, in centipawns.
        hash: of the squares and the side to move.
        hashes: of the earlier positions, the last one last.
        checked: for each of `hashes`, whether its side to move was in check.
        limit: moves without a capture after which the game is a draw, counted from the first of `hashes`; or None.
    """

    def __init__(self, board: Board) -> None:
        board = board.copy()
        # One table for the whole search, so that all its scores can be compared.
        self._values = table_for(board.squares)
        self._occurrences = board.occurrences
        half_moves = int(board.fen().split()[4])
        moves = board.moves[max(0, len(board.moves) - half_moves) :]
        self.limit = None if board.no_capture_limit is None else board.no_capture_limit - (half_moves - len(moves))
        for _ in moves:
            board.pop()
        self.squares = list(board.squares)
        self.side = board.side
        self.score = 0
        self.hash = SIDE_HASH if self.side < 0 else 0
        for square, piece in enumerate(self.squares):
            self.hash ^= _HASHES[piece][square]
            self.score += self._values[piece][square]
        self.hashes: list[int] = []
        self.checked: list[bool] = []
        self.kings = {side: self.squares.index(KING * side) for side in (1, -1)}
        self._plies: list[Ply] = []
        for move in map(squares_of, moves):
            self.push(move, is_attacked(self.squares, self.side))
            self._plies.append(Ply(*move, 0))

    def push(self, move: Move, in_check: bool) -> int:
        """Make a move and return the captured piece, which `pop` needs.

        Args:
            in_check: whether the side to move is in check before it.
        """
        origin, target = move
        squares = self.squares
        piece, captured = squares[origin], squares[target]
        table, hashes = self._values, _HASHES[piece]
        values = table[piece]
        self.hashes.append(self.hash)
        self.checked.append(in_check)
        self.score += values[target] - values[origin] - table[captured][target]
        self.hash ^= hashes[origin] ^ hashes[target] ^ _HASHES[captured][target] ^ SIDE_HASH
        squares[target], squares[origin] = piece, 0
        if piece in (KING, -KING):
            self.kings[self.side] = target
        self.side = -self.side
        return captured

    def pop(self, move: Move, captured: int) -> None:
        """Take a move back."""
        origin, target = move
        squares = self.squares
        piece = squares[target]
        squares[origin], squares[target] = piece, captured
        values = self._values[piece]
        self.score += values[origin] - values[target] + self._values[captured][target]
        self.hash = self.hashes.pop()
        self.checked.pop()
        self.side = -self.side
        if piece in (KING, -KING):
            self.kings[self.side] = origin

    def repetition(self, in_check: bool, quiet: int) -> int | None:
        """Judge the second occurrence of the position: 1 if the side to move wins, -1 if it loses, 0 for a draw.

        None if the position has not occurred in the last `quiet` moves. Perpetual chases count as draws here.
        """
        hashes, checked = self.hashes, self.checked
        last = len(hashes)
        for index in range(last - 4, max(-1, last - quiet - 1), -2):
            if hashes[index] == self.hash:
                # An even number of moves lies between: the opponent made the last one.
                if in_check and all(checked[index + 2 : last : 2]):
                    return 0 if all(checked[index + 1 : last : 2]) else 1
                return -1 if all(checked[index + 1 : last : 2]) else 0
        return None

    def root_repetition(self, move: Move) -> int | None:
        """Judge a first move, by chases too: 1 if its side wins by it, -1 if it loses, 0 for a draw, else None."""
        if self.squares[move[1]] or self._occurrences is None:
            return None
        squares = list(self.squares)
        squares[move[1]], squares[move[0]] = squares[move[0]], 0
        outcome = judge_repetition(squares, -self.side, [*self._plies, Ply(*move, 0)], 2)
        if outcome is None:
            return None
        return {None: 0, "w": 1, "b": -1}[outcome.winner] * self.side


__all__ = ["SIDE_HASH", "SearchPosition"]
