"""Makes requests to an ASGI application in this process, and can disconnect within them."""

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message

from kexue_hf.play.web.application import build_application
from kexue_hf.play.web.game_store import GameStore
from tests.play.web.stub_player import StubPlayer

Result = TypeVar("Result")
HOST = "127.0.0.1:8910"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The short name of the reason of a refusal."""
        code: str = self.json()["error"]["code"]
        return code


class Client:
    """A browser on the page. `run` runs several of its requests at once on one event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def get(self, path: str, **headers: str) -> Answer:
        return self.run(self.request("GET", path, headers=headers))

    def post(self, path: str, fields: Any, **headers: str) -> Answer:
        return self.run(self.request("POST", path, fields, headers=headers))

    async def request(
        self,
        method: str,
        path: str,
        fields: Any = None,
        *,
        headers: dict[str, str] | None = None,
        disconnect: asyncio.Event | None = None,
    ) -> Answer:
        """Return the answer to a request.

        Args:
            fields: the body, as JSON; bytes are sent as they are.
            headers: underscores become hyphens; an empty value leaves a usual header out.
            disconnect: the client goes away when it is set.
        """
        given = {"host": HOST, "content-type": "application/json" if fields is not None else ""}
        given |= {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        body = fields if isinstance(fields, bytes) else b"" if fields is None else json.dumps(fields).encode()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items() if value],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8910),
        }
        # Bodies arrive in pieces.
        pieces = [body[start : start + 1000] for start in range(0, len(body), 1000)] or [b""]
        sent: list[Message] = []
        finished = asyncio.Event()

        async def receive() -> Message:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
            await (disconnect or finished).wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                finished.set()

        await self.app(scope, receive, send)
        start = sent[0]
        answered = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))


def client_of(player: StubPlayer | None = None, *, host: str = "127.0.0.1", store: GameStore | None = None) -> Client:
    return Client(build_application(player or StubPlayer(), name='a "model"', host=host, store=store))


def begin(client: Client, side: str = "w", strength: str = "policy", **fields: object) -> Any:
    """Begin a game and return its state."""
    answer = client.post("/api/games", {"side": side, "strength": strength, **fields})
    assert answer.status == 201, answer.body
    return answer.json()


def path_of(state: Any, action: str = "") -> str:
    return f"/api/games/{state['id']}{action and '/'}{action}"
