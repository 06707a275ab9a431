"""`kexue-hf embed`: sentence vectors of texts.

A file of any size is read in pieces of a bounded number of lines and characters (but always at least one line); row n
is line n's, zeros where it is empty.
"""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue_hf.cli.options import BatchTokens, Device, Dtype, NoProgress, Overwrite, Resume, TextColumn
from kexue_hf.cli.text_io import (
    facts_of,
    readable_errors,
    rest_of,
    results_sink,
    rows_of,
    say_if_empty,
    with_progress,
)
from kexue_hf.errors import InputError

_TEXTS_AT_ONCE = 1024
_CHARACTERS_AT_ONCE = 1 << 18


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("embed")(embed_command)


def embed_command(
    model: Annotated[str, typer.Argument(help="A T-TA, WoBERT, NEZHA, BERT, ...: a folder, or a name on the Hub.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts: a line each in .txt, `text` of each row in .jsonl, .csv, .tsv (all perhaps .gz) or "
            ".parquet; - for lines from stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A file to make: JSON lines in NAME.jsonl, or an array [texts, width] for numpy.load in NAME.npy.",
            show_default="stdout",
        ),
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale each vector to length 1.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens at a time; a longer text is read in windows.", show_default="what the model takes"),
    ] = None,
    text_column: TextColumn = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = 8192,
    overwrite: Overwrite = False,
    resume: Resume = False,
    quiet: NoProgress = False,
) -> None:
    """Vectors of texts: the mean of the states of a text's own tokens."""
    if (not texts) == (file is None):
        raise InputError("give either texts or --file FILE (--file - reads stdin)")
    if text_column is not None and file is None:
        raise InputError("--text-column without --file has no effect; leave it out")
    rows = texts or rows_of(Path("-") if file is None else file, text_column)
    facts = facts_of(
        "embed", model, normalize=normalize, max_length=max_length, device=device, dtype=dtype,
        batch_tokens=batch_tokens,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        sink = stack.enter_context(results_sink(output, overwrite, resume, facts, (".jsonl", ".npy")))

        from kexue_hf.cli.model_loading import load_encoder, quiet_libraries
        from kexue_hf.pipelines.chunks import chunks
        from kexue_hf.pipelines.sentence_vectors import sentence_vectors

        network, tokenizer = load_encoder(model, device, dtype)
        stack.enter_context(quiet_libraries())
        options: dict[str, Any] = {"batch_tokens": batch_tokens, "max_length": max_length, "normalize": normalize}
        as_array, width = output is not None and output.suffix.lower() == ".npy", network.config.hidden_size

        def pieces(rows: Iterable[str], done: int = 0) -> Iterator[list[str]]:
            return chunks(rows, _TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE, done=done)

        form = {"head": _head(0, width), "width": 4 * width} if as_array else {}
        rows = rest_of(rows, sink, (network, tokenizer), pieces, quiet, **form)
        done = getattr(sink, "rows", 0)
        found = (
            pair
            for piece in pieces(rows, done)
            for pair in zip(piece, sentence_vectors(network, tokenizer, piece, **options), strict=True)
        )
        for text, vector in with_progress(found, len(texts) if texts else None, quiet, network):
            sink.write(vector.astype("<f4").tobytes() if as_array else _line(text, vector))
            done += 1
        if as_array:
            # Their number, for which numpy leaves room (so that arrays can grow along their first axis).
            sink.rewrite_head(_head(sink.rows, width))
    if file is not None:
        say_if_empty(done, "texts", [file], quiet)


def _line(text: str, vector: Any) -> str:
    return json.dumps({"text": text, "vector": vector.tolist()}, ensure_ascii=False, allow_nan=False) + "\n"


def _head(rows: int, width: int) -> bytes:
    """What a .npy of vectors begins with."""
    from numpy.lib.format import write_array_header_1_0

    head = io.BytesIO()
    write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return head.getvalue()
