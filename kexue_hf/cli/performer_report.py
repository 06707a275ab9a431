"""`kexue-hf performer-report`: the effect of linear attention on a model, measured on the user's text."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from kexue_hf.cli.error_messages import readable_errors
from kexue_hf.cli.options import Device, Dtype, NoProgress, TextColumn
from kexue_hf.cli.result_output import print_wrote
from kexue_hf.cli.text_input import input_suffix, input_texts
from kexue_hf.errors import InputError, OutputError

# Characters to read of a file: some thousand passages, of which the report uses a few.
_CHARACTERS = 1 << 21
_PICTURES = (".png", ".svg", ".pdf")
# Longest range of layers or of lengths.
_LONGEST_RANGE = 10_000


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("performer-report")(performer_report_command)


def performer_report_command(
    model: Annotated[
        str, typer.Argument(help="A BERT, RoBERTa, GPT-2, performer_bert, ...: a folder, or a name on the Hub.")
    ],
    file: Annotated[
        Path,
        typer.Option(
            help="Text like the model's usual input: .txt (one text), .jsonl, .csv, .tsv or .parquet (`text` of each "
            "row); - for stdin. Only the first two million characters are read.",
            show_default=False,
        ),
    ],
    feature_map: Annotated[
        str | None,
        typer.Option(
            help="low_order, favor+, favor++ or learned (in its untrained state).",
            show_default="the model's, else low_order",
        ),
    ] = None,
    features: Annotated[
        int | None, typer.Option(help="Features per attention head.", show_default="the model's, else 256")
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to make linear, from 0: 3,4,5 or 3-5.", show_default="the model's, else all"),
    ] = None,
    pieces: Annotated[
        int | None,
        typer.Option(
            help="Number of passages to use: half for calibration, half for measurement.",
            show_default="about 4,000 tokens, at least 8 passages",
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Maximum tokens of a passage.", show_default="the model's limit")
    ] = None,
    lengths: Annotated[
        str, typer.Option(help="Sequence lengths, in tokens, at which to measure the speed.")
    ] = "512,1024,2048,4096,8192,16384",
    no_speed: Annotated[bool, typer.Option("--no-speed", help="Do not measure the speed.")] = False,
    output: Annotated[Path | None, typer.Option(help="JSON file to write all figures to.", show_default=False)] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="Plot to write: NAME.png, .svg or .pdf. Needs matplotlib.", show_default=False),
    ] = None,
    text_column: TextColumn = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUTPUT and PICTURE once the new files are complete.")
    ] = False,
    quiet: NoProgress = False,
) -> None:
    """Compare linear with softmax attention, layer by layer, on your text, before you swap anything.

    Prints how peaked each layer's attention is, the error of linear attention in each layer and in the model's
    output, the speed of both on this machine, and a verdict. The model's folder is not changed.
    """
    layer_numbers = None if layers is None else _numbers(layers, "--layers")
    speed_lengths = None if no_speed else _numbers(lengths, "--lengths")
    for path in (output, picture):
        if path is not None and path.exists() and not overwrite:
            raise OutputError(f"{path} exists; name another file, or pass --overwrite")
        if path is not None and next(place for place in path.absolute().parents if place.exists()).is_file():
            raise OutputError(f"{path}: its parent is a file, not a folder; name another path")
    if picture is not None:
        _check_picture(picture)
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(None))
        texts = _texts(file, text_column)

        import sys

        from kexue_hf.batch.model_loading import load_with_head
        from kexue_hf.files.quiet_loading import quiet_libraries
        from kexue_hf.performer.report.report import performer_report

        network, tokenizer = load_with_head(model, device, dtype)
        stack.enter_context(quiet_libraries())
        try:
            report = performer_report(
                network, texts, tokenizer, feature_map=feature_map, num_features=features, layers=layer_numbers,
                pieces=pieces, max_length=max_length, lengths=speed_lengths,
                progress=not quiet and sys.stderr.isatty(),
            )  # fmt: skip
        except RuntimeError as error:
            # The advice of `readable_errors` does not fit this command.
            if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
                raise InputError("not enough memory; lower --max-length or --pieces") from error
            raise
        typer.echo(str(report))
        if output is not None:
            from kexue_hf.files.whole_file import whole_file

            with whole_file(output, overwrite=overwrite) as opened:
                opened.write(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            print_wrote(output, quiet)
        if picture is not None:
            from kexue_hf.performer.report.drawing import draw_report

            draw_report(report, picture, overwrite=overwrite)
            print_wrote(picture, quiet)


def _numbers(given: str, option: str) -> list[int]:
    """Return the numbers that `3,4,5` or `3-5` names.

    Raises:
        InputError: it is not a list of numbers and ranges, or a number or a range is too large.
    """
    numbers: list[int] = []
    for part in given.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(f"{option}: expected numbers as 3,4,5 or 3-5, got {given!r}")
        if max(len(first), len(last)) > 9 or (dash and int(last) - int(first) > _LONGEST_RANGE):
            raise InputError(f"{option}: {part.strip()[:40]!r} is too large; expected numbers as 3,4,5 or 3-5")
        numbers.extend(range(int(first), int(last) + 1) if dash else [int(first)])
    if not numbers:
        raise InputError(f"{option}: expected numbers as 3,4,5 or 3-5, got {given!r}")
    return numbers


def _check_picture(picture: Path) -> None:
    if picture.suffix.lower() not in _PICTURES:
        raise OutputError(f"{picture}: expected a name that ends in {', '.join(_PICTURES)}")
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InputError("--picture needs matplotlib, which is not installed: pip install matplotlib")


def _texts(file: Path, column: str | None) -> list[str]:
    """Return the texts to use. All lines of a .txt form one text, because linear attention is for long texts."""
    suffix = input_suffix(file, (".txt", ".jsonl", ".csv", ".tsv", ".parquet"), column)
    rows = list(_first_characters(input_texts(file, column), _CHARACTERS))
    texts = ["\n".join(rows)] if suffix == ".txt" else rows
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise InputError(f"{'stdin' if str(file) == '-' else file} is empty; expected text")
    return texts


def _first_characters(rows: Iterable[str], characters: int) -> Iterator[str]:
    """Yield the first rows, up to a total number of characters; the last row is cut."""
    for row in rows:
        yield row[:characters]
        characters -= len(row) + 1
        if characters <= 0:
            return
