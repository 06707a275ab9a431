"""`kexue-hf score`: log-probabilities of texts, or n-best lists reranked by them.

A file of any size is read in chunks of a bounded number of lines and characters (at least one line). Output line n is
the result of input line n.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue_hf.cli.error_messages import readable_errors
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
from kexue_hf.cli.result_output import counted, one_line, print_summary, results_sink, unfinished_rows, with_progress
from kexue_hf.cli.run_facts import resume_facts
from kexue_hf.cli.text_input import input_suffix, input_texts, note_if_empty, places_and_lines, texts_per_chunk
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
            help="Texts to score: lines of .txt, or `text` of each row of .jsonl, .csv, .tsv (all optionally .gz) or "
            ".parquet; - for lines of stdin.",
            show_default=False,
        ),
    ] = None,
    output: ResultFile = None,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens",
            help="Also show each token's log-probability and its character range [start, end), counted from 0.",
        ),
    ] = False,
    nbest: Annotated[
        bool,
        typer.Option(
            "--nbest",
            help='Rank candidates: each line is {"candidates": [...], "scores": [...]} (scores are optional). TEXTS '
            "are the candidates of one list. `place` in a result is the candidate's input position, from 0.",
        ),
    ] = False,
    weight: Annotated[
        float | None,
        typer.Option(help="With --nbest: weight of the model against the scores, 0 to 1.", show_default="0.5"),
    ] = None,
    length_normalized: Annotated[
        bool,
        typer.Option("--length-normalized", help="With --nbest: use the mean log-probability per token, not the sum."),
    ] = False,
    method: Method = "auto",
    include_specials: Annotated[
        bool,
        typer.Option("--include-specials", help="Also score special tokens such as [SOS], as the original T-TA does."),
    ] = False,
    text_column: TextColumn = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: BatchTokens = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    quiet: NoProgress = False,
) -> None:
    """Score texts by the log-probability of each token given all others."""
    started = time.perf_counter()
    if (not texts) == (file is None):
        raise InputError("expected either texts or --file FILE (--file - reads stdin)")
    without_effect = {
        "--weight without --nbest": weight is not None and not nbest,
        "--length-normalized without --nbest": length_normalized and not nbest,
        "--tokens with --nbest": tokens and nbest,
        "--text-column with --nbest": text_column is not None and nbest,
        "--text-column without --file": text_column is not None and file is None,
    }
    for options_given, given in without_effect.items():
        if given:
            raise InputError(f"{options_given} has no effect; leave it out")
    rows = _rows(texts, file, text_column, nbest)
    facts = resume_facts(
        "score", model, tokens=tokens, nbest=nbest, weight=weight, length_normalized=length_normalized, method=method,
        include_specials=include_specials, device=device, dtype=dtype, batch_tokens=batch_tokens,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.enter_context(readable_errors(output))
        sink = stack.enter_context(results_sink(output, overwrite, resume, facts))

        from kexue_hf.batch.model_loading import load_masked_lm
        from kexue_hf.files.quiet_loading import quiet_libraries

        network, tokenizer = load_masked_lm(model, device, dtype)
        options: dict[str, Any] = {
            "method": method,
            "include_specials": include_specials,
            "batch_tokens": batch_tokens,
        }
        stack.enter_context(quiet_libraries())
        results: Iterator[dict[str, Any]]
        texts_at_once = texts_per_chunk(network, method)
        split = _list_chunks if nbest else partial(_chunks, texts_at_once)
        rows = unfinished_rows(rows, sink, (network, tokenizer), split, quiet)
        done = getattr(sink, "rows", 0)
        if nbest:
            options |= {"weight": 0.5 if weight is None else weight, "length_normalized": length_normalized}
            results = _rank(network, tokenizer, rows, done, options)
        else:
            options |= {"texts_at_once": texts_at_once, "texts_done": done}
            results = _score(network, tokenizer, rows, options, tokens)
        to_text = _table(nbest) if sink is sys.stdout and sink.isatty() else _json
        for result in with_progress(results, len(texts) if texts and not nbest else None, quiet, network):
            sink.write(to_text(result))
            done += 1
    if file is not None:
        note_if_empty(done, "candidates" if nbest else "texts", [file], quiet)
    if done:
        print_summary(counted(done, "lists" if nbest else "texts"), output, started, quiet)


def _score(
    model: Any, tokenizer: Any, texts: Iterable[str], options: dict[str, Any], tokens: bool
) -> Iterator[dict[str, Any]]:
    from kexue_hf.pipelines.text_scoring import score_stream

    for score in score_stream(model, tokenizer, texts, **options):
        yield score.to_dict(tokens=tokens)


def _chunks(texts_at_once: int, texts: Iterable[str]) -> Iterator[list[str]]:
    """Split the texts as `score_stream` splits them."""
    from kexue_hf.pipelines.chunks import MAX_CHARACTERS, chunks

    return chunks(texts, texts_at_once, MAX_CHARACTERS)


def _list_chunks(lists: Iterable[Any], done: int = 0) -> Iterator[list[Any]]:
    from kexue_hf.pipelines.chunks import chunks

    def size(row: tuple[list[str], Any]) -> int:
        return sum(len(text) + 1 for text in row[0])

    return chunks(lists, _LISTS_AT_ONCE, _CHARACTERS_AT_ONCE, size, done)


def _rank(
    model: Any, tokenizer: Any, lists: Iterable[Any], done: int, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    import dataclasses

    from kexue_hf.generation.reranking import rerank_lists

    for chunk in _list_chunks(lists, done):
        for ranked in rerank_lists(model, tokenizer, chunk, **options):
            yield {"candidates": [dataclasses.asdict(candidate) for candidate in ranked]}


def _rows(texts: list[str] | None, file: Path | None, column: str | None, nbest: bool) -> Iterable[Any]:
    """Return texts, or with `nbest` pairs (candidates, scores or None). A wrong file name fails immediately."""
    if texts:
        return [(texts, None)] if nbest else texts
    assert file is not None  # checked in score_command
    if not nbest:
        return input_texts(file, column)
    input_suffix(file, (".jsonl", ".txt"))
    return (_list_of(line, place) for place, line in places_and_lines(file))


def _list_of(line: str, place: str) -> tuple[list[str], list[float] | None]:
    from kexue_hf.corpora.text_files import parse_json_line, text_of
    from kexue_hf.generation.reranking import check_list

    row = parse_json_line(line, place) if line.strip() else {"candidates": []}
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
    # JSON has no infinity, which the perplexity of an almost impossible text can reach.
    if isinstance(result.get("perplexity"), float) and not math.isfinite(result["perplexity"]):
        result = {**result, "perplexity": None}
    return json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n"


def _table(nbest: bool) -> Callable[[dict[str, Any]], str]:
    """Return a function that formats a result as table rows; its first call adds the header."""
    head = (
        f"{'total':>10} {'log_prob':>10} {'score':>10}  text\n"
        if nbest
        else f"{'log_prob':>10} {'perplexity':>11} {'tokens':>6}  text\n"
    )

    def to_rows(result: dict[str, Any]) -> str:
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

    return to_rows


def _figure(value: float | None, width: int) -> str:
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:>{width}.2f}" if abs(value) < 1e6 else f"{value:>{width}.2e}"
