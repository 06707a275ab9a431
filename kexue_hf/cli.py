"""The command line, `kexue-hf`.

Commands import what they need inside their functions: `kexue-hf --help` and the commands that need no torch answer at
once. An expected failure is one line on stderr and exit code 2, never a traceback.
"""

import sys

import typer

from kexue_hf import cli_conversion
from kexue_hf.errors import KexueError

app = typer.Typer(
    name="kexue-hf",
    help="Models and methods of kexue.fm for HuggingFace: convert original checkpoints, try, publish.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli_conversion.add_commands(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit the process with its code: 0, or 2 with one line on stderr."""
    try:
        code = app(args=arguments, standalone_mode=False)
    except KexueError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing was written")
    except OSError as error:
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    print(f"kexue-hf: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
