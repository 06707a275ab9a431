"""`kexue-hf play --web`: the options of the page in the browser, and the function that serves it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kexue_hf.errors import InputError

if TYPE_CHECKING:
    from kexue_hf.play.web.player_protocol import Player

_DEFAULT_HOST, _DEFAULT_PORT = "127.0.0.1", 8910

Web = Annotated[bool, typer.Option("--web", help="Play in the browser. Needs the extra 'web' of the package.")]
Host = Annotated[
    str | None,
    typer.Option(
        help="With --web: address to listen on. 0.0.0.0 lets other machines play, without a password.",
        show_default=_DEFAULT_HOST,
    ),
]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="With --web: 0 takes any free port.", show_default=str(_DEFAULT_PORT)),
]
NoOpen = Annotated[bool, typer.Option("--no-open", help="With --web: print the address only, open no browser.")]


def check_web_options(web: bool, host: str | None, port: int | None, no_open: bool) -> None:
    """Raise InputError for an option that has no effect."""
    given = {"--host": host is not None, "--port": port is not None, "--no-open": no_open}
    for option, is_given in given.items():
        if is_given and not web:
            raise InputError(f"{option} without --web has no effect; leave it out, or add --web")


def serve_page(
    load_player: "Callable[[], Player]", model: str | None, host: str | None, port: int | None, no_open: bool
) -> None:
    """Serve the page until Ctrl-C.

    Args:
        load_player: called once the port is open, because loading takes seconds.
        model: what the user calls the model: a folder, a name on the Hub, or None for the packaged one.

    Raises:
        InputError: Starlette or uvicorn is missing, or the port cannot be opened.
    """
    try:
        from kexue_hf.play.web import server
        from kexue_hf.play.web.application import build_application
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in ("starlette", "uvicorn"):
            raise
        raise InputError(
            f'--web needs the package {package}, which is not installed: pip install "kexue-hf[web]"'
        ) from None
    host, port = host or _DEFAULT_HOST, _DEFAULT_PORT if port is None else port
    with server.bind(host, port) as listener:
        url = server.address_of(listener, host)
        typer.echo("loading the model ...", err=True)
        application = build_application(load_player(), name=_shown_name(model), host=host)
        typer.echo(f"{url}  (Ctrl-C ends)")
        if not no_open:
            server.open_browser(url)
        server.run(application, listener)
    typer.echo("stopped", err=True)


def _shown_name(model: str | None) -> str:
    """Return the name on the page: of a folder the last part."""
    if model is None:
        return "kexue-hf"
    folder = Path(model)
    return folder.resolve().name if folder.is_dir() else model
