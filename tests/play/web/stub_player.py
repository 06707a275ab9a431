"""A player without a model: its choices depend on the position only, and it answers at once or when told."""

import hashlib
import threading
from dataclasses import dataclass, field

from kexue_hf.xiangqi import Board


@dataclass(frozen=True)
class StubCandidate:
    move: str
    probability: float
    visits: int
    value: float


@dataclass(frozen=True)
class StubChoice:
    move: str
    candidates: list[StubCandidate]
    value: float
    line: list[str]
    nodes: int
    seconds: float


@dataclass
class StubPlayer:
    """Plays the given moves where they are legal, else the first in an order that looks random.

    Attributes:
        answers: the moves to prefer.
        hold: while it is not set, `choose` waits for it or for `stop`, and `assess` for it.
        started: set when `choose` or `assess` begins to wait.
        stopped: set when it was stopped.
        forced: returned whatever the position.
        fault: raised by all methods, if it is not None.
        calls: the limits of each call of `choose`.
        boards: the boards that it got.
        assessed: those that `assess` got.
    """

    answers: tuple[str, ...] = ()
    hold: threading.Event | None = None
    started: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)
    fault: Exception | None = None
    forced: str | None = None
    calls: list[tuple[int | None, float | None]] = field(default_factory=list)
    boards: list[Board] = field(default_factory=list)
    assessed: list[Board] = field(default_factory=list)

    def move_probabilities(self, board: Board) -> dict[str, float]:
        if self.fault is not None:
            raise self.fault
        moves = sorted(board.legal_moves(), key=lambda move: (move not in self.answers, _digest(board, move)))
        weights = {move: 0.62**rank + 0.002 for rank, move in enumerate(moves)}
        return {move: weight / sum(weights.values()) for move, weight in weights.items()}

    def evaluate(self, board: Board) -> tuple[float, float, float]:
        red = 0.3 + 0.3 * int(_digest(board, "")[:4], 16) / 0xFFFF
        return red, 0.25, 0.75 - red

    def assess(self, board: Board) -> tuple[dict[str, float], tuple[float, float, float]]:
        self.assessed.append(board)
        probabilities = self.move_probabilities(board)
        if self.hold is not None:
            self.started.set()
            self.hold.wait(20)
        return probabilities, self.evaluate(board)

    def choose(
        self,
        board: Board,
        *,
        nodes: int | None = None,
        seconds: float | None = None,
        stop: threading.Event | None = None,
    ) -> StubChoice:
        self.calls.append((nodes, seconds))
        self.boards.append(board)
        probabilities = self.move_probabilities(board)
        self.started.set()
        while self.hold is not None and not self.hold.wait(0.01):
            if stop is not None and stop.is_set():
                self.stopped.set()
                break
        visits = nodes or 1
        candidates = [StubCandidate(move, share, round(visits * share), 0.1) for move, share in probabilities.items()]
        move = self.forced or candidates[0].move
        return StubChoice(move, candidates, 0.1, [move], visits, 0.01)


def _digest(board: Board, move: str) -> str:
    return hashlib.sha256(f"{board.fen().split()[0]} {board.turn} {move}".encode()).hexdigest()
