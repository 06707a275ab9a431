"""The requests that the page makes, as a Starlette application.

    GET  /api/settings                             the model's name, and the strengths
    POST /api/games           side strength fen?   begin a game
    GET  /api/games/ID                             its state
    GET  /api/games/ID/game.pgn                    its moves, to save
    GET  /api/games/ID/analysis                    what the model thinks of the position, without a search
    POST /api/games/ID/move     move revision      the person's move
    POST /api/games/ID/reply    revision           the model thinks and moves
    POST /api/games/ID/hint     revision           the model thinks for the person
    POST /api/games/ID/undo     revision           take back the person's last move
    POST /api/games/ID/strength strength           change how long the model thinks

Every answer about a game is its state, also that of a request that could not be met because the state was another:
`{"error": {"code", "message"}, "state": ...}`. Status 429 says that too many requests wait for the model.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kexue_hf.errors import InputError, quoted
from kexue_hf.play.web.game import SIDE_NAMES, WebGame
from kexue_hf.play.web.game_store import GameStore
from kexue_hf.play.web.json_body import read_fields
from kexue_hf.play.web.player_protocol import Player
from kexue_hf.play.web.request_checks import RequestChecks
from kexue_hf.play.web.request_errors import RequestError
from kexue_hf.play.web.static_files import StaticFiles
from kexue_hf.play.web.strengths import DEFAULT_STRENGTH, STRENGTHS
from kexue_hf.play.web.thinking import Thinker, choice_facts
from kexue_hf.xiangqi import START, Board, pgn_text

# The longest FEN has about 110 characters.
_LONGEST_FEN = 200


def build_application(
    player: Player, *, name: str, host: str = "127.0.0.1", store: GameStore | None = None
) -> Starlette:
    """Return the application. Its `state.stop_thinking` ends all searches.

    Args:
        name: the model's name, for the page.
        host: the address that the server listens on.
        store: the games; by default an empty store with the usual bounds.
    """
    requests = _Requests(player, name, store if store is not None else GameStore())
    files = StaticFiles()
    game = "/api/games/{id}"
    routes = [
        Route("/", files.answer),
        Route("/static/{name}", files.answer),
        Route("/api/settings", requests.settings),
        Route("/api/games", requests.new_game, methods=["POST"]),
        Route(game, requests.state),
        Route(f"{game}/game.pgn", requests.pgn),
        Route(f"{game}/analysis", requests.analysis),
        Route(f"{game}/move", requests.move, methods=["POST"]),
        Route(f"{game}/reply", requests.reply, methods=["POST"]),
        Route(f"{game}/hint", requests.hint, methods=["POST"]),
        Route(f"{game}/undo", requests.undo, methods=["POST"]),
        Route(f"{game}/strength", requests.strength, methods=["POST"]),
    ]
    application = Starlette(
        routes=routes,
        middleware=[Middleware(RequestChecks, host=host)],
        exception_handlers={RequestError: requests.refusal, HTTPException: requests.http_error},
        lifespan=requests.lifespan,
    )
    application.state.stop_thinking = requests.stop_thinking
    return application


class _Requests:
    def __init__(self, player: Player, name: str, store: GameStore) -> None:
        self._name, self._store = name, store
        self._thinker = Thinker(player)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            self.stop_thinking()
            self._thinker.close()

    def stop_thinking(self) -> None:
        self._store.stop_thinking()

    async def settings(self, request: Request) -> Response:
        return _json({"model": self._name, "strengths": list(STRENGTHS), "default_strength": DEFAULT_STRENGTH})

    async def new_game(self, request: Request) -> Response:
        fields = await read_fields(request, {"side": str, "strength": str}, {"fen": str})
        if fields["side"] not in SIDE_NAMES:
            raise RequestError(400, "field", f"side: expected w (Red) or b (Black), got {quoted(fields['side'])}")
        fen = fields.get("fen", START)
        if len(fen) > _LONGEST_FEN:
            raise RequestError(400, "fen", f"fen: expected at most {_LONGEST_FEN} characters, got {len(fen)}")
        strength = _known_strength(fields["strength"])
        try:
            board = Board(fen)
        except InputError as error:
            raise RequestError(400, "fen", str(error)) from None
        return _json(self._store.add(fields["side"], strength, board).state(), 201)

    async def state(self, request: Request) -> Response:
        return _json(self._game(request).state())

    async def move(self, request: Request) -> Response:
        fields = await read_fields(request, {"move": str, "revision": int})
        game = self._game(request)
        game.check_revision(fields["revision"])
        game.play(fields["move"], of_person=True)
        return _json(game.state())

    async def undo(self, request: Request) -> Response:
        fields = await read_fields(request, {"revision": int})
        game = self._game(request)
        game.check_revision(fields["revision"])
        game.undo()
        return _json(game.state())

    async def strength(self, request: Request) -> Response:
        fields = await read_fields(request, {"strength": str})
        game = self._game(request)
        game.strength = _known_strength(fields["strength"])
        return _json(game.state())

    async def reply(self, request: Request) -> Response:
        return await self._think(request, of_person=False)

    async def hint(self, request: Request) -> Response:
        return await self._think(request, of_person=True)

    async def analysis(self, request: Request) -> Response:
        found = await self._thinker.analysis(self._game(request), _disconnection(request))
        if found is None:
            raise RequestError(409, "stopped", "the analysis was stopped before it began; ask again")
        return _json(found)

    async def pgn(self, request: Request) -> Response:
        game = self._game(request)
        names = {game.side: "Player", {"w": "b", "b": "w"}[game.side]: self._name}
        tags = {
            "Event": "Game against a model, kexue-hf",
            "Date": game.started.strftime("%Y.%m.%d"),
            "Red": names["w"],
            "Black": names["b"],
        }
        text = pgn_text(game.board, tags=tags)
        headers = {"Content-Disposition": f'attachment; filename="xiangqi-{game.started}.pgn"'}
        return Response(text, 200, {**headers, "Cache-Control": "no-store"}, "application/x-chess-pgn; charset=utf-8")

    async def refusal(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestError)  # registered for this class
        found: dict[str, Any] = {"error": {"code": error.code, "message": str(error)}}
        if error.status == 409:
            with contextlib.suppress(RequestError):
                found["state"] = self._game(request).state()
        return _json(found, error.status)

    async def http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # registered for this class
        found = {"error": {"code": "http", "message": error.detail}}
        return JSONResponse(found, error.status_code, {**(error.headers or {}), "Cache-Control": "no-store"})

    async def _think(self, request: Request, of_person: bool) -> Response:
        fields = await read_fields(request, {"revision": int})
        game = self._game(request)
        game.check_revision(fields["revision"])
        game.check_turn(of_person)
        choice = await self._thinker.choose(game, _disconnection(request))
        if choice is None:
            raise RequestError(409, "stopped", "the search was stopped before it found a move; ask again")
        facts = choice_facts(game.board, choice)
        if not of_person:
            game.play(choice.move, of_person=False)
        return _json({**game.state(), "choice": facts})

    def _game(self, request: Request) -> WebGame:
        return self._store.get(request.path_params["id"])


def _json(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status, {"Cache-Control": "no-store"})


def _known_strength(name: str) -> str:
    if name not in STRENGTHS:
        raise RequestError(400, "field", f"strength: expected one of {', '.join(STRENGTHS)}, got {quoted(name)}")
    return name


def _disconnection(request: Request) -> Callable[[], Awaitable[None]]:
    """Return the function that waits until the client of a request has disconnected."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    return gone
