"""`kexue-hf embed`: sentence vectors of texts.

A file of any size is read in chunks of a bounded number of lines and characters (at least one line). Row n is the
vector of line n; zeros for an empty line.
"""

import contextlib
import io
import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue_hf.cli.error_messages import readable_errors
from kexue_hf.cli.options import BatchTokens, Device, Dtype, NoProgress, Overwrite, Resume, TextColumn
from kexue_hf.cli.result_output import counted, print_summary, results_sink, unfinished_rows, with_progress
from kexue_hf.cli.run_facts import resume_facts
from kexue_hf.cli.text_input import input_texts, note_if_empty
from kexue_hf.errors import InputError

_TEXTS_AT_ONCE = 1024
_CHARACTERS_AT_ONCE = 1 << 18


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("embed")(embed_command)


def embed_command(
    model: Annotated[str, typer.Argument(help="A T-TA, WoBERT, NEZHA, BERT, ...: a folder, or a name on the Hub.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to embed.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts to embed: lines of .txt, or `text` of each row of .jsonl, .csv, .tsv (all optionally .gz) or "
            ".parquet; - for lines of stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write: NAME.jsonl for JSON lines, NAME.npy for a NumPy array with one row per text.",
            show_default="stdout",
        ),
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale each vector to length 1.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Maximum tokens per window; longer texts are split into windows.", show_default="the model's limit"
        ),
    ] = None,
    text_column: TextColumn = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    quiet: NoProgress = False,
) -> None:
    """Compute sentence vectors: the mean of the hidden states of a text's tokens, without special tokens."""
    started = time.perf_counter()
    if (not texts) == (file is None):
        raise InputError("expected either texts or --file FILE (--file - reads stdin)")
    if text_column is not None and file is None:
        raise InputError("--text-column without --file has no effect; leave it out")
    rows = texts or input_texts(Path("-") if file is None else file, text_column)
    facts = resume_facts(
        "embed", model, normalize=normalize, max_length=max_length, device=device, dtype=dtype,
        batch_tokens=batch_tokens,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        sink = stack.enter_context(results_sink(output, overwrite, resume, facts, (".jsonl", ".npy")))

        from kexue_hf.batch.model_loading import load_encoder
        from kexue_hf.files.quiet_loading import quiet_libraries
        from kexue_hf.pipelines.chunks import chunks
        from kexue_hf.pipelines.sentence_vectors import sentence_vectors

        network, tokenizer = load_encoder(model, device, dtype)
        stack.enter_context(quiet_libraries())
        options: dict[str, Any] = {"batch_tokens": batch_tokens, "max_length": max_length, "normalize": normalize}
        as_array, width = output is not None and output.suffix.lower() == ".npy", network.config.hidden_size

        def split(rows: Iterable[str], done: int = 0) -> Iterator[list[str]]:
            return chunks(rows, _TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE, done=done)

        layout = {"head": _head(0, width), "width": 4 * width} if as_array else {}
        rows = unfinished_rows(rows, sink, (network, tokenizer), split, quiet, **layout)
        done = getattr(sink, "rows", 0)
        found = (
            pair
            for chunk in split(rows, done)
            for pair in zip(chunk, sentence_vectors(network, tokenizer, chunk, **options), strict=True)
        )
        for text, vector in with_progress(found, len(texts) if texts else None, quiet, network):
            sink.write(vector.astype("<f4").tobytes() if as_array else _line(text, vector))
            done += 1
        if as_array:
            # numpy pads the header so that the number of rows can grow in place.
            sink.rewrite_head(_head(sink.rows, width))
    if file is not None:
        note_if_empty(done, "texts", [file], quiet)
    if done:
        print_summary(counted(done, "vectors"), output, started, quiet)


def _line(text: str, vector: Any) -> str:
    return json.dumps({"text": text, "vector": vector.tolist()}, ensure_ascii=False, allow_nan=False) + "\n"


def _head(rows: int, width: int) -> bytes:
    """Return the header of a .npy of vectors [rows, width]."""
    from numpy.lib.format import write_array_header_1_0

    head = io.BytesIO()
    write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return head.getvalue()
