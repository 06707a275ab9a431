"""Runs the model in a few threads, at most one search a game, while the server answers other requests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from kexue_hf.errors import quoted
from kexue_hf.play.web.game import Thought, WebGame
from kexue_hf.play.web.player_protocol import Choice, Player
from kexue_hf.play.web.request_errors import RequestError
from kexue_hf.play.web.strengths import STRENGTHS
from kexue_hf.xiangqi import Board, all_chinese, to_chinese

# The model itself computes on several threads.
_THREADS = 2
_MOST_CANDIDATES = 8

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Thinker:
    """Asks the player for moves and judgements."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="thinking")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def choose(self, game: WebGame, gone: Callable[[], Awaitable[None]]) -> Choice | None:
        """Return the model's choice in the present position, or None if the search was stopped.

        Args:
            gone: waits until the client has disconnected, which stops the search.

        Raises:
            RequestError: the game is being thought about already (409), has changed meanwhile (409), or the model
                failed (500).
        """
        revision = game.revision
        while game.thought is not None:
            if not game.thought.stop.is_set():
                raise RequestError(409, "thinking", "the model is thinking about this game already; wait for its move")
            await game.thought.done.wait()
        game.check_revision(revision)
        board, limits = game.board.copy(), STRENGTHS[game.strength]
        thought = game.thought = Thought()

        def search() -> Choice | None:
            # The wait for a free thread may have been longer than the interest in the move.
            return None if thought.stop.is_set() else self._player.choose(board, **limits, stop=thought.stop)

        def finish(future: "asyncio.Future[Choice | None]") -> None:
            game.thought = None
            thought.done.set()

        future = asyncio.get_running_loop().run_in_executor(self._pool, search)
        future.add_done_callback(finish)
        watcher = asyncio.ensure_future(gone())
        try:
            waiting: set[asyncio.Future[Any]] = {future, watcher}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not future.done():
                thought.stop.set()
            choice = await _answer(future)
            game.check_revision(revision)
            if choice is None or thought.stop.is_set():
                return None
            if not board.is_legal(choice.move):
                raise RequestError(500, "model", f"the model chose {quoted(choice.move)}, which is not legal")
            return choice
        finally:
            thought.stop.set()
            watcher.cancel()

    async def analysis(self, game: WebGame) -> dict[str, Any]:
        """Return the model's judgement of the present position without a search, computed once a revision."""
        if game.analysis is None or game.analysis[0] != game.revision or _has_failed(game.analysis[1]):
            board, over = game.board.copy(), game.outcome
            if over is not None:
                won = {"w": (1.0, 0.0, 0.0), "b": (0.0, 0.0, 1.0)}.get(over.winner or "", (0.0, 1.0, 0.0))
                return {"revision": game.revision, "candidates": [], "evaluation": list(won)}
            future = asyncio.get_running_loop().run_in_executor(self._pool, self._judge, board, game.revision)
            game.analysis = (game.revision, future)
        # Another request may wait for the same result when this one is cancelled.
        return await _answer(asyncio.shield(game.analysis[1]))

    def _judge(self, board: Board, revision: int) -> dict[str, Any]:
        probabilities = self._player.move_probabilities(board)
        chinese = all_chinese(board)
        candidates = [
            {"move": move, "chinese": chinese[move], "probability": float(probability)}
            for move, probability in list(probabilities.items())[:_MOST_CANDIDATES]
        ]
        evaluation = [float(value) for value in self._player.evaluate(board)]
        return {"revision": revision, "candidates": candidates, "evaluation": evaluation}


def choice_facts(board: Board, choice: Choice) -> dict[str, Any]:
    """Return a choice in a position as the page shows it."""
    chinese = all_chinese(board)
    candidates = [
        {
            "move": candidate.move,
            "chinese": chinese[candidate.move],
            "probability": float(candidate.probability),
            "visits": int(candidate.visits),
            "value": float(candidate.value),
        }
        for candidate in choice.candidates[:_MOST_CANDIDATES]
    ]
    line, after = [], board.copy()
    for move in choice.line:
        if not after.is_legal(move):
            break
        line.append({"move": move, "chinese": to_chinese(after, move)})
        after.push(move)
    return {
        "move": choice.move,
        "chinese": chinese[choice.move],
        "candidates": candidates,
        "value": float(choice.value),
        "line": line,
        "nodes": int(choice.nodes),
        "seconds": round(float(choice.seconds), 3),
    }


def _has_failed(future: "asyncio.Future[dict[str, Any]]") -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


async def _answer(future: "asyncio.Future[_Result]") -> _Result:
    """Return the result of the model's work, or raise RequestError (500) if it failed."""
    try:
        return await future
    except Exception as error:
        _logger.error("the model failed", exc_info=error)
        raise RequestError(500, "model", f"the model failed: {type(error).__name__}: {error}") from error
