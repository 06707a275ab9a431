"""Runs the model in a few threads, at most one search a game, while the server answers other requests.

Analyses have a thread of their own, so that any number of them delays no reply.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kexue_hf.errors import quoted
from kexue_hf.play.web.game import Analysis, Thought, WebGame
from kexue_hf.play.web.player_protocol import Choice, Player
from kexue_hf.play.web.request_errors import RequestError
from kexue_hf.play.web.strengths import STRENGTHS
from kexue_hf.play.web.work_queue import WorkQueue
from kexue_hf.xiangqi import Board, all_chinese, to_chinese

# The model itself computes on several threads.
_SEARCH_THREADS, _ANALYSIS_THREADS = 2, 1
# Jobs that run or wait; an analysis takes milliseconds, a search seconds.
MOST_SEARCHES, MOST_ANALYSES = 256, 64
_MOST_CANDIDATES = 8

_logger = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Thinker:
    """Asks the player for moves and judgements."""

    def __init__(self, player: Player) -> None:
        self._player = player
        self._searches = WorkQueue(_SEARCH_THREADS, MOST_SEARCHES)
        self._analyses = WorkQueue(_ANALYSIS_THREADS, MOST_ANALYSES)

    def close(self) -> None:
        self._searches.close()
        self._analyses.close()

    async def choose(self, game: WebGame, gone: Callable[[], Awaitable[None]]) -> Choice | None:
        """Return the model's choice in the present position, or None if the search was stopped.

        Args:
            gone: waits until the client has disconnected, which stops the search.

        Raises:
            RequestError: the game is being thought about already (409), has changed meanwhile (409), too many searches
                are waiting (429), or the model failed (500).
        """
        revision = game.revision
        while game.thought is not None:
            if not game.thought.stop.is_set():
                raise RequestError(409, "thinking", "the model is thinking about this game already; wait for its move")
            await game.thought.done.wait()
        game.check_revision(revision)
        board, limits = game.board.copy(), STRENGTHS[game.strength]
        thought = Thought()

        def search() -> Choice | None:
            # The wait for a free thread may have been longer than the interest in the move.
            return None if thought.stop.is_set() else self._player.choose(board, **limits, stop=thought.stop)

        def finish(future: "asyncio.Future[Choice | None]") -> None:
            game.thought = None
            thought.done.set()

        future = self._searches.submit(search)
        game.thought = thought
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

    async def analysis(self, game: WebGame, gone: Callable[[], Awaitable[None]]) -> dict[str, Any] | None:
        """Return the model's judgement of the present position without a search, computed once a revision.

        Args:
            gone: waits until the client has disconnected; if nobody waits any more, the analysis is dropped.

        Returns:
            None if the client has gone, or the game was dropped.

        Raises:
            RequestError: too many analyses are waiting (429), or the model failed (500).
        """
        watcher = asyncio.ensure_future(gone())
        try:
            while True:
                over = game.outcome
                if over is not None:
                    won = {"w": (1.0, 0.0, 0.0), "b": (0.0, 0.0, 1.0)}.get(over.winner or "", (0.0, 1.0, 0.0))
                    return {"revision": game.revision, "candidates": [], "evaluation": list(won)}
                analysis = self._present_analysis(game)
                found = await _awaited(analysis, watcher)
                # If the game has changed before the analysis began, the next round judges the new position.
                if found is not None or analysis.revision == game.revision:
                    return found
        finally:
            watcher.cancel()

    def _present_analysis(self, game: WebGame) -> Analysis:
        """Return the analysis of the present position; start one if none is running or finished."""
        known = game.analysis
        if known is not None and known.revision == game.revision and known.is_usable():
            return known
        board, revision, stop = game.board.copy(), game.revision, threading.Event()

        def judge() -> dict[str, Any] | None:
            return None if stop.is_set() else self._judge(board, revision)

        game.analysis = Analysis(revision, self._analyses.submit(judge), stop)
        return game.analysis

    def _judge(self, board: Board, revision: int) -> dict[str, Any]:
        probabilities, results = self._player.assess(board)
        chinese = all_chinese(board)
        candidates = [
            {"move": move, "chinese": chinese[move], "probability": float(probability)}
            for move, probability in list(probabilities.items())[:_MOST_CANDIDATES]
        ]
        return {"revision": revision, "candidates": candidates, "evaluation": [float(value) for value in results]}


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


async def _awaited(analysis: Analysis, gone: "asyncio.Future[None]") -> dict[str, Any] | None:
    """Return an analysis; None if it was stopped or the client has gone."""
    analysis.waiting += 1
    try:
        waiting: set[asyncio.Future[Any]] = {analysis.future, gone}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        return await _answer(analysis.future) if analysis.future.done() else None
    finally:
        analysis.waiting -= 1
        if not analysis.waiting:
            analysis.stop.set()


async def _answer(future: "asyncio.Future[_Result]") -> _Result:
    """Return the result of the model's work, or raise RequestError (500) if it failed."""
    try:
        return await asyncio.shield(future)
    except Exception as error:
        _logger.error("the model failed", exc_info=error)
        raise RequestError(500, "model", f"the model failed: {type(error).__name__}: {error}") from error
