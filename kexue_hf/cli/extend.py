"""`kexue-hf extend`: add words to the vocabulary of a character BERT."""

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
            help="A BERT: a transformers folder, a name on the Hub, an original folder, a checkpoint prefix or an .h5 "
            "file."
        ),
    ],
    output: Annotated[str, typer.Argument(help="Folder to write.")],
    words: Annotated[int, typer.Option(help="Number of words to add, the most frequent first.")] = 20_000,
    corpus: Annotated[
        list[Path] | None,
        typer.Option(
            help="File or folder (read recursively) to count words in. Can be repeated.",
            show_default="jieba's dictionary",
        ),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the text, in all formats but .txt.")] = "text",
    user_dict: Annotated[
        Path | None,
        typer.Option(
            help="Words to add and never to split: one word per line, in jieba's format.", show_default=False
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a line of the user dictionary cannot become a word.")
    ] = False,
    family: Family = "auto",
    config: ConfigFile = None,
    vocab: VocabFile = None,
    dtype: StoredDtype = None,
    license: License = None,
    cased: Annotated[
        bool | None,
        typer.Option(
            "--cased/--uncased", help="Keep or lower-case capital letters.", show_default="as the source's tokenizer"
        ),
    ] = None,
    overwrite: OverwriteFolder = False,
    quiet: Silent = False,
) -> None:
    """Turn a character BERT into a word-based model (WoBERT)."""
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
    from_user = f", {report.user_words:,} of them from {user_dict}" if user_dict is not None else ""
    typer.echo(f"{source} -> {report.output} ({report.architecture}, {report.vocab_size:,} tokens)")
    typer.echo(f"kept    {report.kept:,} tokens")
    typer.echo(f"dropped {len(report.dropped):,} tokens{_examples(report.dropped)}")
    typer.echo(f"added   {len(report.words):,} words{from_user}{_examples(report.words)}")
    for note in report.notes:
        typer.echo(f"note    {printable_message(note)}")
    typer.echo(f"wrote   {report.bytes:,} bytes of weights in {report.seconds:.2f} s")
    has_head = report.architecture.endswith(_WITH_HEAD)
    headless = "" if has_head else " (the source has no MLM head: it starts with random weights)"
    typer.echo(f"\nNext: continue masked language model training{headless}.")
    echo_loading(report.output, "AutoModelForMaskedLM")


def _examples(tokens: list[str]) -> str:
    """Return the first and last tokens as `: a, b, c, ..., x, y, z`."""
    if not tokens:
        return ""
    shown = tokens if len(tokens) <= 6 else [*tokens[:3], "...", *tokens[-3:]]
    return f": {', '.join(map(printable, shown))}"
