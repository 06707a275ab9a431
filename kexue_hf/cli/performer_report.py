"""`kexue-hf performer-report`: what linear attention would do to a model, on the user's own text."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.cli.options import Device, Dtype, NoProgress, TextColumn
from kexue_hf.cli.text_io import input_form, readable_errors, rows_of
from kexue_hf.errors import InputError, OutputError

# Of a file of any size so much is read: it is some thousand pieces, of which a few are used.
_CHARACTERS = 1 << 21
_FIGURES = (".png", ".svg", ".pdf")
# Of layers, or of lengths, in one range.
_MOST_NUMBERS = 10_000


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("performer-report")(performer_report_command)


def performer_report_command(
    model: Annotated[
        str, typer.Argument(help="A BERT, RoBERTa, GPT-2, performer_bert, ...: a folder, or a name on the Hub.")
    ],
    text: Annotated[
        Path,
        typer.Option(
            "--file",
            "--text",
            help="Text of the kind that the model is for: .txt (one text), .jsonl, .csv, .tsv or .parquet (`text` of "
            "each row); - for stdin. The first two million characters are used.",
            show_default=False,
        ),
    ],
    feature_map: Annotated[
        str | None,
        typer.Option(
            help="low_order, favor+, favor++ or learned (as it is before it is trained).",
            show_default="the model's own if it has one, or low_order",
        ),
    ] = None,
    features: Annotated[
        int | None, typer.Option(help="Features a head.", show_default="the model's own, or 256")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers that are linear, from 0: 3,4,5 or 3-5.", show_default="all, or as the model has it"),
    ] = None,
    pieces: Annotated[
        int | None,
        typer.Option(
            help="Pieces of the text to use: one half to calibrate, the other to measure on.",
            show_default="some 4,000 tokens, 8 pieces at least",
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens of a piece at most.", show_default="what the model takes")
    ] = None,
    lengths: Annotated[
        str, typer.Option(help="Numbers of tokens at which the speed is measured.")
    ] = "512,1024,2048,4096,8192,16384",
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Do not measure the speed.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="A file of all figures to make.", show_default=False)
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(help="A picture to make, NAME.png, .svg or .pdf; needs matplotlib.", show_default=False),
    ] = None,
    text_column: TextColumn = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files that are made.")] = False,
    quiet: NoProgress = False,
) -> None:
    """Compare linear attention with softmax, layer by layer, on your text: before anything is swapped.

    Prints how peaked each layer is, how far linear attention is from softmax in it, what becomes of the model's
    output, how fast both are on this machine, and a verdict. The model's folder is only read.
    """
    chosen = None if layers is None else _numbers(layers, "--layers")
    measured = None if no_speed else _numbers(lengths, "--lengths")
    for output in (json_file, figure):
        if output is not None and output.exists() and not overwrite:
            raise OutputError(f"{output} exists; name another file, or pass --overwrite")
        if output is not None and next(place for place in output.absolute().parents if place.exists()).is_file():
            raise OutputError(f"{output}: lies in a file and in no folder; name another")
    if figure is not None:
        _check_figure(figure)
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(None))
        texts = _texts(text, text_column)

        import sys

        from kexue_hf.cli.model_loading import load_with_head, quiet_libraries
        from kexue_hf.performer.report.report import performer_report

        network, tokenizer = load_with_head(model, device, dtype)
        stack.enter_context(quiet_libraries())
        try:
            report = performer_report(
                network, texts, tokenizer, feature_map=feature_map, num_features=features, layers=chosen,
                pieces=pieces, max_length=max_length, lengths=measured, progress=not quiet and sys.stderr.isatty(),
            )  # fmt: skip
        except RuntimeError as error:
            # As `readable_errors`, whose advice is of another command.
            if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
                raise InputError("not enough memory; lower --max-length or --pieces") from error
            raise
        typer.echo(str(report))
        if json_file is not None:
            from kexue_hf.files.whole_file import whole_file

            with whole_file(json_file, overwrite=overwrite) as opened:
                opened.write(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        if figure is not None:
            from kexue_hf.performer.report.drawing import draw_report

            draw_report(report, figure, overwrite=overwrite)


def _numbers(given: str, option: str) -> list[int]:
    """3,4,5 or 3-5 as numbers."""
    found: list[int] = []
    for part in given.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"{option}: expected numbers as 3,4,5 or 3-5, got {given!r}")
        if max(len(first), len(last)) > 9 or (dash and int(last) - int(first) > _MOST_NUMBERS):
            raise InputError(f"{option}: {part.strip()[:40]!r} is more than there can be")
        found.extend(range(int(first), int(last) + 1) if dash else [int(first)])
    if not found:
        raise InputError(f"{option}: expected numbers as 3,4,5 or 3-5, got {given!r}")
    return found


def _check_figure(figure: Path) -> None:
    if figure.suffix.lower() not in _FIGURES:
        raise OutputError(f"{figure}: expected a name that ends in {', '.join(_FIGURES)}")
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InputError("--figure needs matplotlib, which is not installed: pip install matplotlib")


def _texts(file: Path, column: str | None) -> list[str]:
    """The texts to use. Lines of a .txt file are one text: long ones are what linear attention is for."""
    form = input_form(file, (".txt", ".jsonl", ".csv", ".tsv", ".parquet"), column)
    rows = list(_as_long_as(rows_of(file, column), _CHARACTERS))
    texts = ["\n".join(rows)] if form == ".txt" else rows
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InputError(f"{'stdin' if str(file) == '-' else file} is empty; expected text to compare on")
    return texts


def _as_long_as(rows: Iterable[str], characters: int) -> Iterator[str]:
    """Rows as long as there is room for their characters; the last one is cut."""
    for row in rows:
        yield row[:characters]
        characters -= len(row) + 1
        if characters <= 0:
            return
