"""`kexue-hf correct`: spelling correction of Chinese texts.

A file of any size is read in pieces of a bounded number of lines and characters; output line n is input line n's. A
file of corrected texts (.txt) has every character of the lines that was not corrected; only what ended them is \\n now
and a byte order mark is gone.
"""

import collections
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue_hf.cli.options import AsJson, BatchTokens, Device, Dtype, Method, Overwrite
from kexue_hf.cli.text_io import (
    input_form,
    objects_of,
    places_and_lines,
    readable_errors,
    note_if_empty,
    text_sink,
    texts_per_chunk,
    with_progress,
)
from kexue_hf.corpora.text_files import form_of
from kexue_hf.errors import InputError
from kexue_hf.files.whole_file import whole_file

# What ends a line of a file; other characters at which `str.splitlines` would split belong to the text.
_LINE_BREAK = re.compile("\r?\n")
# The default is said where it was chosen: kexue_hf/pipelines/text_correction.py, which loads torch.
_THRESHOLD = typer.Option(
    help="Take a candidate whose gain, log p(candidate) - log p(original) - its cost, is more; higher changes less.",
    show_default="that of kexue_hf.Corrector",
)


# Of a file to calibrate on; more say no more, and take their time.
_MOST_TEXTS, _MOST_CHARACTERS = 5000, 200_000


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("correct")(correct_command)


def correct_command(
    model: Annotated[str, typer.Argument(help="A T-TA, BERT, WoBERT, ...: a folder, or a name on the Hub.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to correct.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts to correct: a line each in .txt, `text` of each row in .jsonl, .csv, .tsv (all perhaps .gz); "
            "- for lines from stdin.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="A file to make: JSON lines with every correction (positions count characters, from 0; in a terminal "
            "from 1), or, if it ends in .txt, the corrected texts, a line each: line breaks within a text become "
            "spaces, lines end in \\n, a byte order mark is dropped.",
            show_default="stdout",
        ),
    ] = None,
    candidates: Annotated[
        str,
        typer.Option(
            help="confusion (what sounds or looks alike), some of sound, near_sound and shape with + between, top_k "
            "(anything), or a file of your own: text, tab, candidates."
        ),
    ] = "confusion",
    threshold: Annotated[float | None, _THRESHOLD] = None,
    protect: Annotated[
        Path | None,
        typer.Option(
            help="Names and words that are never changed, a line each. Numbers, letters and the model's user words "
            "never are.",
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(help="How often a text is read; what was changed stays.")] = 1,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="FILE holds texts that are mostly right, some hundreds: find the threshold at which corrections of "
            "MODEL are worth having, and keep it in MODEL's config.json.",
        ),
    ] = False,
    precision: Annotated[
        float, typer.Option(help="With --calibrate: the share of corrections that must be right.")
    ] = 0.7,
    evaluate: Annotated[
        bool,
        typer.Option("--evaluate", help="FILE has `source` and `target`: print precision, recall and F1 as SIGHAN's."),
    ] = False,
    as_json: AsJson = False,
    method: Method = "auto",
    text_column: Annotated[
        str | None,
        typer.Option(help="Where the text is, in all but .txt files.", show_default="text; source to evaluate"),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = 8192,
    overwrite: Overwrite = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")] = False,
) -> None:
    """Replace characters that their context finds improbable by such as sound or look alike and fit."""
    if (not texts) == (file is None):
        raise InputError("give either texts or --file FILE (--file - reads stdin)")
    if text_column is not None and file is None:
        raise InputError("--text-column without --file has no effect; leave it out")
    if evaluate and (file is None or form_of(file) not in (".jsonl", ".csv", ".tsv")):
        raise InputError("--evaluate needs --file with a .jsonl, .csv or .tsv of `source` and `target`")
    if calibrate and (file is None or evaluate or output is not None or threshold is not None):
        raise InputError("--calibrate needs --file, and no --evaluate, --output or --threshold")
    if as_json and not (evaluate or calibrate):
        raise InputError("--json without --evaluate or --calibrate has no effect; leave it out")
    targets: collections.deque[str] = collections.deque()
    rows = texts or _rows(file, text_column, targets if evaluate else None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        sink = stack.enter_context(text_sink(output, overwrite))

        from kexue_hf.cli.model_loading import load_masked_lm, quiet_libraries
        from kexue_hf.evaluation.correction import CorrectionMetrics
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
        show = _form(output, evaluate, None if file is None else str(file))
        metrics = CorrectionMetrics()
        number = changed = places = 0
        results = corrector.stream(rows, texts_at_once=texts_per_chunk(network, method))
        for number, found in enumerate(with_progress(results, len(texts) if texts else None, quiet, network), 1):
            changed += bool(found.corrections)
            places += len(found.corrections)
            if evaluate:
                metrics.add(found.text, targets.popleft(), found.corrected)
            sink.write(show(number, found.to_dict()))
        if evaluate and not number:
            # Here, where no OUTPUT has been made.
            raise InputError(f"{file} holds no rows to evaluate on; expected source and target a line")
    if file is not None:
        note_if_empty(number, "texts", [file], quiet)
    if evaluate:
        _print_metrics(metrics.to_dict(), as_json)
    elif file is not None and number and not quiet:
        print(f"{places} corrections in {changed} of {number} texts", file=sys.stderr)


def _words(file: Path) -> list[str]:
    return [line.strip() for _, line in places_and_lines(file) if line.strip()]


def _calibrate(corrector: Any, model: str, texts: Iterable[str], precision: float, as_json: bool, quiet: bool) -> None:
    """Print what was found, and keep it in the configuration of a folder."""
    from kexue_hf.evaluation.correction_calibration import calibrate_correction

    sample, characters = [], 0
    for text in texts:
        if text.strip():
            sample.append(text)
            characters += len(text)
        if len(sample) >= _MOST_TEXTS or characters >= _MOST_CHARACTERS:
            break
    found = calibrate_correction(corrector, sample, precision=precision, progress=not quiet and sys.stderr.isatty())
    if not as_json:
        typer.echo(
            f"threshold {found.threshold}: {found.precision:.0%} of the corrections right, {found.recall:.0%} of the "
            f"errors put right, {found.changed:.1%} of the right texts changed (an error in {found.error_rate:.0%} of "
            f"{found.texts} texts)"
            if found.threshold is not None
            else f"no threshold: at best {found.precision:.0%} of the corrections are right; this model is too weak"
        )
    else:
        typer.echo(json.dumps(found.to_dict()))
    folder = Path(model)
    if folder.is_dir() and not (folder / "config.json").is_symlink():
        path = folder / "config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        with whole_file(path, overwrite=True) as written:
            written.write(json.dumps({**settings, "correction": found.to_dict()}, indent=2, sort_keys=True) + "\n")
        kept = f"kept in {path}"
    else:
        kept = "not kept, since it is no folder of yours: pass it as --threshold"
    if not quiet:
        print(kept, file=sys.stderr)


def _rows(file: Path | None, column: str | None, targets: collections.deque[str] | None) -> Iterable[str]:
    """The texts; what is wrong with the file's name is said at once. What they should be goes into `targets`."""
    assert file is not None  # correct_command has looked
    form = input_form(file, (".txt", ".jsonl", ".csv", ".tsv"), column)
    column = column or ("text" if targets is None else "source")
    return (line for _, line in places_and_lines(file)) if form == ".txt" else _objects(file, column, targets)


def _objects(file: Path, column: str, targets: collections.deque[str] | None) -> Iterator[str]:
    from kexue_hf.corpora.text_files import text_of

    for place, row in objects_of(file):
        if row is None:
            if targets is not None:
                targets.append("")
            yield ""
        else:
            text = text_of(row, column, place)
            if targets is not None:
                if "target" not in row:
                    raise InputError(f"{place}: has no column 'target', which --evaluate compares with")
                target = text_of(row, "target", place)
                if len(target) != len(text):
                    raise InputError(f"{place}: {column} has {len(text)} characters, target {len(target)}")
                targets.append(target)
            yield text


def _form(output: Path | None, evaluate: bool, file: str | None) -> Callable[[int, dict[str, Any]], str]:
    """What is written of a result, by its number from 1."""
    if output is not None and output.suffix == ".txt":
        # One line a text, also if the text came with line breaks of its own.
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
