"""`kexue-hf play`: xiangqi against a model in the terminal or the browser, or an engine for other programs."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kexue_hf.cli.options import Device
from kexue_hf.cli.play_web import Host, NoOpen, Port, Web, check_web_options, serve_page
from kexue_hf.errors import InputError

if TYPE_CHECKING:
    from kexue_hf.play.player import XiangqiPlayer

_SIDES = {"red": (1,), "black": (-1,), "both": (1, -1), "none": ()}
_SECONDS = 1.0
# Half-moves in which the moves of --opening-variety are drawn.
_OPENING_PLIES = 8


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("play")(play)


def play(
    model: Annotated[
        str | None,
        typer.Argument(help="A Xiangqi GPT: a folder, or a name on the Hub.", show_default="the model in the package"),
    ] = None,
    side: Annotated[
        str, typer.Option(help="The side that you play: red, black, both, or none (the model plays against itself).")
    ] = "red",
    nodes: Annotated[
        int | None,
        typer.Option(help="Positions to search for a move; 0 plays the model's policy alone.", show_default=False),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="Time to search for a move.", show_default=f"{_SECONDS:g}, if --nodes is not given"),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 plays the best move; higher values draw from the good ones.")
    ] = 0.0,
    opening_variety: Annotated[
        float, typer.Option(help=f"Temperature of the first {_OPENING_PLIES} half-moves of a game.")
    ] = 0.0,
    fen: Annotated[
        str | None, typer.Option(help="Position to start from, as FEN.", show_default="the usual start")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes draws repeatable.", show_default=False)] = None,
    device: Device = "auto",
    uci: Annotated[bool, typer.Option("--uci", help="Be an engine that speaks UCI on stdin and stdout.")] = False,
    ucci: Annotated[bool, typer.Option("--ucci", help="Be an engine that speaks UCCI on stdin and stdout.")] = False,
    web: Web = False,
    host: Host = None,
    port: Port = None,
    no_open: NoOpen = False,
) -> None:
    """Play xiangqi against a model in the terminal or the browser, or run it as an engine (UCI or UCCI)."""
    if side not in _SIDES:
        raise InputError(f"--side: expected {', '.join(_SIDES)}, got {side!r}")
    if uci + ucci + web > 1:
        raise InputError("expected one of --uci, --ucci and --web, got several")
    if (uci or ucci) and (fen is not None or side != "red"):
        raise InputError("--side and --fen have no effect on an engine, which is told the position; leave them out")
    check_web_options(web, host, port, no_open)
    if web and (fen, side, nodes, seconds) != (None, "red", None, None):
        raise InputError("--side, --fen, --nodes and --seconds are chosen in the page; leave them out with --web")
    _check_limits(nodes, seconds)
    if fen is not None:
        from kexue_hf.xiangqi import Board

        Board(fen)
    from kexue_hf.play.model_place import model_place

    model_place(model)

    if seconds is None and nodes is None:
        seconds = _SECONDS
    options: dict[str, Any] = {
        "nodes": nodes or 0,
        "temperature": temperature,
        "opening_plies": _OPENING_PLIES if opening_variety else 0,
        # An engine may get its number of half-moves later.
        "opening_temperature": opening_variety or 1.0,
        "seed": seed,
    }

    def load() -> "XiangqiPlayer":
        from kexue_hf.play.player import XiangqiPlayer

        return XiangqiPlayer.from_pretrained(model, device=device, **options)

    if uci or ucci:
        run_engine(load, ucci, seconds, options)
    elif web:
        serve_page(load, model, host, port, no_open)
    else:
        run_terminal(load(), side, fen, seconds, nodes)


def run_engine(
    load: Callable[[], "XiangqiPlayer"], ucci: bool, seconds: float | None, options: dict[str, Any]
) -> None:
    """Speak UCI or UCCI on stdin and stdout."""
    from kexue_hf.play.engine import Engine
    from kexue_hf.play.engine_dialects import UCCI, UCI

    Engine(load, UCCI if ucci else UCI, sys.stdout, seconds, options).run(sys.stdin.buffer)


def run_terminal(
    player: "XiangqiPlayer", side: str, fen: str | None, seconds: float | None, nodes: int | None
) -> None:
    """Play on stdin and stdout. Ctrl-C ends the game like `quit`."""
    from kexue_hf.play.terminal import TerminalGame, TerminalOptions
    from kexue_hf.xiangqi import START

    limits = {name: value for name, value in {"nodes": nodes, "seconds": seconds}.items() if value is not None}
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if hasattr(sys.stdin, "reconfigure"):  # a replaced one may lack it
        sys.stdin.reconfigure(errors="replace")
    options = TerminalOptions(frozenset(_SIDES[side]), limits, fen or START, colour)
    try:
        TerminalGame(player, options, sys.stdin, sys.stdout).run()
    except KeyboardInterrupt:
        print()


def _check_limits(nodes: int | None, seconds: float | None) -> None:
    """Check before a model is loaded."""
    if nodes is not None and nodes < 0:
        raise InputError(f"--nodes: expected a whole number from 0, got {nodes}")
    if seconds is not None and not 0 < seconds < 86_400:
        raise InputError(f"--seconds: expected more than 0 and less than 86400, got {seconds:g}")


__all__ = ["run_engine", "run_terminal"]
