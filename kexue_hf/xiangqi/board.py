"""A game of xiangqi in progress: its position, its legal moves, and its end.

Moves are ICCS strings: "h2e2" moves the piece on h2 to e2; files a to i from Red's left, ranks 0 to 9 from Red's side.
"""

from kexue_hf.errors import InputError
from kexue_hf.xiangqi.attacks import is_attacked
from kexue_hf.xiangqi.coordinates import iccs_of, square_of, squares_of
from kexue_hf.xiangqi.fen import START, Position, read_fen, write_fen
from kexue_hf.xiangqi.moves import count_leaves, is_legal, is_safe, legal_moves, pseudo_legal_moves
from kexue_hf.xiangqi.outcome import DRAW, Outcome, win_for
from kexue_hf.xiangqi.pieces import BLACK, CANNON, KNIGHT, LETTER_OF, PAWN, ROOK, SIDE_LETTERS, SIDE_NAMES, describe
from kexue_hf.xiangqi.repetition import Ply, judge_repetition
from kexue_hf.xiangqi.text_board import text_board

_ATTACKERS = (ROOK, KNIGHT, CANNON, PAWN)


class Board:
    """A position with the moves that led to it.

    Args:
        fen: the position to start from, as in `kexue_hf.xiangqi.fen`.
        no_capture_limit: half-moves without a capture after which the game is a draw; None for no limit. The default
            of 120 half-moves (60 by each side) is the natural limit of Chinese tournament rules, with the checks of
            both sides counted too.
        occurrences: how often a position must occur for the game to end by repetition; None for never.

    Raises:
        InputError: the FEN is invalid, or the position cannot occur.
    """

    def __init__(self, fen: str = START, *, no_capture_limit: int | None = 120, occurrences: int | None = 3) -> None:
        for name, number, least in (("no_capture_limit", no_capture_limit, 1), ("occurrences", occurrences, 2)):
            if number is not None and (not isinstance(number, int) or number < least):
                raise InputError(f"{name}: expected a whole number from {least}, or None, got {number!r}")
        self.no_capture_limit = no_capture_limit
        self.occurrences = occurrences
        self._first = read_fen(fen)
        self._squares = list(self._first.squares)
        self._side = self._first.side
        self._half_moves = self._first.half_moves
        self._history: list[Ply] = []
        # `_half_moves` before each move of the history.
        self._earlier_half_moves: list[int] = []

    def __repr__(self) -> str:
        return f"Board({self.fen()!r})"

    def __str__(self) -> str:
        """Return the board as text, as `text_board` does."""
        return text_board(self)

    @property
    def turn(self) -> str:
        """The side to move: "w" for Red, "b" for Black."""
        return SIDE_LETTERS[self._side]

    @property
    def side(self) -> int:
        """The side to move: 1 for Red, -1 for Black."""
        return self._side

    @property
    def squares(self) -> tuple[int, ...]:
        """The 90 points by rank and file, from a0 to i9: 0 or a signed piece (see `kexue_hf.xiangqi.pieces`)."""
        return tuple(self._squares)

    @property
    def moves(self) -> list[str]:
        """The moves pushed so far, as ICCS."""
        return [iccs_of((ply.origin, ply.target)) for ply in self._history]

    @property
    def start_fen(self) -> str:
        """The FEN of the position before the first push."""
        return write_fen(self._first)

    def fen(self) -> str:
        """Return the position as a FEN of six fields."""
        number = self._first.move_number + (len(self._history) + (self._first.side == BLACK)) // 2
        return write_fen(Position(self._squares, self._side, self._half_moves, number))

    def copy(self) -> "Board":
        """Return a board with the same position, history and options."""
        other = Board.__new__(Board)
        other.__dict__.update(self.__dict__)
        other._squares = list(self._squares)
        other._history = list(self._history)
        other._earlier_half_moves = list(self._earlier_half_moves)
        return other

    def piece_at(self, square: str) -> str | None:
        """Return the FEN letter of the piece on a square such as "h2", upper case for Red; None if it is empty.

        Raises:
            InputError: there is no such square.
        """
        piece = self._squares[square_of(square)]
        return LETTER_OF[piece] if piece else None

    def legal_moves(self) -> list[str]:
        """Return the legal moves of the side to move, as ICCS: at most 111, none after checkmate or stalemate."""
        return [iccs_of(move) for move in legal_moves(self._squares, self._side)]

    def is_legal(self, iccs: str) -> bool:
        """Return whether a move is legal, faster than by generating all moves.

        Raises:
            InputError: the text is no ICCS move.
        """
        return is_legal(self._squares, self._side, squares_of(iccs))

    def is_check(self) -> bool:
        """Return whether the king of the side to move is attacked."""
        return is_attacked(self._squares, self._side)

    def push(self, iccs: str) -> None:
        """Make a move, also after the game has ended by a draw rule.

        Raises:
            InputError: the text is no ICCS move, or the move is not legal. The board is unchanged.
        """
        move = squares_of(iccs)
        if not is_legal(self._squares, self._side, move):
            raise InputError(f"{iccs_of(move)} is not legal: {self._objection(*move)}")
        origin, target = move
        self._history.append(Ply(origin, target, self._squares[target]))
        self._earlier_half_moves.append(self._half_moves)
        self._half_moves = 0 if self._squares[target] else self._half_moves + 1
        self._squares[target], self._squares[origin] = self._squares[origin], 0
        self._side = -self._side

    def pop(self) -> str:
        """Take the last move back and return it.

        Raises:
            InputError: no move has been pushed.
        """
        if not self._history:
            raise InputError("expected a pushed move to take back, but this is the first position of the board")
        origin, target, captured = self._history.pop()
        self._half_moves = self._earlier_half_moves.pop()
        self._squares[origin], self._squares[target] = self._squares[target], captured
        self._side = -self._side
        return iccs_of((origin, target))

    def perft(self, depth: int) -> int:
        """Return the number of sequences of `depth` legal moves, the usual check of a move generator.

        Draw rules are ignored. From the start: 44, 1,920, 79,666, 3,290,240.
        """
        if not isinstance(depth, int) or depth < 0:
            raise InputError(f"expected a depth of 0 or more, got {depth!r}")
        return count_leaves(self._squares, self._side, depth)

    def outcome(self) -> Outcome | None:
        """Return how the game has ended, or None while it goes on. The first rule that applies decides:

        1. No legal move: the side to move loses, by checkmate or stalemate.
        2. Neither side has a rook, knight, cannon or pawn: a draw ("no attackers").
        3. The position occurs for the third time (`occurrences`): see `kexue_hf.xiangqi.repetition`.
        4. 120 half-moves without a capture (`no_capture_limit`): a draw ("no capture").
        """
        if not legal_moves(self._squares, self._side):
            return win_for(-self._side, "checkmate" if self.is_check() else "stalemate")
        if not any(abs(piece) in _ATTACKERS for piece in self._squares):
            return Outcome(DRAW, "no attackers")
        if self.occurrences is not None:
            repeated = judge_repetition(self._squares, self._side, self._history, self.occurrences)
            if repeated is not None:
                return repeated
        if self.no_capture_limit is not None and self._half_moves >= self.no_capture_limit:
            return Outcome(DRAW, "no capture")
        return None

    def _objection(self, origin: int, target: int) -> str:
        """Return why a move is not legal, and what would be."""
        side, piece = SIDE_NAMES[self._side], self._squares[origin]
        name = iccs_of((origin, target))[:2]
        if not piece:
            return f"expected a piece of {side} on {name}, which is empty"
        if piece * self._side < 0:
            return f"expected a piece of {side}, which is to move, on {name}, got a {describe(piece)}"
        possible = pseudo_legal_moves(self._squares, self._side, (origin,))
        legal = [iccs_of(move) for move in possible if is_safe(self._squares, self._side, move)]
        advice = f"push one of {', '.join(legal)}" if legal else "push a move of another piece"
        if (origin, target) in possible:
            return f"it leaves the {side} king attacked; {advice}"
        return f"the {describe(piece)} on {name} cannot go there; {advice}"
