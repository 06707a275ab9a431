"""The command line, `kexue-hf`.

Commands import their dependencies inside their functions, so that `--help` and commands without torch start at once.
An expected failure prints one line to stderr and exits with code 2, without a traceback.
"""

import sys
from typing import Annotated, NoReturn

import typer

from kexue_hf import __version__
from kexue_hf.cli import (
    card,
    convert,
    correct,
    demo,
    doctor,
    embed,
    extend,
    match,
    performer_report,
    play,
    push,
    score,
)
from kexue_hf.errors import KexueError, printable_message

app = typer.Typer(
    name="kexue-hf",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Convert, run and check the models of kexue.fm with HuggingFace transformers."""


demo.add_commands(app)
convert.add_commands(app)
extend.add_commands(app)
score.add_commands(app)
correct.add_commands(app)
embed.add_commands(app)
match.add_commands(app)
play.add_commands(app)
performer_report.add_commands(app)
doctor.add_commands(app)
card.add_commands(app)
push.add_commands(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit the process: code 0, or code 2 with one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that cannot encode Chinese shows question marks instead of ending the command.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        code = app(args=arguments or ["--help"], standalone_mode=False)
    except KexueError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted")
    except MemoryError as error:
        _fail(str(error) if "--resume" in str(error) else "not enough memory")
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except Exception as error:
        # A wrong option or argument. The class of these errors moved between typer's versions.
        if not hasattr(error, "format_message"):
            raise
        hint = match.TWO_VALUES.get(getattr(error, "option_name", ""))
        # Not all of these errors name their command; no option with a value precedes it.
        command = f" {arguments[0]}" if arguments[0] in _commands() else ""
        message = f"{error.format_message()}{f' Expected {hint}' if hint else ''}"
        _fail(f"{message} (see kexue-hf{command} --help)")
    if code == 130:  # typer turns Ctrl-C into this code and prints nothing
        _fail("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _commands() -> set[str]:
    return {str(command.name or getattr(command.callback, "__name__", "")) for command in app.registered_commands}


def _fail(message: str) -> NoReturn:
    print(f"kexue-hf: error: {printable_message(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
