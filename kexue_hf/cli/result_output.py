"""The output of the commands that read texts: one result for each row, to stdout or a file, with a progress bar."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from kexue_hf.cli.run_facts import loaded_model_facts
from kexue_hf.errors import InputError, OutputError, printable

_BAR_AFTER, _BAR_EVERY = 2.0, 0.5  # seconds


@contextlib.contextmanager
def text_sink(output: Path | None, overwrite: bool, suffixes: Sequence[str] = (".jsonl", ".txt")) -> Iterator[TextIO]:
    """Open the output: stdout (None or -), or a file that appears once it is complete.

    Args:
        suffixes: the suffixes that the file name may have; a name without a suffix is accepted too.

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
    _check_suffix(output, suffixes)
    from kexue_hf.files.whole_file import whole_file

    with whole_file(output, overwrite=overwrite) as opened:
        yield opened


@contextlib.contextmanager
def results_sink(
    output: Path | None,
    overwrite: bool,
    resume: bool,
    facts: dict[str, Any],
    suffixes: Sequence[str] = (".jsonl",),
) -> Iterator[Any]:
    """Open stdout as `text_sink` does, or a file as `ResumableResults`.

    Args:
        resume: continue an interrupted run with the same `facts`.

    Raises:
        InputError: `resume` without a file.
    """
    if output is None or str(output) == "-":
        if resume:
            raise InputError("--resume without --output FILE has no effect; leave it out")
        with text_sink(output, overwrite, suffixes) as opened:
            yield opened
        return
    _check_suffix(output, suffixes)
    from kexue_hf.files.resumable_results import resumable_results

    with resumable_results(output, facts, overwrite=overwrite, resume=resume) as results:
        yield results


def unfinished_rows(
    rows: Iterable[Any],
    sink: Any,
    loaded: tuple[Any, Any],
    split: Callable[[Iterable[Any]], Iterator[list[Any]]],
    quiet: bool,
    **layout: Any,
) -> Iterable[Any]:
    """Return the rows that have no result in the sink yet, see `ResumableResults.rest`.

    Args:
        loaded: the model and its tokenizer, which must be those of the interrupted run.
        split: splits rows into the chunks that are processed together.
        layout: the `head` and `width` of the file, see `ResumableResults.rest`.
    """
    from kexue_hf.files.resumable_results import ResumableResults

    if not isinstance(sink, ResumableResults):
        return rows
    sink.depend_on(loaded_model_facts(*loaded))
    unfinished = sink.rest(rows, split, **layout)
    if sink.resumed and not quiet:
        print(f"{sink.rows:,} rows already have results", file=sys.stderr)
    return unfinished


def _check_suffix(output: Path, suffixes: Sequence[str]) -> None:
    if output.suffix.lower() not in ("", *suffixes) and not output.is_dir():
        raise OutputError(f"{output}: cannot write {output.suffix}, only {' or '.join(suffixes)}; name another file")


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


def counted(number: int, what: str) -> str:
    """Return a number and its noun, which is given in the plural."""
    return f"{number:,} {what.removesuffix('s') if number == 1 else what}"


def print_summary(content: str, output: Path | None, started: float, quiet: bool) -> None:
    """Print a line on stderr about a result file: its content, the seconds since `started`, its name.

    Args:
        started: value of `time.perf_counter` when the command started.
    """
    if not quiet and output is not None and str(output) != "-":
        print(f"{content} in {time.perf_counter() - started:.2f} s, wrote {output}", file=sys.stderr)


def print_wrote(path: Path, quiet: bool) -> None:
    """Print on stderr that a report or a picture was written."""
    if not quiet:
        print(f"wrote {path}", file=sys.stderr)


def one_line(text: str) -> str:
    """Return a text on one line, shortened to 60 characters."""
    text = " ".join(text.split())
    return printable(text if len(text) <= 60 else f"{text[:57]}...")


__all__ = [
    "counted",
    "one_line",
    "print_summary",
    "print_wrote",
    "results_sink",
    "text_sink",
    "unfinished_rows",
    "with_progress",
]
