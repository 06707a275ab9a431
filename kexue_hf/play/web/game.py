"""One game between a person and the model."""

import asyncio
import datetime
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.play.web.request_errors import RequestError
from kexue_hf.xiangqi import Board, Outcome, parse_iccs, to_chinese

SIDE_NAMES = {"w": "Red", "b": "Black"}


@dataclass
class Thought:
    """A search in progress. `stop` asks it to end; `done` is set when it has."""

    stop: threading.Event = field(default_factory=threading.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Analysis:
    """A judgement of the position of a revision, in progress or done. `stop` drops it before it begins."""

    revision: int
    future: "asyncio.Future[dict[str, Any] | None]"
    stop: threading.Event
    waiting: int = 0

    def is_usable(self) -> bool:
        """Return whether there is a result, or will be one."""
        if not self.future.done():
            return not self.stop.is_set()
        return not self.future.cancelled() and self.future.exception() is None and self.future.result() is not None


class WebGame:
    """A game in memory.

    Its methods are called on the event loop only and never wait, so each request sees and leaves a whole state.

    Attributes:
        id: an unguessable name.
        side: the side of the person, "w" or "b".
        strength: a key of `STRENGTHS`.
        revision: number of changes so far. A request names the revision that its page shows, so a page that has missed
            a change cannot move. Unlike the number of moves, it tells a move from another one made after an undo.
        thought: the search in progress.
        analysis: the last analysis.
    """

    def __init__(self, side: str, strength: str, board: Board, now: float) -> None:
        self.id = secrets.token_urlsafe(16)
        self.side, self.strength, self.board = side, strength, board
        self.revision = 0
        self.last_used = now
        self.started = datetime.date.today()
        self.thought: Thought | None = None
        self.analysis: Analysis | None = None
        self._chinese: list[str] = []
        self._outcome = board.outcome()

    @property
    def outcome(self) -> Outcome | None:
        return self._outcome

    def check_revision(self, revision: int) -> None:
        """Raise RequestError (409) unless a request was made on the present state."""
        if revision != self.revision:
            raise RequestError(
                409,
                "stale",
                f"expected revision {self.revision} of the game, got {revision}: it was changed elsewhere; "
                "read its state again",
            )

    def check_turn(self, of_person: bool) -> None:
        """Raise RequestError (409) unless the game goes on and the person, or the model, is to move."""
        if self._outcome is not None:
            raise RequestError(409, "over", f"the game is over: {self._outcome.result} by {self._outcome.reason}")
        if (self.board.turn == self.side) != of_person:
            mover = "the model" if of_person else "the person"
            raise RequestError(409, "turn", f"{SIDE_NAMES[self.board.turn]}, {mover}, is to move")

    def play(self, move: str, of_person: bool) -> None:
        """Make a move.

        Raises:
            RequestError: the game is over, it is the other side's turn, or the move is not legal.
        """
        self.check_turn(of_person)
        try:
            move = parse_iccs(move)
            text = to_chinese(self.board, move)
            self.board.push(move)
        except InputError as error:
            raise RequestError(400, "illegal", str(error)) from None
        self._chinese.append(text)
        self._changed()

    def can_undo(self) -> bool:
        """Return whether the person has made a move."""
        return self._plies_to_undo() <= len(self.board.moves)

    def undo(self) -> None:
        """Take back the person's last move and the model's answer to it, which may still be missing.

        Raises:
            RequestError: the person has not moved yet.
        """
        if not self.can_undo():
            raise RequestError(409, "nothing_to_undo", "there is no move of yours to take back")
        for _ in range(self._plies_to_undo()):
            self.board.pop()
            self._chinese.pop()
        self._changed()

    def state(self) -> dict[str, Any]:
        """Return what the page shows."""
        board, outcome = self.board, self._outcome
        moves = board.moves
        targets: dict[str, list[str]] = {}
        if outcome is None and board.turn == self.side:
            for move in board.legal_moves():
                targets.setdefault(move[:2], []).append(move[2:])
        names = [f"{file}{rank}" for rank in range(10) for file in "abcdefghi"]
        pieces = {name: letter for name in names if (letter := board.piece_at(name))}
        king = "K" if board.turn == "w" else "k"
        start = board.start_fen.split()
        return {
            "id": self.id,
            "revision": self.revision,
            "side": self.side,
            "strength": self.strength,
            "turn": board.turn,
            "fen": board.fen(),
            "pieces": pieces,
            "targets": targets,
            "check": next(name for name in pieces if pieces[name] == king) if board.is_check() else None,
            "last_move": moves[-1] if moves else None,
            "first": {"turn": start[1], "number": int(start[5])},
            "moves": [{"iccs": move, "chinese": text} for move, text in zip(moves, self._chinese, strict=True)],
            "outcome": outcome and {"result": outcome.result, "reason": outcome.reason, "winner": outcome.winner},
            "can_undo": self.can_undo(),
            "thinking": self.thought is not None and not self.thought.stop.is_set(),
        }

    def stop_thinking(self) -> None:
        for work in (self.thought, self.analysis):
            if work is not None:
                work.stop.set()

    def _plies_to_undo(self) -> int:
        return 2 if self.board.turn == self.side else 1

    def _changed(self) -> None:
        self.revision += 1
        self._outcome = self.board.outcome()
        self.stop_thinking()
