"""What the commands share that read texts by the line and write a result for each: input, errors, output, progress.

A line is always read whole, however long it is.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from kexue_hf.errors import InputError, KexueError, OutputError, printable

_TEXTS_AT_ONCE = 1024
# Where each token takes a pass, so few texts fill the batches as well, and their results come sooner.
_TEXTS_MASKED_AT_ONCE = 128
# Seconds.
_BAR_AFTER, _BAR_EVERY = 2.0, 0.5


@contextlib.contextmanager
def readable_errors(output: Path | None) -> Iterator[None]:
    """What the functions raise as ValueError, a lack of memory and Ctrl-C, as one line each."""
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
        # torch has several classes for it, by device and version.
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            if "--resume" in str(error):
                raise InputError(
                    "not enough memory; the results so far are kept: run the command again with --resume when there "
                    "is more, or without it and with a lower --batch-tokens to begin anew"
                ) from error
            raise InputError("not enough memory; lower --batch-tokens") from error
        raise


def rows_of(
    file: Path, column: str | None = None, forms: Sequence[str] = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
) -> Iterable[str]:
    """The texts of a file, or of stdin's lines (-), the empty ones too: row n is text n.

    Args:
        column: where they are in .jsonl and .parquet; None for `text`.
        forms: those that are taken.

    Raises:
        InputError: at once for what is wrong with the file's name, or for a column where there are none; with the line
            for what is wrong in it.
    """
    form = input_form(file, forms, column)
    if form == ".parquet":
        from kexue_hf.corpora.text_files import read_texts

        return read_texts([file], column or "text")
    if form != ".txt":
        return _texts_of(file, column or "text")
    return (line for _, line in places_and_lines(file))


def input_form(file: Path, forms: Sequence[str], column: str | None = None) -> str:
    """Which of the forms the file is of, by its name; stdin, and a name without ending, is `.txt`.

    Raises:
        InputError: there is no such file, its form is another one, or a column is named and it has none.
    """
    form = ".txt" if str(file) == "-" else _form_of_file(file, forms)
    if column is not None and form == ".txt":
        raise InputError(f"--text-column has no effect on lines of text, which {_shown(file)} holds; leave it out")
    return form


def _form_of_file(file: Path, forms: Sequence[str]) -> str:
    from kexue_hf.corpora.text_files import form_of

    if not file.exists():
        raise InputError(f"{file} does not exist")
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a file")
    form = form_of(file) or ".txt"
    if form not in forms:
        hint = "an object a line, as .jsonl" if form == ".json" else f"{', '.join(forms)} (text perhaps .gz)"
        raise InputError(f"{file}: expected {hint}, got {form}; for its lines of text: --file - < FILE")
    return form


def places_and_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Where each line stands (file and line, from 1) and what stands in it; of stdin for -."""
    from kexue_hf.corpora.text_files import read_lines

    opened = sys.stdin.buffer if str(file) == "-" else None
    for number, line in read_lines(_shown(file), opened):
        yield f"{_shown(file)}, line {number}", line


def objects_of(file: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a .csv or .tsv, or the JSON of each line of another file, with their places; None of empty lines."""
    from kexue_hf.corpora.text_files import TABLES, form_of, read_objects

    if form_of(file) in TABLES:
        yield from read_objects(file)
        return
    for place, line in places_and_lines(file):
        yield place, parsed(line, place) if line.strip() else None


def _texts_of(file: Path, column: str) -> Iterator[str]:
    from kexue_hf.corpora.text_files import text_of

    for place, row in objects_of(file):
        yield "" if row is None else text_of(row, column, place)


def _shown(file: Path) -> str:
    return "stdin" if str(file) == "-" else str(file)


@contextlib.contextmanager
def text_sink(output: Path | None, overwrite: bool, endings: Sequence[str] = (".jsonl", ".txt")) -> Iterator[TextIO]:
    """Where the results go: stdout (also for -), or a file that appears once it is complete.

    Args:
        endings: a file's name may have these, or none: what stands in the file is to be what its name says.

    Raises:
        OutputError: it has another ending, or cannot be written.
    """
    if output is None or str(output) == "-":
        # Lines of JSON are UTF-8, whatever the locale of whoever redirects them; a terminal shows what it can.
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
    """As `text_sink`, but a file is one of [`ResumableResults`], for a result of each row.

    Args:
        resume: go on with what an interrupted run of the same `facts` left.
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
    pieces: Callable[[Iterable[Any]], Iterator[list[Any]]],
    quiet: bool,
    **form: Any,
) -> Iterable[Any]:
    """The rows that have no result in the sink yet, see `ResumableResults.rest`.

    Args:
        loaded: the model and its tokenizer, which are to be those of the interrupted run.
    """
    from kexue_hf.files.resumable_results import ResumableResults

    if not isinstance(sink, ResumableResults):
        return rows
    sink.depend_on(_facts_of_loaded(*loaded))
    rest = sink.rest(rows, pieces, **form)
    if sink.resumed and not quiet:
        print(f"{sink.rows:,} rows have their results already", file=sys.stderr)
    return rest


def facts_of(command: str, model: str, **options: Any) -> dict[str, Any]:
    """What the results of a command depend on apart from its rows: the model's files, options, versions."""
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
    """What a loader may read, in subfolders too, not what is hidden, such as the results that are being written."""
    from kexue_hf.files.regular_file import READ

    files = (path for path in folder.rglob("*") if path.name.endswith(READ) and path.is_file())
    return sorted(path for path in files if not any(part[0] == "." for part in path.relative_to(folder).parts))


def _facts_of_loaded(model: Any, tokenizer: Any) -> dict[str, Any]:
    """What `auto`, a name on the Hub and this machine have come to: where and in which type a model computes, its
    commit, and what cuts words."""
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
        raise OutputError(
            f"{output}: {output.suffix} is not written here, only {' or '.join(endings)}; name another file"
        )


def parsed(line: str, place: str) -> Any:
    """A line's JSON.

    Raises:
        InputError: it is none; `place` says where.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not JSON ({error})") from None


def say_if_empty(rows: int, what: str, files: Iterable[Path], quiet: bool) -> None:
    """Say so where there was nothing to read, which is no error: an empty file has an empty result."""
    if not rows and not quiet:
        print(f"{' and '.join(map(_shown, files))} holds no {what}: the result is empty", file=sys.stderr)


def texts_of_a_window(model: Any, method: str) -> int:
    """How many texts are read ahead and sorted by length, by the method of a masked language model.

    Raises:
        ValueError: the model has no such method.
    """
    from kexue_hf.pipelines.leave_one_out import chosen_method

    return _TEXTS_AT_ONCE if chosen_method(model, method) == "one_pass" else _TEXTS_MASKED_AT_ONCE


def with_progress(results: Iterable[Any], total: int | None, quiet: bool, model: Any = None) -> Iterable[Any]:
    """The results, with a bar on stderr where somebody sees it and it takes a while.

    Args:
        model: what makes the results, many at a time: the bar counts its batches too. It is gone while results are
            shown, which may be on the same terminal.
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
    # Drawn by `tick` only.
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
    """As much of a text as a table has room for."""
    text = " ".join(text.split())
    return printable(text if len(text) <= 60 else f"{text[:57]}...")
