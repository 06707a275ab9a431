"""`kexue-hf convert`, `export` and `verify`. What they need is imported when they run: `--help` answers at once."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.errors import OutputError, printable, printable_message

FAMILY = typer.Option(help="The family that the checkpoint is of; auto recognises it by its tensors.")
CONFIG = typer.Option(help="Its configuration, if it is not beside it.", show_default=False)
VOCAB = typer.Option(help="Its vocabulary, if it is not beside it.", show_default=False)
TASKS = typer.Option(help="What a matcher's tasks are called, with commas between.", show_default=False)
HEAD = typer.Option(
    help="What a classifier on the encoder is of: text, token or choice; none leaves it out; auto tells by its use."
)
KEEP_TOKENS = typer.Option(
    help="Ids that bert4keras was given as keep_tokens, for weights of these tokens alone.", show_default=False
)
LICENSE = typer.Option(help="License for the card, as the Hub spells it.", show_default=False)
LANGUAGE = typer.Option(help="Language for the card, as the Hub spells it.", show_default="by the vocabulary")
OVERWRITE = typer.Option("--overwrite", help="Replace a model folder at OUTPUT once the new one is complete.")
QUIET = typer.Option("--quiet", "-q", help="Print nothing but errors.")


def add_commands(app: typer.Typer) -> None:
    """Add the three commands to the application."""
    app.command("convert")(convert_command)
    app.command("export")(export_command)
    app.command("verify")(verify_command)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is one line and exit code 2, as any end without a result; typer alone would exit with 130 in silence."""
    try:
        yield
    except KeyboardInterrupt:
        raise OutputError("interrupted; nothing was written") from None


def echo_loading(folder: Path, auto_class: str) -> None:
    """Print the lines that load a folder."""
    typer.echo("  import kexue_hf")
    typer.echo(f"  from transformers import AutoTokenizer, {auto_class}")
    typer.echo(f'  tokenizer = AutoTokenizer.from_pretrained("{folder}")')
    typer.echo(f'  model = {auto_class}.from_pretrained("{folder}")')


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder as the original unpacks, checkpoint prefix, Keras .h5/.weights file, or a folder or Hub name "
            "of WoBERT or NEZHA in another implementation."
        ),
    ],
    output: Annotated[str, typer.Argument(help="The folder to make.")],
    family: Annotated[str, FAMILY] = "auto",
    config: Annotated[Path | None, CONFIG] = None,
    vocab: Annotated[Path | None, VOCAB] = None,
    task_names: Annotated[str | None, TASKS] = None,
    head: Annotated[str, HEAD] = "auto",
    keep_tokens: Annotated[Path | None, KEEP_TOKENS] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16.", show_default="as stored, bit for bit")
    ] = None,
    license: Annotated[str | None, LICENSE] = None,
    language: Annotated[str | None, LANGUAGE] = None,
    cased: Annotated[
        bool, typer.Option("--cased", help="The vocabulary tells capitals apart: do not lower-case.")
    ] = False,
    overwrite: Annotated[bool, OVERWRITE] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Convert a TensorFlow checkpoint, Keras weights or a foreign folder into a HuggingFace folder."""
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
    typer.echo(f"{report.family} -> {report.output} ({report.architecture})")
    typer.echo(f"mapped  {report.mapped} tensors, {report.parameters:,} parameters")
    typer.echo(f"dropped {len(report.dropped)} tensors{_reasons(report.dropped)}")
    for note in report.notes:
        typer.echo(f"note    {printable_message(note)}")
    typer.echo(f"wrote   {report.bytes:,} bytes of weights in {report.seconds:.2f} s")
    typer.echo("\nNext:")
    echo_loading(report.output, report.auto_class)


def export_command(
    folder: Annotated[str, typer.Argument(help="A HuggingFace folder of ours.")],
    output: Annotated[str, typer.Argument(help="The folder to make.")],
    to: Annotated[str, typer.Option(help="tf (checkpoint) or keras (HDF5 weights).")] = "tf",
    dtype: Annotated[
        str | None, typer.Option(help="float32, float16 or bfloat16.", show_default="as stored, bit for bit")
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Write a folder of ours back as a checkpoint that bert4keras loads (a T-TA: its official code)."""
    from kexue_hf.conversion.export import export

    with interruptible():
        report = export(folder, output, to=to, dtype=dtype, overwrite=overwrite, progress=not quiet)
    if quiet:
        return
    typer.echo(f"{report.family} -> {report.checkpoint}")
    typer.echo(f"wrote   {report.mapped} tensors, {report.parameters:,} parameters, in {report.seconds:.2f} s")
    typer.echo(f"dropped {len(report.dropped)} tensors{_reasons(report.dropped)}")
    for note in report.notes:
        typer.echo(f"note    {printable_message(note)}")
    typer.echo(f"\nNext:\n{report.usage}")


def verify_command(
    folder: Annotated[str, typer.Argument(help="A converted folder.")],
    against: Annotated[str, typer.Option(help="The checkpoint that it was made from.")],
    config: Annotated[Path | None, CONFIG] = None,
    vocab: Annotated[Path | None, VOCAB] = None,
    head: Annotated[str, HEAD] = "auto",
    keep_tokens: Annotated[Path | None, KEEP_TOKENS] = None,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Compare a converted folder with its source: every tensor, the configuration and the vocabulary."""
    from kexue_hf.conversion.verify import verify

    with interruptible():
        report = verify(folder, against, config=config, vocab=vocab, head=head, keep_tokens=keep_tokens)
    if report.differences:
        typer.echo(f"{folder} differs from {against}:", err=True)
        for difference in report.differences:
            typer.echo(f"  {printable_message(difference)}", err=True)
        raise typer.Exit(2)
    if not quiet:
        typer.echo(f"{folder} equals {against}: {report.compared} tensors, the configuration and the vocabulary")


def _reasons(dropped: list[tuple[str, str]]) -> str:
    """`: 2 x optimizer state (a, b, ...)`, one entry a reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in dropped:
        by_reason.setdefault(reason, []).append(name)
    return "".join(
        f"{', ' if number else ': '}{len(names)} x {reason} "
        f"({', '.join(map(printable, names[:2]))}{', ...' if names[2:] else ''})"
        for number, (reason, names) in enumerate(by_reason.items())
    )
