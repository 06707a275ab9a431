"""Runs the application on a socket of this machine until Ctrl-C."""

import contextlib
import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from kexue_hf.errors import InputError

# Requests that are still running when the server ends get as many seconds.
_GRACE_SECONDS = 10


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free port.

    Raises:
        InputError: the port is taken or not allowed, or the host is no address of this machine.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise InputError(
            f"--host: expected an address or a name of this machine, got {host!r}, which is unknown"
        ) from None
    listener = socket.socket(family, kind)
    try:
        # On Windows this option would let two programs share the port.
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise InputError(_bind_failure(error, host, port)) from None
    return listener


def _bind_failure(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program: pass another one, or --port 0 for any free port"
    if error.errno == errno.EACCES:
        return f"this user may not open port {port}: pass one above 1023, or --port 0 for any free port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host: expected an address of this machine, got {host!r}"
    return f"cannot listen on {host} port {port}: {error.strerror or error}"


def address_of(listener: socket.socket, host: str) -> str:
    """Return the URL that opens the page on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}/"


class Server(uvicorn.Server):
    """A server for `run(sockets=[...])`, which prints warnings and errors only.

    When it ends, the searches end first, because their requests would keep it waiting.
    """

    def __init__(self, application: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                log_level="warning",
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self._stop_thinking: Callable[[], None] = application.state.stop_thinking

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stop_thinking()
        await super().shutdown(sockets)


def run(application: Starlette, listener: socket.socket) -> None:
    """Serve until Ctrl-C, and close the socket."""
    with listener, contextlib.suppress(KeyboardInterrupt):
        Server(application).run(sockets=[listener])


def open_browser(url: str) -> threading.Thread | None:
    """Open a page without waiting for the browser. If there is no browser, do nothing.

    Returns:
        The thread that opens it, or None where there is no screen.
    """
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        # A browser for the terminal would take the terminal, and could not show the page.
        return None

    def open_quietly() -> None:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(url)

    thread = threading.Thread(target=open_quietly, daemon=True)
    thread.start()
    return thread
