"""`kexue-hf demo`, the command; what it does is in demo.py."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Add `demo` to the command line."""
    app.command()(demo)


def demo(
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; by default ./kexue-demo, numbered if that exists.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the results only.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the fine-tuning.")] = 0,
) -> None:
    """From a TensorFlow checkpoint to a fine-tuned classifier for the Hub, with what the package brings along."""
    from kexue_hf.demo import run_demo

    run_demo(out, quiet=quiet, seed=seed)
