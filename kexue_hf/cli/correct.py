"""`kexue-hf correct`: spelling correction of Chinese texts.

A file of any size is read in chunks of a bounded number of lines and characters. Output line n is the result of input
line n. A .txt of corrected texts keeps every character that was not corrected, except that lines end in \\n and a byte
order mark is dropped.
"""

import collections
import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue_hf.cli.error_messages import readable_errors
from kexue_hf.cli.options import BatchTokens, Device, Dtype, Method, NoProgress, Overwrite
from kexue_hf.cli.result_output import counted, print_summary, text_sink, with_progress
from kexue_hf.cli.text_input import input_suffix, note_if_empty, places_and_lines, places_and_rows, texts_per_chunk
from kexue_hf.corpora.text_files import suffix_of
from kexue_hf.errors import InputError
from kexue_hf.files.whole_file import whole_file

# Other characters at which `str.splitlines` splits belong to the text.
_LINE_BREAK = re.compile("\r?\n")
# The value stands in kexue_hf/pipelines/text_correction.py, which imports torch.
_THRESHOLD = typer.Option(
    help="Minimum gain, log p(candidate) - log p(original) - cost, of a correction. A higher value changes less.",
    show_default="that of kexue_hf.Corrector",
)
# Calibration reads no more of a file: more texts take longer and tell no more.
_MAX_TEXTS, _MAX_CHARACTERS = 5000, 200_000


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("correct")(correct_command)


def correct_command(
    model: Annotated[str, typer.Argument(help="A T-TA, BERT, WoBERT, ...: a folder, or a name on the Hub.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to correct.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts to correct: lines of .txt, or `text` of each row of .jsonl, .csv, .tsv (all optionally .gz); "
            "- for lines of stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write: NAME.txt for corrected texts, one per line (line breaks in a text become spaces); "
            "another name for JSON lines with every correction. Positions count characters, from 0 in JSON, from 1 "
            "in a terminal.",
            show_default="stdout",
        ),
    ] = None,
    candidates: Annotated[
        str,
        typer.Option(
            help="confusion (similar sound or shape); or sound, near_sound and shape, joined by +; or top_k (any "
            "character); or a file with lines of text, tab, candidates."
        ),
    ] = "confusion",
    threshold: Annotated[float | None, _THRESHOLD] = None,
    protect: Annotated[
        Path | None,
        typer.Option(
            help="File of names and words never to change, one per line. Numbers, letters and the model's user words "
            "are never changed anyway.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="Passes over each text; each starts from the corrected text.")] = 1,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Find the lowest threshold with the required precision, and store it in MODEL's config.json. FILE "
            "holds a few hundred mostly correct texts.",
        ),
    ] = False,
    precision: Annotated[
        float, typer.Option(help="With --calibrate: required share of right corrections, between 0 and 1.")
    ] = 0.7,
    evaluate: Annotated[
        bool,
        typer.Option(
            "--evaluate", help="Print SIGHAN's precision, recall and F1 on FILE, which has `source` and `target`."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --evaluate or --calibrate: print the figures as JSON.")
    ] = False,
    method: Method = "auto",
    text_column: Annotated[
        str | None,
        typer.Option(help="Column of the text, in all formats but .txt.", show_default="text; source with --evaluate"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = None,
    overwrite: Overwrite = False,
    quiet: NoProgress = False,
) -> None:
    """Correct Chinese spelling: replace characters that are improbable in context by similar ones that fit."""
    started = time.perf_counter()
    if (not texts) == (file is None):
        raise InputError("expected either texts or --file FILE (--file - reads stdin)")
    if text_column is not None and file is None:
        raise InputError("--text-column without --file has no effect; leave it out")
    if evaluate and (file is None or suffix_of(file) not in (".jsonl", ".csv", ".tsv")):
        raise InputError("--evaluate needs --file with a .jsonl, .csv or .tsv of `source` and `target`")
    if calibrate and (file is None or evaluate or output is not None or threshold is not None):
        raise InputError("--calibrate needs --file, and excludes --evaluate, --output and --threshold")
    if as_json and not (evaluate or calibrate):
        raise InputError("--json without --evaluate or --calibrate has no effect; leave it out")
    targets: collections.deque[str] = collections.deque()
    rows = texts or _rows(file, text_column, targets if evaluate else None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        sink = stack.enter_context(text_sink(output, overwrite))

        from kexue_hf.batch.model_loading import load_masked_lm
        from kexue_hf.evaluation.correction import CorrectionMetrics
        from kexue_hf.files.quiet_loading import quiet_libraries
        from kexue_hf.pipelines.text_correction import Corrector

        network, tokenizer = load_masked_lm(model, device, dtype)
        stack.enter_context(quiet_libraries())
        corrector = Corrector(
            network,
            tokenizer,
            candidates=candidates,
            threshold=0.0 if calibrate else threshold,
            protect=() if protect is None else _words(protect),
            rounds=rounds,
            method=method,
            batch_tokens=batch_tokens,
        )
        if calibrate:
            _calibrate(corrector, model, rows, precision, as_json, quiet)
            return
        to_text = _formatter(output, evaluate, None if file is None else str(file))
        metrics = CorrectionMetrics()
        number = changed = corrections = 0
        has_text = False
        results = corrector.stream(rows, texts_at_once=texts_per_chunk(network, method))
        for number, found in enumerate(with_progress(results, len(texts) if texts else None, quiet, network), 1):
            has_text = has_text or bool(found.text.strip())
            changed += bool(found.corrections)
            corrections += len(found.corrections)
            if evaluate:
                metrics.add(found.text, targets.popleft(), found.corrected)
            sink.write(to_text(number, found.to_dict()))
        if evaluate and not has_text:
            # Inside the block, so that no empty OUTPUT is created.
            raise InputError(f"{file} has no rows to evaluate; expected source and target in each line")
    if file is not None:
        note_if_empty(number, "texts", [file], quiet)
    if evaluate:
        _print_metrics(metrics.to_dict(), as_json)
    summary = f"{counted(corrections, 'corrections')} in {changed:,} of {counted(number, 'texts')}"
    if number and output is not None and str(output) != "-":
        print_summary(summary, output, started, quiet)
    elif file is not None and number and not quiet and not evaluate:
        print(summary, file=sys.stderr)


def _words(file: Path) -> list[str]:
    return [line.strip() for _, line in places_and_lines(file) if line.strip()]


def _calibrate(corrector: Any, model: str, texts: Iterable[str], precision: float, as_json: bool, quiet: bool) -> None:
    """Calibrate, print the result, and store it in the config.json of a model folder."""
    from kexue_hf.evaluation.correction_calibration import calibrate_correction

    sample, characters = [], 0
    for text in texts:
        if text.strip():
            sample.append(text)
            characters += len(text)
        if len(sample) >= _MAX_TEXTS or characters >= _MAX_CHARACTERS:
            break
    found = calibrate_correction(corrector, sample, precision=precision, progress=not quiet and sys.stderr.isatty())
    if not as_json:
        typer.echo(
            f"threshold {found.threshold}: precision {found.precision:.0%}, recall {found.recall:.0%}, "
            f"{found.changed:.1%} of the correct texts changed (on {found.texts} texts, assuming an error in "
            f"{found.error_rate:.0%} of them)"
            if found.threshold is not None
            else f"no threshold: the precision reaches {found.precision:.0%} at best; this model is too weak"
        )
    else:
        typer.echo(json.dumps(found.to_dict()))
    folder = Path(model)
    if folder.is_dir() and not (folder / "config.json").is_symlink():
        path = folder / "config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        with whole_file(path, overwrite=True) as written:
            written.write(json.dumps({**settings, "correction": found.to_dict()}, indent=2, sort_keys=True) + "\n")
        note = f"stored in {path}"
    else:
        note = "not stored, because MODEL is not a local folder: pass the value as --threshold"
    if not quiet:
        print(note, file=sys.stderr)


def _rows(file: Path | None, column: str | None, targets: collections.deque[str] | None) -> Iterable[str]:
    """Return the texts, and append their targets to `targets`. A wrong file name fails immediately."""
    assert file is not None  # checked in correct_command
    suffix = input_suffix(file, (".txt", ".jsonl", ".csv", ".tsv"), column)
    column = column or ("text" if targets is None else "source")
    return (line for _, line in places_and_lines(file)) if suffix == ".txt" else _objects(file, column, targets)


def _objects(file: Path, column: str, targets: collections.deque[str] | None) -> Iterator[str]:
    from kexue_hf.corpora.text_files import text_of

    for place, row in places_and_rows(file):
        if row is None:
            if targets is not None:
                targets.append("")
            yield ""
        else:
            text = text_of(row, column, place)
            if targets is not None:
                if "target" not in row:
                    raise InputError(f"{place}: no column 'target', which --evaluate needs")
                target = text_of(row, "target", place)
                if len(target) != len(text):
                    raise InputError(f"{place}: {column} has {len(text)} characters, target {len(target)}")
                targets.append(target)
            yield text


def _formatter(output: Path | None, evaluate: bool, file: str | None) -> Callable[[int, dict[str, Any]], str]:
    """Return the function that converts a result and its number, from 1, to the text to write."""
    if output is not None and output.suffix == ".txt":
        # One line per text, even if the text contains line breaks.
        return lambda number, result: _LINE_BREAK.sub(_spaces, result["corrected"]) + "\n"
    if output is None and evaluate:
        return lambda number, result: ""
    if output is None and sys.stdout.isatty():
        from kexue_hf.evaluation.correction_report import correction_report

        name = "stdin" if file == "-" else file
        return lambda number, result: correction_report(result, None if name is None else f"{name}, line {number}")
    return lambda number, result: json.dumps(result, ensure_ascii=False) + "\n"


def _spaces(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _print_metrics(found: dict[str, Any], as_json: bool) -> None:
    if not as_json:
        from kexue_hf.evaluation.correction_report import metrics_report

        typer.echo(metrics_report(found), nl=False)
    else:
        typer.echo(json.dumps(found))
