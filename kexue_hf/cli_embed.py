"""`kexue-hf embed`: sentence vectors of texts.

A file of any size is read in pieces of a bounded number of lines and characters; row n is line n's, zeros where it is
empty.
"""

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from kexue_hf.cli_texts import parsed, readable_errors, text_sink, with_progress
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
            help="Texts: a line each in .txt, `text` of each row in .jsonl (both perhaps .gz) or .parquet; - for "
            "lines from stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A file to make: JSON lines, or, if it ends in .npy, an array [texts, width] for numpy.load.",
            show_default="stdout",
        ),
    ] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale each vector to length 1.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens at a time; a longer text is read in windows.", show_default="what the model takes"),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Where the text is, in .jsonl and .parquet files.")] = "text",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto is a GPU if there is one.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16; auto is that of the file.")] = "auto",
    batch_tokens: Annotated[
        int, typer.Option(help="At most so many tokens at a time; less needs less memory.")
    ] = 8192,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT once it is complete.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Vectors of texts: the mean of the states of a text's own tokens."""
    if (not texts) == (file is None):
        raise InputError("give either texts or --file FILE (--file - reads stdin)")
    rows = texts or _rows(file, text_column)
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        if output is not None and output.suffix == ".npy":
            from kexue_hf.whole_file import whole_binary_file

            array = stack.enter_context(whole_binary_file(output, overwrite=overwrite))
        else:
            array, sink = None, stack.enter_context(text_sink(output, overwrite))

        from kexue_hf.masked_lm import load_encoder, quiet_libraries
        from kexue_hf.pipelines.sentence_vectors import sentence_vectors
        from kexue_hf.pipelines.text_scoring import chunks

        network, tokenizer = load_encoder(model, device, dtype)
        stack.enter_context(quiet_libraries())
        options: dict[str, Any] = {"batch_tokens": batch_tokens, "max_length": max_length, "normalize": normalize}
        found = (
            pair
            for piece in chunks(rows, _TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE)
            for pair in zip(piece, sentence_vectors(network, tokenizer, piece, **options), strict=True)
        )
        results = with_progress(found, len(texts) if texts else None, quiet)
        if array is not None:
            _write_array(array, (vector for _, vector in results), network.config.hidden_size)
            return
        for text, vector in results:
            sink.write(json.dumps({"text": text, "vector": vector.tolist()}, ensure_ascii=False) + "\n")


def _rows(file: Path | None, column: str) -> Iterable[str]:
    """The texts; what is wrong with the file's name is said at once."""
    from kexue_hf.corpora.text_files import is_text_file, read_texts

    assert file is not None  # embed_command has looked
    if str(file) == "-":
        return _lines(file, None)
    if not file.exists():
        raise InputError(f"{file} does not exist")
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file")
    kinds = set(file.suffixes) & {".json", ".jsonl", ".parquet"} if is_text_file(file) else set()
    if ".json" in kinds:
        raise InputError(f"{file}: expected an object a line, as .jsonl")
    if ".parquet" in kinds:
        return read_texts([file], column)
    return _lines(file, column if ".jsonl" in kinds else None)


def _lines(file: Path, column: str | None) -> Iterator[str]:
    from kexue_hf.corpora.text_files import read_lines, text_of

    name, opened = ("stdin", sys.stdin.buffer) if str(file) == "-" else (str(file), None)
    for number, line in read_lines(name, opened):
        place = f"{name}, line {number}"
        yield text_of(parsed(line, place), column, place) if column is not None and line.strip() else line


def _write_array(array: BinaryIO, vectors: Iterable[Any], width: int) -> None:
    """A .npy of vectors as they come. Their number goes into its head at the end, where numpy leaves room for it (so
    that arrays can grow along their first axis)."""
    _write_head(array, 0, width)
    rows = 0
    for vector in vectors:
        array.write(vector.astype("<f4").tobytes())
        rows += 1
    array.seek(0)
    _write_head(array, rows, width)


def _write_head(array: BinaryIO, rows: int, width: int) -> None:
    from numpy.lib.format import write_array_header_1_0

    write_array_header_1_0(array, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
