"""Search of the first moves, one depth after the other, with a bonus for each from the model."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from kexue_hf.play.alpha_beta import LONGEST_LINE, MATE, MATE_BOUND, MATE_STEP, AlphaBeta, Stopped
from kexue_hf.play.search_position import SearchPosition
from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.attacks import is_attacked
from kexue_hf.xiangqi.coordinates import iccs_of
from kexue_hf.xiangqi.moves import Move, is_legal, legal_moves

# Of a move that repeats a position and would lose by perpetual check or chase, before and beyond mates.
_FORBIDDEN = MATE_BOUND - LONGEST_LINE
# Part of the time after which no further depth is begun, since it would rarely be finished.
_LAST_START = 0.6


@dataclass(frozen=True)
class Limits:
    """What ends a search; the first limit that is reached. Without any, it ends at `depth` 64 or by `stop`.

    Attributes:
        ponder_hit: until it is set, only `stop` ends the search; then `seconds` begin. Nodes and depths before count.
    """

    nodes: int = 0
    seconds: float | None = None
    depth: int | None = None
    stop: threading.Event | None = None
    ponder_hit: threading.Event | None = None


@dataclass(frozen=True)
class Progress:
    """A finished depth of the search.

    Attributes:
        score: centipawns for the side to move, without bonuses.
        mate: moves to the mate that the score means, negative if the side to move is mated; None without a mate.
        line: the moves that both sides are expected to make, as ICCS.
    """

    depth: int
    nodes: int
    seconds: float
    score: int
    mate: int | None
    line: list[str]


@dataclass
class RootMove:
    """A first move, the bonus for it, and what was found of it.

    Attributes:
        score: centipawns without the bonus; at most this, if `exact` is False.
        nodes: positions visited after it.
    """

    move: Move
    bonus: int
    score: int = -MATE
    exact: bool = False
    nodes: int = 0
    settled: bool = field(default=False, repr=False)

    @property
    def total(self) -> int:
        """The score with the bonus, which does not change mates."""
        return self.score if abs(self.score) >= _FORBIDDEN else self.score + self.bonus


class RootSearch:
    """Iterative deepening over the legal moves of a board.

    Args:
        board: its history decides about repetitions.
        bonuses: centipawns to add to the score of each of the moves to search.
        margin: search exactly not only the best move, but all whose total is at most this much below it.
        report: called after each depth.
    """

    def __init__(
        self,
        board: Board,
        bonuses: Mapping[Move, int],
        limits: Limits,
        margin: int = 0,
        report: Callable[[Progress], object] | None = None,
    ) -> None:
        self._board, self._limits, self._margin, self._report = board, limits, margin, report
        self._started = time.perf_counter()
        # When the limits began to hold; None while pondering.
        self._begun = self._started if limits.ponder_hit is None else None
        self._position = SearchPosition(board)
        self._first_depth = True
        self._engine = AlphaBeta(self._position, self._poll)
        self.moves = [RootMove(move, bonus) for move, bonus in bonuses.items()]
        self.moves.sort(key=lambda entry: (-entry.bonus, entry.move))
        self.line: list[str] = []
        self.depth = 0

    @property
    def nodes(self) -> int:
        """Positions visited so far."""
        return self._engine.nodes

    def run(self) -> list[RootMove]:
        """Return the moves, the best first, by the last depth; without a finished depth, by their bonuses."""
        limits = self._limits
        if not self.moves:
            return []
        try:
            if limits.stop is not None and limits.stop.is_set():
                raise Stopped
            for entry in self.moves:
                self._settle(entry)
            for depth in range(1, LONGEST_LINE + 1):
                self._search_depth(depth)
                self._first_depth = False
                if self._holds():
                    self._engine.most_nodes = limits.nodes
                if self._finished(depth):
                    break
        except Stopped:
            pass
        return self.moves

    def _finished(self, depth: int) -> bool:
        best = self.moves[0]
        if len(self.moves) == 1 and self._limits.depth is None:
            return True
        if best.score >= MATE - (depth + 1) * MATE_STEP or all(entry.settled for entry in self.moves):
            return True
        return self._holds() and (0 < self._limits.nodes <= self.nodes or self._reached(_LAST_START))

    def _poll(self) -> None:
        if self._limits.stop is not None and self._limits.stop.is_set():
            raise Stopped
        # The first depth finds mates and hanging pieces and is always finished.
        if not self._first_depth and self._holds():
            self._engine.most_nodes = self._limits.nodes
            if self._reached(1.0):
                raise Stopped

    def _holds(self) -> bool:
        """Return whether the limits hold; note when they begin to."""
        if self._begun is None and self._limits.ponder_hit is not None and self._limits.ponder_hit.is_set():
            self._begun = time.perf_counter()
        return self._begun is not None

    def _reached(self, part: float) -> bool:
        """Return whether the depth or a part of the time is reached."""
        limits = self._limits
        if limits.depth is not None and self.depth >= limits.depth:
            return True
        if limits.seconds is None or self._begun is None:
            return False
        return time.perf_counter() - self._begun >= part * limits.seconds

    def _settle(self, entry: RootMove) -> None:
        """Score a move whose result is known without a search."""
        position = self._position
        verdict = position.root_repetition(entry.move)
        squares, side = list(position.squares), position.side
        squares[entry.move[1]], squares[entry.move[0]] = squares[entry.move[0]], 0
        if not legal_moves(squares, -side):
            entry.score = MATE - MATE_STEP
        elif verdict is not None:
            entry.score = verdict * _FORBIDDEN
        else:
            return
        entry.settled = entry.exact = True

    def _search_depth(self, depth: int) -> None:
        """Search all moves to a depth and sort them. Stopped in between, sort by what the depth has found."""
        finished: list[RootMove] = []
        best: RootMove | None = None
        in_check = is_attacked(self._position.squares, self._position.side)
        order = list(self.moves)
        try:
            for entry in order:
                if not entry.settled:
                    self._search_move(entry, depth, in_check, best)
                finished.append(entry)
                if best is None or (entry.exact and entry.total > best.total):
                    best = entry
        finally:
            rest = order[len(finished) :]
            # Bounds of earlier depths are not compared with scores of this one.
            finished.sort(key=lambda entry: (entry is not best, -entry.total))
            self.moves = finished + rest
        self.depth = depth
        self.line = self._expected_line()
        if self._report is not None:
            self._report(self._progress())

    def _search_move(self, entry: RootMove, depth: int, in_check: bool, best: RootMove | None) -> None:
        engine, position = self._engine, self._position
        before = engine.nodes
        quiet = len(position.hashes) + 1
        floor = -MATE
        if best is not None:
            floor = best.total if abs(best.total) >= _FORBIDDEN else best.total - self._margin - entry.bonus
        captured = position.push(entry.move, in_check)
        after = 0 if captured else quiet
        try:
            if floor == -MATE or self._margin:
                score = -engine.search(depth - 1, -MATE, -floor, 1, after)
            else:
                score = -engine.search(depth - 1, -floor - 1, -floor, 1, after)
                if score > floor:
                    score = -engine.search(depth - 1, -MATE, -floor, 1, after)
        finally:
            entry.nodes += engine.nodes - before
        position.pop(entry.move, captured)
        entry.score, entry.exact = score, score > floor

    def _expected_line(self) -> list[str]:
        """Return the best move and the replies that the table knows."""
        board = self._board
        position = SearchPosition(board)
        move: Move | None = self.moves[0].move
        line: list[str] = []
        seen: set[int] = set()
        score = abs(self.moves[0].score)
        longest = max(self.depth, _half_moves(score)) if score >= MATE_BOUND else self.depth
        while move is not None and len(line) < longest and position.hash not in seen:
            if not is_legal(position.squares, position.side, move):
                break
            seen.add(position.hash)
            line.append(iccs_of(move))
            position.push(move, False)
            move = self._engine.table.get(position.hash, (0, 0, 0, None))[3]
        return line

    def _progress(self) -> Progress:
        score = self.moves[0].score
        mate = None
        if abs(score) >= MATE_BOUND:
            mate = (_half_moves(abs(score)) + 1) // 2 * (1 if score > 0 else -1)
        return Progress(self.depth, self.nodes, time.perf_counter() - self._started, score, mate, self.line)


def _half_moves(score: int) -> int:
    """Return how many half-moves away the mate of a score is."""
    return -(-(MATE - score) // MATE_STEP)


__all__ = ["Limits", "Progress", "RootMove", "RootSearch"]
