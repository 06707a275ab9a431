"""`kexue-hf score`: log-probabilities of texts, or the n best of a recognizer ranked by them.

A file of any size is read in pieces of a bounded number of lines and characters (but always at least one line); output
line n is input line n's.
"""

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue_hf.cli.options import (
    BatchTokens,
    Device,
    Dtype,
    Method,
    NoProgress,
    Overwrite,
    ResultFile,
    Resume,
    TextColumn,
)
from kexue_hf.cli.text_io import (
    facts_of,
    input_form,
    one_line,
    parsed,
    places_and_lines,
    readable_errors,
    rest_of,
    results_sink,
    rows_of,
    say_if_empty,
    texts_of_a_window,
    with_progress,
)
from kexue_hf.errors import InputError

_LISTS_AT_ONCE, _CHARACTERS_AT_ONCE = 64, 1 << 18


def add_commands(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("score")(score_command)


def score_command(
    model: Annotated[str, typer.Argument(help="A T-TA, BERT, WoBERT, ...: a folder, or a name on the Hub.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts to score.", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            help="Texts to score: a line each in .txt, `text` of each row in .jsonl, .csv, .tsv (all perhaps .gz) or "
            ".parquet; - for lines from stdin.",
            show_default=False,
        ),
    ] = None,
    output: ResultFile = None,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens", help="Show every token's log-probability too, and its characters, [start, end) counted from 0."
        ),
    ] = False,
    nbest: Annotated[
        bool,
        typer.Option(
            "--nbest",
            help='Rank candidates: each line is {"candidates": [...], "scores": [...]} (scores may lack); TEXTS are '
            "the candidates of one list. `place` in a result is where a candidate was, counted from 0.",
        ),
    ] = False,
    weight: Annotated[
        float | None, typer.Option(help="--nbest: the model's weight against the scores, 0 to 1.", show_default="0.5")
    ] = None,
    length_normalized: Annotated[
        bool, typer.Option("--length-normalized", help="--nbest: rank by the mean a token, not by the sum.")
    ] = False,
    method: Method = "auto",
    include_specials: Annotated[
        bool, typer.Option("--include-specials", help="Score [SOS], [EOS] and the like too, as T-TA's original does.")
    ] = False,
    text_column: TextColumn = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = 8192,
    overwrite: Overwrite = False,
    resume: Resume = False,
    quiet: NoProgress = False,
) -> None:
    """Score texts by the log-probability of each token given all others."""
    if (not texts) == (file is None):
        raise InputError("give either texts or --file FILE (--file - reads stdin)")
    useless = {
        "--weight without --nbest": weight is not None and not nbest,
        "--length-normalized without --nbest": length_normalized and not nbest,
        "--tokens with --nbest": tokens and nbest,
        "--text-column with --nbest": text_column is not None and nbest,
        "--text-column without --file": text_column is not None and file is None,
    }
    for what, given in useless.items():
        if given:
            raise InputError(f"{what} has no effect; leave it out")
    rows = _rows(texts, file, text_column, nbest)
    facts = facts_of(
        "score", model, tokens=tokens, nbest=nbest, weight=weight, length_normalized=length_normalized, method=method,
        include_specials=include_specials, device=device, dtype=dtype, batch_tokens=batch_tokens,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        sink = stack.enter_context(results_sink(output, overwrite, resume, facts))

        from kexue_hf.cli.model_loading import load_masked_lm, quiet_libraries

        network, tokenizer = load_masked_lm(model, device, dtype)
        options: dict[str, Any] = {
            "method": method,
            "include_specials": include_specials,
            "batch_tokens": batch_tokens,
        }
        stack.enter_context(quiet_libraries())
        results: Iterator[dict[str, Any]]
        texts_at_once = texts_of_a_window(network, method)
        rows = rest_of(
            rows, sink, (network, tokenizer), _list_pieces if nbest else partial(_pieces, texts_at_once), quiet
        )
        done = getattr(sink, "rows", 0)
        if nbest:
            options |= {"weight": 0.5 if weight is None else weight, "length_normalized": length_normalized}
            results = _rank(network, tokenizer, rows, done, options)
        else:
            options |= {"texts_at_once": texts_at_once, "texts_done": done}
            results = _score(network, tokenizer, rows, options, tokens)
        show = _table(nbest) if sink is sys.stdout and sink.isatty() else _json
        for result in with_progress(results, len(texts) if texts and not nbest else None, quiet, network):
            sink.write(show(result))
            done += 1
    if file is not None:
        say_if_empty(done, "candidates" if nbest else "texts", [file], quiet)


def _score(
    model: Any, tokenizer: Any, texts: Iterable[str], options: dict[str, Any], tokens: bool
) -> Iterator[dict[str, Any]]:
    from kexue_hf.pipelines.text_scoring import score_stream

    for score in score_stream(model, tokenizer, texts, **options):
        yield score.to_dict(tokens=tokens)


def _pieces(texts_at_once: int, texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts as `score_stream` takes them together."""
    from kexue_hf.pipelines.chunks import MAX_CHARACTERS, chunks

    return chunks(texts, texts_at_once, MAX_CHARACTERS)


def _list_pieces(lists: Iterable[Any], done: int = 0) -> Iterator[list[Any]]:
    from kexue_hf.pipelines.chunks import chunks

    def size(row: tuple[list[str], Any]) -> int:
        return sum(len(text) + 1 for text in row[0])

    return chunks(lists, _LISTS_AT_ONCE, _CHARACTERS_AT_ONCE, size, done)


def _rank(
    model: Any, tokenizer: Any, lists: Iterable[Any], done: int, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    import dataclasses

    from kexue_hf.generation.reranking import rerank_lists

    for chunk in _list_pieces(lists, done):
        for ranked in rerank_lists(model, tokenizer, chunk, **options):
            yield {"candidates": [dataclasses.asdict(candidate) for candidate in ranked]}


def _rows(texts: list[str] | None, file: Path | None, column: str | None, nbest: bool) -> Iterable[Any]:
    """Texts, or with `nbest` (candidates, scores or None). What is wrong with the file's name is said at once."""
    if texts:
        return [(texts, None)] if nbest else texts
    assert file is not None  # score_command has looked
    if not nbest:
        return rows_of(file, column)
    input_form(file, (".jsonl", ".txt"))
    return (_list_of(line, place) for place, line in places_and_lines(file))


def _list_of(line: str, place: str) -> tuple[list[str], list[float] | None]:
    from kexue_hf.corpora.text_files import text_of
    from kexue_hf.generation.reranking import check_list

    row = parsed(line, place) if line.strip() else {"candidates": []}
    if not isinstance(row, dict) or not isinstance(row.get("candidates"), list):
        raise InputError(f'{place}: expected {{"candidates": [texts], "scores": [numbers]}}')
    candidates, scores = row["candidates"], row.get("scores")
    if not all(isinstance(text, str) for text in candidates) or not isinstance(scores, (list, type(None))):
        raise InputError(f'{place}: expected {{"candidates": [texts], "scores": [numbers]}}')
    for number, text in enumerate(candidates, 1):
        text_of({"candidates": text}, "candidates", f"{place}, candidate {number}")
    try:
        check_list(candidates, scores)
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None
    return candidates, scores


def _json(result: dict[str, Any]) -> str:
    # JSON has no infinity (the perplexity of a text that is next to impossible).
    if isinstance(result.get("perplexity"), float) and not math.isfinite(result["perplexity"]):
        result = {**result, "perplexity": None}
    return json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n"


def _table(nbest: bool) -> Callable[[dict[str, Any]], str]:
    """Lines for people; the first call adds what the columns are."""
    head = (
        f"{'total':>10} {'log_prob':>10} {'score':>10}  text\n"
        if nbest
        else (f"{'log_prob':>10} {'perplexity':>11} {'tokens':>6}  text\n")
    )

    def show(result: dict[str, Any]) -> str:
        nonlocal head
        lines, head = [head], ""
        if nbest:
            for candidate in result["candidates"]:
                figures = (_figure(candidate[name], 10) for name in ("total", "log_prob", "score"))
                lines.append(f"{' '.join(figures)}  {one_line(candidate['text'])}\n")
            return "".join([*lines, "\n" if len(result["candidates"]) else ""])
        notes = [f"{result['num_unknown']} unknown"] if result["num_unknown"] else []
        notes += [f"{result['num_windows']} windows"] if result["num_windows"] > 1 else []
        lines.append(
            f"{_figure(result['log_prob'], 10)} {_figure(result['perplexity'], 11)} {result['num_tokens']:>6}  "
            f"{one_line(result['text'])}{'  (' * bool(notes)}{', '.join(notes)}{')' * bool(notes)}\n"
        )
        for token in result.get("tokens", []):
            lines.append(f"{_figure(token['log_prob'], 10)}  {token['token']}\n")
        return "".join(lines)

    return show


def _figure(value: float | None, width: int) -> str:
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:>{width}.2f}" if abs(value) < 1e6 else f"{value:>{width}.2e}"
