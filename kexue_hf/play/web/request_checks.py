"""Checks of every request against other sites in the same browser, and headers of every answer.

A site can make its name resolve to 127.0.0.1 (DNS rebinding) or send requests here, so the server answers only to its
own names, and lets only its own page change something.
"""

import ipaddress
import socket
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kexue_hf.errors import quoted

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class RequestChecks:
    """ASGI middleware that answers 421 to a foreign Host and 403 to a foreign Origin.

    Args:
        host: the address that the server listens on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._is_own_name = own_names(host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        app = self._refusal(scope) or self._app
        await app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own_name(_without_port(hosts[0])):
            return _refuse(421, "host", f"this server does not answer to the name {quoted(', '.join(hosts))}")
        if scope["method"] in ("GET", "HEAD"):
            return None
        # Programs other than browsers send neither header.
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and origin.lower() not in (f"http://{hosts[0]}".lower(), f"https://{hosts[0]}".lower()):
            return _refuse(403, "origin", f"a page of {quoted(origin)} may not play here")
        if site is not None and site not in ("same-origin", "none"):
            return _refuse(403, "origin", "a page of another site may not play here")
        return None


def own_names(host: str) -> Callable[[str], bool]:
    """Return the function that tells whether a host name (IPv6 in brackets) means this server.

    A server on all addresses is also known by any IP address, which no name can be rebound to, and by the machine's
    name.
    """
    name = f"[{host}]" if ":" in host else host.lower()
    known = {*_LOOPBACK, name}
    if host not in ("0.0.0.0", "::"):
        return lambda other: other.lower() in known
    known |= {socket.gethostname().lower()}
    return lambda other: other.lower() in known or _is_address(other)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _refuse(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status)
