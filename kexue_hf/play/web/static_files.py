"""The files of the page, read once.

They are few and small. Their types are given here, because those that the system knows depend on its settings: with a
wrong one a browser refuses a script.
"""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from kexue_hf.play.web.request_errors import RequestError

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class StaticFiles:
    """Answers requests for the page's files by their name, the path parameter `name`."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in _TYPES}
        self._tags = {name: f'"{hashlib.sha256(body).hexdigest()[:16]}"' for name, body in self._files.items()}

    async def answer(self, request: Request) -> Response:
        name = request.path_params.get("name", INDEX)
        if name not in self._files:
            raise RequestError(404, "unknown_file", "there is no such file")
        headers = {"ETag": self._tags[name], "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == self._tags[name]:
            return Response(None, 304, headers)
        return Response(self._files[name], 200, headers, _TYPES[Path(name).suffix])
