"""`kexue-hf convert`, `export` and `verify`."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.cli.options import (
    ConfigFile,
    Family,
    Head,
    KeepTokens,
    Language,
    License,
    OverwriteFolder,
    Silent,
    StoredDtype,
    TaskNames,
    VocabFile,
)
from kexue_hf.errors import OutputError, printable, printable_message
from kexue_hf.files.utf8_text import utf8_text

# Differences that `verify` prints.
_SHOWN = 12


def add_commands(app: typer.Typer) -> None:
    """Add the three commands to the application."""
    app.command("convert")(convert_command)
    app.command("export")(export_command)
    app.command("verify")(verify_command)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn Ctrl-C into an OutputError: one line and exit code 2. typer alone exits with 130 and prints nothing."""
    try:
        yield
    except KeyboardInterrupt:
        raise OutputError("interrupted; nothing was written") from None


def echo_loading(folder: Path, auto_class: str) -> None:
    """Print the Python lines that load a model folder."""
    typer.echo("  import kexue_hf")
    typer.echo(f"  from transformers import AutoTokenizer, {auto_class}")
    name = str(folder)
    # A JSON string is a Python string, unless the name is not UTF-8.
    quoted = json.dumps(name, ensure_ascii=False) if utf8_text(name) == name else ascii(name)
    typer.echo(f"  tokenizer = AutoTokenizer.from_pretrained({quoted})")
    typer.echo(f"  model = {auto_class}.from_pretrained({quoted})")


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="The unpacked original folder, a checkpoint prefix, a Keras .h5 or .weights file; or a folder or Hub "
            "name of WoBERT or NEZHA in another implementation."
        ),
    ],
    output: Annotated[str, typer.Argument(help="Folder to write.")],
    family: Family = "auto",
    config: ConfigFile = None,
    vocab: VocabFile = None,
    task_names: TaskNames = None,
    head: Head = "auto",
    keep_tokens: KeepTokens = None,
    dtype: StoredDtype = None,
    license: License = None,
    language: Language = None,
    cased: Annotated[
        bool, typer.Option("--cased", help="The vocabulary is case-sensitive: keep capital letters.")
    ] = False,
    overwrite: OverwriteFolder = False,
    quiet: Silent = False,
) -> None:
    """Convert a TensorFlow checkpoint, Keras weights or another implementation's folder to a HuggingFace folder."""
    from kexue_hf.conversion.convert import convert

    with interruptible():
        report = convert(
            source,
            output,
            family=family,
            config=config,
            vocab=vocab,
            task_names=None if task_names is None else task_names.split(","),
            head=head,
            keep_tokens=keep_tokens,
            dtype=dtype,
            license=license,
            language=language,
            cased=cased,
            overwrite=overwrite,
            progress=not quiet,
        )
    if quiet:
        return
    typer.echo(f"{printable(source)} -> {report.output} ({report.architecture})")
    typer.echo(f"mapped  {report.mapped} tensors, {report.parameters:,} parameters")
    typer.echo(f"dropped {len(report.dropped)} tensors{_reasons(report.dropped)}")
    for note in report.notes:
        typer.echo(f"note    {printable_message(note)}")
    typer.echo(f"wrote   {report.bytes:,} bytes of weights in {report.seconds:.2f} s")
    typer.echo("\nNext:")
    echo_loading(report.output, report.auto_class)


def export_command(
    folder: Annotated[str, typer.Argument(help="A model folder saved by kexue_hf.")],
    output: Annotated[str, typer.Argument(help="Folder to write.")],
    to: Annotated[str, typer.Option(help="tf (checkpoint) or keras (HDF5 weights).")] = "tf",
    dtype: StoredDtype = None,
    overwrite: OverwriteFolder = False,
    quiet: Silent = False,
) -> None:
    """Export a model folder to a checkpoint that bert4keras loads (T-TA: that its official code loads)."""
    from kexue_hf.conversion.export import export

    with interruptible():
        report = export(folder, output, to=to, dtype=dtype, overwrite=overwrite, progress=not quiet)
    if quiet:
        return
    typer.echo(f"{printable(folder)} -> {report.checkpoint}")
    typer.echo(f"wrote   {report.mapped} tensors, {report.parameters:,} parameters, in {report.seconds:.2f} s")
    typer.echo(f"dropped {len(report.dropped)} tensors{_reasons(report.dropped)}")
    for note in report.notes:
        typer.echo(f"note    {printable_message(note)}")
    typer.echo(f"\nNext:\n{report.usage}")


def verify_command(
    folder: Annotated[str, typer.Argument(help="A converted folder.")],
    against: Annotated[str, typer.Option(help="The checkpoint that FOLDER was converted from.")],
    config: ConfigFile = None,
    vocab: VocabFile = None,
    head: Head = "auto",
    keep_tokens: KeepTokens = None,
    all_: Annotated[bool, typer.Option("--all", help=f"Print all differences, not only the first {_SHOWN}.")] = False,
    quiet: Silent = False,
) -> None:
    """Compare every tensor, the configuration and the vocabulary of a converted folder with its source."""
    from kexue_hf.conversion.verify import verify

    with interruptible():
        report = verify(folder, against, config=config, vocab=vocab, head=head, keep_tokens=keep_tokens)
    if report.differences:
        typer.echo(f"{folder} differs from {against}:", err=True)
        shown = report.differences if all_ else report.differences[:_SHOWN]
        for difference in shown:
            typer.echo(f"  {printable_message(difference)}", err=True)
        if rest := len(report.differences) - len(shown):
            typer.echo(f"  ... and {rest} more; --all prints them", err=True)
        typer.echo(report.summary, err=True)
        raise typer.Exit(2)
    if not quiet:
        typer.echo(f"{folder} equals {against}: {report.compared} tensors, the configuration and the vocabulary")


def _reasons(dropped: list[tuple[str, str]]) -> str:
    """Return the dropped tensors grouped by reason, as `: 2 x optimizer state (a, b, ...)`."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in dropped:
        by_reason.setdefault(reason, []).append(name)
    return "".join(
        f"{', ' if number else ': '}{len(names)} x {reason} "
        f"({', '.join(map(printable, names[:2]))}{', ...' if names[2:] else ''})"
        for number, (reason, names) in enumerate(by_reason.items())
    )
