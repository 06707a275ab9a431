"""A recorded game, and the error for a record that cannot be used."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kexue_hf.errors import InputError, quoted
from kexue_hf.xiangqi.board import Board
from kexue_hf.xiangqi.chinese import from_chinese
from kexue_hf.xiangqi.coordinates import parse_iccs
from kexue_hf.xiangqi.fen import START
from kexue_hf.xiangqi.outcome import RESULTS, UNKNOWN

# The longest real game has about 400; anything near this is no game.
MOST_PLIES = 10_000


@dataclass(frozen=True)
class Game:
    """A game whose moves are all legal.

    Attributes:
        moves: ICCS strings.
        result: "1-0" (Red won), "0-1" (Black won), "1/2-1/2" or "*" (unknown), as recorded.
        fen: the position before the first move.
        tags: the header of the record.
    """

    moves: tuple[str, ...]
    result: str = UNKNOWN
    fen: str = START
    tags: Mapping[str, str] = field(default_factory=dict)

    def replay(self) -> Iterator[tuple[Board, str]]:
        """Yield (board, move) for each move, before it is made. The board is one object: copy it to keep it.

        Raises:
            InputError: the FEN or a move is not legal.
        """
        board = Board(self.fen)
        for move in self.moves:
            yield board, move
            board.push(move)


class GameError(InputError):
    """A record of a game cannot be used.

    Attributes:
        file: name of the file.
        game: number of the game in the file, from 1.
        ply: number of the move, from 1, counting the moves of both sides; None if the fault is in no move.
    """

    def __init__(self, message: object, file: str = "", game: int = 0, ply: int | None = None) -> None:
        super().__init__(message)
        self.file, self.game, self.ply = file, game, ply


class GameBuilder:
    """Collects the parts of one record, makes its moves on a board, and keeps the first fault.

    After a fault the moves that follow are not read.
    """

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self.result = UNKNOWN
        self.fault: str | None = None
        self.faulty_ply: int | None = None
        self._board: Board | None = None
        self._moves: list[str] = []

    def start(self, fen: str) -> None:
        """Set the position before the first move."""
        try:
            self._board = Board(fen)
        except InputError as error:
            self.fail(str(error))

    def add_result(self, result: str) -> None:
        """Add a result; a known one must not contradict another."""
        if result not in RESULTS:
            self.fail(f"expected one of {', '.join(RESULTS)} as the result, got {quoted(result)}")
        elif self.result != UNKNOWN and result not in (UNKNOWN, self.result):
            self.fail(f"expected one result, got {self.result} and {result}")
        elif result != UNKNOWN:
            self.result = result

    def add_move(self, text: str) -> None:
        """Make a move that is written as ICCS or in Chinese notation."""
        if self.fault:
            return
        if self._board is None:
            self._board = Board()
        try:
            if len(self._moves) >= MOST_PLIES:
                raise InputError(f"expected at most {MOST_PLIES:,} plies; check that the games are separated")
            if "\ufffd" in text:
                raise InputError(f"{quoted(text)} cannot be decoded; pass the file's encoding, such as gb18030")
            move = parse_iccs(text) if text.isascii() else from_chinese(self._board, text)
            self._board.push(move)
        except InputError as error:
            self.fail(str(error), len(self._moves) + 1)
        else:
            self._moves.append(move)

    def fail(self, fault: str, ply: int | None = None) -> None:
        """Note a fault, unless there is an earlier one."""
        if self.fault is None:
            self.fault, self.faulty_ply = fault, ply

    def game(self, file: str, number: int) -> Game:
        """Return the game.

        Raises:
            GameError: the record has a fault.
        """
        if self.fault is not None:
            place = f"{file}, game {number}" + (f", ply {self.faulty_ply}" if self.faulty_ply else "")
            raise GameError(f"{place}: {self.fault}", file, number, self.faulty_ply)
        fen = self._board.start_fen if self._board is not None else START
        return Game(tuple(self._moves), self.result, fen, dict(self.tags))
