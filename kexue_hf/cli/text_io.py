"""Input, output, errors and progress bars for the commands that read texts line by line and write one result each.

A line is always read whole, however long it is.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from kexue_hf.errors import InputError, KexueError, OutputError, printable

_TEXTS_AT_ONCE = 1024
# With one pass per token, fewer texts fill the batches, and results appear sooner.
_TEXTS_MASKED_AT_ONCE = 128
_BAR_AFTER, _BAR_EVERY = 2.0, 0.5  # seconds


@contextlib.contextmanager
def readable_errors(output: Path | None) -> Iterator[None]:
    """Convert ValueError, out-of-memory errors and Ctrl-C into errors with a one-line message."""
    try:
        yield
    except KexueError:
        raise
    except KeyboardInterrupt:
        raise OutputError(
            "interrupted" if output in (None, Path("-")) else "interrupted; nothing was written"
        ) from None
    except ValueError as error:
        raise InputError(str(error)) from error
    except RuntimeError as error:
        # The error class depends on the device and on torch's version.
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            if "--resume" in str(error):
                raise InputError(
                    "not enough memory; the results so far are kept: rerun with --resume when more memory is free, or "
                    "start over without --resume and with a lower --batch-tokens"
                ) from error
            raise InputError("not enough memory; lower --batch-tokens") from error
        raise


def rows_of(
    file: Path, column: str | None = None, forms: Sequence[str] = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
) -> Iterable[str]:
    """Return the texts of a file, or the lines of stdin (-). Empty texts are kept: row n is text n.

    Args:
        column: name of the text column in formats other than .txt; None for `text`.
        forms: the accepted file name suffixes.

    Raises:
        InputError: immediately if the file is missing or has another suffix, or if a column is named for a .txt;
            while reading, with file and line, if a line is invalid.
    """
    form = input_form(file, forms, column)
    if form == ".parquet":
        from kexue_hf.corpora.text_files import read_texts

        return read_texts([file], column or "text")
    if form != ".txt":
        return _texts_of(file, column or "text")
    return (line for _, line in places_and_lines(file))


def input_form(file: Path, forms: Sequence[str], column: str | None = None) -> str:
    """Return the suffix in `forms` that the file has; `.txt` for stdin and for a name without a suffix.

    Raises:
        InputError: the file does not exist or has another suffix, or a column is named for lines of text.
    """
    form = ".txt" if str(file) == "-" else _form_of_file(file, forms)
    if column is not None and form == ".txt":
        raise InputError(f"--text-column has no effect on lines of text ({_shown(file)}); leave it out")
    return form


def _form_of_file(file: Path, forms: Sequence[str]) -> str:
    from kexue_hf.corpora.text_files import form_of

    if not file.exists():
        raise InputError(f"{file} does not exist")
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file")
    form = form_of(file) or ".txt"
    if form not in forms:
        hint = "one object per line, as .jsonl" if form == ".json" else f"{', '.join(forms)} (text optionally .gz)"
        raise InputError(f"{file}: expected {hint}, got {form}; to read it as lines of text: --file - < FILE")
    return form


def places_and_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each line's place ("FILE, line N", from 1) and its text; - reads stdin."""
    from kexue_hf.corpora.text_files import read_lines

    opened = sys.stdin.buffer if str(file) == "-" else None
    for number, line in read_lines(_shown(file), opened):
        yield f"{_shown(file)}, line {number}", line


def objects_of(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each row of a .csv or .tsv, or of each JSON line; None for an empty line."""
    from kexue_hf.corpora.text_files import TABLES, form_of, parse_json_line, read_objects

    if form_of(file) in TABLES:
        yield from read_objects(file)
        return
    for place, line in places_and_lines(file):
        yield place, parse_json_line(line, place) if line.strip() else None


def _texts_of(file: Path, column: str) -> Iterator[str]:
    from kexue_hf.corpora.text_files import text_of

    for place, row in objects_of(file):
        yield "" if row is None else text_of(row, column, place)


def _shown(file: Path) -> str:
    return "stdin" if str(file) == "-" else str(file)


@contextlib.contextmanager
def text_sink(output: Path | None, overwrite: bool, endings: Sequence[str] = (".jsonl", ".txt")) -> Iterator[TextIO]:
    """Open the output: stdout (None or -), or a file that appears once it is complete.

    Args:
        endings: the suffixes that the file name may have; a name without a suffix is accepted too.

    Raises:
        OutputError: the name has another suffix, or the file cannot be written.
    """
    if output is None or str(output) == "-":
        # Redirected JSON lines are UTF-8 in any locale; a terminal keeps its own encoding.
        if not sys.stdout.isatty() and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")
        yield sys.stdout
        sys.stdout.flush()
        return
    _check_ending(output, endings)
    from kexue_hf.files.whole_file import whole_file

    with whole_file(output, overwrite=overwrite) as opened:
        yield opened


@contextlib.contextmanager
def results_sink(
    output: Path | None,
    overwrite: bool,
    resume: bool,
    facts: dict[str, Any],
    endings: Sequence[str] = (".jsonl",),
) -> Iterator[Any]:
    """Open the output as `text_sink` does, but a file as [`ResumableResults`].

    Args:
        resume: continue an interrupted run with the same `facts`.

    Raises:
        InputError: `resume` without a file.
    """
    if output is None or str(output) == "-":
        if resume:
            raise InputError("--resume without --output FILE has no effect; leave it out")
        with text_sink(output, overwrite, endings) as opened:
            yield opened
        return
    _check_ending(output, endings)
    from kexue_hf.files.resumable_results import resumable_results

    with resumable_results(output, facts, overwrite=overwrite, resume=resume) as results:
        yield results


def rest_of(
    rows: Iterable[Any],
    sink: Any,
    loaded: tuple[Any, Any],
    split: Callable[[Iterable[Any]], Iterator[list[Any]]],
    quiet: bool,
    **form: Any,
) -> Iterable[Any]:
    """Return the rows that have no result in the sink yet, see `ResumableResults.rest`.

    Args:
        split: the function that splits rows into the chunks that the model takes together.
        loaded: the model and its tokenizer, which must be those of the interrupted run.
    """
    from kexue_hf.files.resumable_results import ResumableResults

    if not isinstance(sink, ResumableResults):
        return rows
    sink.depend_on(_facts_of_loaded(*loaded))
    rest = sink.rest(rows, split, **form)
    if sink.resumed and not quiet:
        print(f"{sink.rows:,} rows already have results", file=sys.stderr)
    return rest


def facts_of(command: str, model: str, **options: Any) -> dict[str, Any]:
    """Return what the results depend on apart from the rows: the model's files, the options, the versions."""
    import importlib.metadata
    import os
    import zlib

    folder = Path(model)
    files = _files_of(folder) if folder.is_dir() else []
    state = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    versions = {name: importlib.metadata.version(name) for name in ("kexue-hf", "torch", "transformers")}
    name = os.path.realpath(model) if files else model
    facts = {"command": command, "model": f"{name} ({zlib.crc32(repr(state).encode()):08x})", **versions}
    return {**facts, **{f"--{name.replace('_', '-')}": value for name, value in options.items()}}


def _files_of(folder: Path) -> list[Path]:
    """Return the files that a loader may read, also in subfolders, except hidden ones (such as partial results)."""
    from kexue_hf.files.regular_file import READ

    files = (path for path in folder.rglob("*") if path.name.endswith(READ) and path.is_file())
    return sorted(path for path in files if not any(part[0] == "." for part in path.relative_to(folder).parts))


def _facts_of_loaded(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Return the device, dtype, commit and word segmenter that were actually chosen for a loaded model."""
    import importlib.metadata

    from kexue_hf.files.hub_names import commit_of
    from kexue_hf.models.wobert.segmentation_wobert import installed
    from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer

    segmenter = installed(None)[0] if isinstance(tokenizer, WoBertTokenizer) else None
    return {
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "commit": getattr(model.config, "_commit_hash", None) or commit_of(model.config.name_or_path),
        "segmenter": segmenter and f"{segmenter} {importlib.metadata.version(segmenter)}",
    }


def _check_ending(output: Path, endings: Sequence[str]) -> None:
    if output.suffix.lower() not in ("", *endings) and not output.is_dir():
        raise OutputError(f"{output}: cannot write {output.suffix}, only {' or '.join(endings)}; name another file")


def note_if_empty(rows: int, what: str, files: Iterable[Path], quiet: bool) -> None:
    """Print a note if the files held nothing. That is not an error: an empty file has an empty result."""
    if not rows and not quiet:
        print(f"no {what} in {' and '.join(map(_shown, files))}: the result is empty", file=sys.stderr)


def texts_per_chunk(model: Any, method: str) -> int:
    """Return how many texts to read ahead and sort by length, for a masked language model's method.

    Raises:
        ValueError: the model does not support the method.
    """
    from kexue_hf.pipelines.leave_one_out import chosen_method

    return _TEXTS_AT_ONCE if chosen_method(model, method) == "one_pass" else _TEXTS_MASKED_AT_ONCE


def with_progress(results: Iterable[Any], total: int | None, quiet: bool, model: Any = None) -> Iterable[Any]:
    """Return the results, with a progress bar on stderr if it is a terminal and the work takes over two seconds.

    Args:
        model: the model that computes the results; the bar then counts its batches too, and is cleared before each
            result, which may go to the same terminal.
    """
    if quiet or not sys.stderr.isatty():
        return results
    from tqdm import tqdm

    if model is None:
        bar: Iterable[Any] = tqdm(results, total=total, unit=" texts", leave=False, mininterval=0.5, delay=2)
        return bar
    return _between_batches(results, total, model)


def _between_batches(results: Iterable[Any], total: int | None, model: Any) -> Iterator[Any]:
    import time

    from tqdm import tqdm

    batches, shown, due = 0, False, time.monotonic() + _BAR_AFTER

    def tick(*_: Any) -> None:
        nonlocal batches, shown, due
        batches += 1
        if time.monotonic() >= due:
            bar.set_postfix_str(f"{batches:,} batches", refresh=False)
            bar.refresh()
            shown, due = True, time.monotonic() + _BAR_EVERY

    hook = model.base_model.register_forward_hook(tick)
    # The infinite delay leaves all drawing to `tick`.
    with tqdm(total=total, unit=" texts", leave=False, delay=float("inf")) as bar:
        try:
            for result in results:
                bar.n += 1
                if shown:
                    bar.clear()
                    shown = False
                yield result
        finally:
            hook.remove()


def one_line(text: str) -> str:
    """Return a text on one line, shortened to 60 characters."""
    text = " ".join(text.split())
    return printable(text if len(text) <= 60 else f"{text[:57]}...")
