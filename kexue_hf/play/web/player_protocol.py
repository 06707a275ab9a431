"""What the server needs of a player."""

import threading
from collections.abc import Sequence
from typing import Protocol

from kexue_hf.xiangqi import Board


class Candidate(Protocol):
    """A move that was considered, with its probability by the policy and its value to the side to move."""

    @property
    def move(self) -> str: ...
    @property
    def probability(self) -> float: ...
    @property
    def visits(self) -> int: ...
    @property
    def value(self) -> float: ...


class Choice(Protocol):
    """The result of a search.

    Attributes:
        candidates: the best first.
        value: expected result for the side to move, from -1 to 1.
        line: the expected continuation, beginning with `move`.
    """

    @property
    def move(self) -> str: ...
    @property
    def candidates(self) -> Sequence[Candidate]: ...
    @property
    def value(self) -> float: ...
    @property
    def line(self) -> Sequence[str]: ...
    @property
    def nodes(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class Player(Protocol):
    """A player whose methods may be called from several threads at once. Boards are not changed."""

    def assess(self, board: Board) -> tuple[dict[str, float], tuple[float, float, float]]:
        """Return the probability of each legal move, the most probable first, and those of the results.

        The results are that Red wins, that the game is drawn, and that Black wins.
        """
        ...

    def choose(
        self,
        board: Board,
        *,
        nodes: int | None = None,
        seconds: float | None = None,
        stop: threading.Event | None = None,
    ) -> Choice:
        """Return the move to make; soon if `stop` is set."""
        ...
