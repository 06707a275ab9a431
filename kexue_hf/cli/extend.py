"""`kexue-hf extend`. What it needs is imported when it runs: `--help` answers at once."""

from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.cli.convert import echo_loading, interruptible
from kexue_hf.cli.options import ConfigFile, Family, License, OverwriteFolder, Silent, StoredDtype, VocabFile
from kexue_hf.errors import printable, printable_message

_WITH_HEAD = ("ForPreTraining", "ForMaskedLM")


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("extend")(extend_command)


def extend_command(
    source: Annotated[
        str,
        typer.Argument(
            help="A BERT: folder of transformers, name on the Hub, original folder, checkpoint prefix, .h5."
        ),
    ],
    output: Annotated[str, typer.Argument(help="The folder to make.")],
    words: Annotated[int, typer.Option(help="How many words to add, the most frequent ones.")] = 20_000,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            help="File or folder (with all below it) to count words in; may be given several times.",
            show_default="jieba's dictionary",
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Where the text is, in all but .txt files.")] = "text",
    user_dict: Annotated[
        Path | None,
        typer.Option(help="Words to add and to cut as one: a word a line, as jieba's.", show_default=False),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a user dictionary with a line that cannot become a word.")
    ] = False,
    family: Family = "auto",
    config: ConfigFile = None,
    vocab: VocabFile = None,
    dtype: StoredDtype = None,
    license: License = None,
    cased: Annotated[
        bool | None,
        typer.Option("--cased/--uncased", help="Do not lower-case, or do.", show_default="as the source's tokenizer"),
    ] = None,
    overwrite: OverwriteFolder = False,
    quiet: Silent = False,
) -> None:
    """Make a word-based model (WoBERT) of a character BERT."""
    from kexue_hf.conversion.extend import extend

    with interruptible():
        report = extend(
            source,
            output,
            words=words,
            corpus=corpus or (),
            text_column=text_column,
            user_dict=user_dict,
            strict=strict,
            family=family,
            config=config,
            vocab=vocab,
            dtype=dtype,
            license=license,
            cased=cased,
            overwrite=overwrite,
            progress=not quiet,
        )
    if quiet:
        return
    own = f", {report.user_words:,} of them from {user_dict}" if user_dict is not None else ""
    typer.echo(f"{source} -> {report.output} ({report.architecture}, {report.vocab_size:,} tokens)")
    typer.echo(f"kept    {report.kept:,} tokens")
    typer.echo(f"dropped {len(report.dropped):,} tokens{_examples(report.dropped)}")
    typer.echo(f"added   {len(report.words):,} words{own}{_examples(report.words)}")
    for note in report.notes:
        typer.echo(f"note    {printable_message(note)}")
    typer.echo(f"wrote   {report.bytes:,} bytes of weights in {report.seconds:.2f} s")
    headless = (
        "" if report.architecture.endswith(_WITH_HEAD) else " (the source has no head for them: it begins at random)"
    )
    typer.echo(f"\nNext: train it further on masked words{headless}.")
    echo_loading(report.output, "AutoModelForMaskedLM")


def _examples(tokens: list[str]) -> str:
    """`: a, b, ..., y, z`"""
    if not tokens:
        return ""
    shown = tokens if len(tokens) <= 6 else [*tokens[:3], "...", *tokens[-3:]]
    return f": {', '.join(map(printable, shown))}"
