"""The games in memory, bounded in number and age."""

import time
from collections.abc import Callable

from kexue_hf.play.web.game import WebGame
from kexue_hf.play.web.request_errors import RequestError
from kexue_hf.xiangqi import Board

MOST_GAMES = 256
LONGEST_IDLE_SECONDS = 24 * 3600.0


class GameStore:
    """Games by id.

    Args:
        most: when there are as many games, a new one replaces the one that was not used for the longest time.
        longest_idle: seconds without a request after which a game is dropped.
        clock: returns seconds.
    """

    def __init__(
        self,
        most: int = MOST_GAMES,
        longest_idle: float = LONGEST_IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._longest_idle, self._clock = most, longest_idle, clock
        # The least recently used first.
        self._games: dict[str, WebGame] = {}

    def __len__(self) -> int:
        return len(self._games)

    def add(self, side: str, strength: str, board: Board) -> WebGame:
        """Begin a game."""
        self._drop_idle()
        while len(self._games) >= self._most:
            self._drop(self._longest_unused())
        game = WebGame(side, strength, board, self._clock())
        self._games[game.id] = game
        return game

    def get(self, id: str) -> WebGame:
        """Return a game and note its use.

        Raises:
            RequestError: there is no such game (404).
        """
        self._drop_idle()
        game = self._games.pop(id, None)
        if game is None:
            raise RequestError(404, "unknown_game", "there is no such game (any more); begin a new one")
        game.last_used = self._clock()
        self._games[id] = game
        return game

    def stop_thinking(self) -> None:
        """Ask all searches to end."""
        for game in self._games.values():
            game.stop_thinking()

    def _longest_unused(self) -> str:
        idle = (id for id, game in self._games.items() if game.thought is None)
        return next(idle, next(iter(self._games)))

    def _drop_idle(self) -> None:
        limit = self._clock() - self._longest_idle
        for id in [id for id, game in self._games.items() if game.last_used < limit and game.thought is None]:
            self._drop(id)

    def _drop(self, id: str) -> None:
        self._games.pop(id).stop_thinking()
