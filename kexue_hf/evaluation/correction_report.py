"""Readable reports: a text with marks under its corrections, and a table of the metrics.

    遇到逆竟时，我们必须勇于面对。
          ^^
     4: 竟 -> 境  91.2 %, was 0.01 % (or 竞 2.1 %, 静 0.8 %)

Widths are in terminal columns, of which a Chinese character takes two. Positions count characters, from 1.
"""

import math
import unicodedata
from collections.abc import Iterator
from typing import Any

# Longer texts are split into lines, of which only those with corrections are shown.
_COLUMNS = 78
_OTHERS_SHOWN = 2
_NOTHING = "nothing to correct"


def correction_report(result: dict[str, Any], place: str | None = None) -> str:
    """Return the report of one text, as lines with their line breaks.

    Args:
        result: the return value of `CorrectedText.to_dict`.
        place: the text's origin, printed on the first line. If it is given, a text without corrections has no report.
    """
    text, corrections = result["text"], result["corrections"]
    if not corrections:
        return "" if place else f"{_visible(text)}  ({_NOTHING})\n"
    lines = [f"{place}\n"] if place else []
    changed = {index for one in corrections for index in range(one["start"], one["end"])}
    for start, end in _line_ranges(text):
        if changed.isdisjoint(range(start, end)):
            continue
        marks = ("^" if index in changed else " " for index in range(start, end))
        widths = map(_width, text[start:end])
        mark_line = "".join(mark * width for mark, width in zip(marks, widths, strict=True))
        lines += [f"{_visible(text[start:end])}\n", f"{mark_line.rstrip()}\n"]
    for one in corrections:
        others = [candidate for candidate in one["candidates"] if candidate["text"] != one["replacement"]]
        shown = ", ".join(f"{other['text']} {_percent(other['probability'])}" for other in others[:_OTHERS_SHOWN])
        after, before = one["candidates"][0]["probability"], math.exp(one["log_prob_original"])
        lines.append(
            f"{one['start'] + 1:>4}: {one['original']} -> {one['replacement']}  {_percent(after)}, "
            f"was {_percent(before)}{f' (or {shown})' if shown else ''}\n"
        )
    return "".join(lines)


def metrics_report(figures: dict[str, Any]) -> str:
    """Return the table of the figures of `CorrectionMetrics.to_dict`."""
    names = {"sentence": "sentences, as SIGHAN", "sentence_strict": "sentences, strict", "character": "characters"}
    lines = [f"{'':<22}{'':<11}{'precision':>10}{'recall':>8}{'F1':>8}   right / proposed / wanted\n"]
    for level, name in names.items():
        for task, score in figures[level].items():
            lines.append(
                f"{name:<22}{task:<11}{score['precision']:>10.3f}{score['recall']:>8.3f}{score['f1']:>8.3f}"
                f"   {score['right']} / {score['proposed']} / {score['wanted']}\n"
            )
            name = ""
    rate = figures["false_positive_rate"]
    alarms = "no sentence is without errors" if rate is None else f"false positive rate {rate:.3f}"
    lines.append(f"{figures['sentences']} sentences, {figures['without_errors']} without errors; {alarms}\n")
    return "".join(lines)


def _line_ranges(text: str) -> Iterator[tuple[int, int]]:
    """Yield [start, end) of consecutive parts of at most 78 columns."""
    start = columns = 0
    for index, char in enumerate(text):
        columns += _width(char)
        if columns > _COLUMNS:
            yield start, index
            start, columns = index, _width(char)
    yield start, len(text)


def _width(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Cf", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _visible(text: str) -> str:
    """Return the text with spaces for control characters and line breaks, which would break the alignment."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in text)


def _percent(probability: float) -> str:
    percent = 100 * probability
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.1g} %" if percent >= 0.001 else "< 0.001 %"


__all__ = ["correction_report", "metrics_report"]
