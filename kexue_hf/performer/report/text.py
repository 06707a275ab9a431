"""Format a report on linear attention as text for a terminal."""

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kexue_hf.performer.report.report import PerformerReport
    from kexue_hf.performer.report.speed import AttentionSpeed

# Line width, and the columns of variants in order.
_WIDTH = 110
_MAPS = ("mean of v", "uncalibrated", "calibrated", "as saved")


def report_text(report: "PerformerReport") -> str:
    """Return the whole report, with lines of about 110 characters at most."""
    parts = [_head(report), _layers(report), _worst(report), _output(report)]
    if report.speed is not None:
        parts.append(speed_text(report.speed))
    parts.append(textwrap.fill(f"Verdict: {report.verdict.upper()}. {report.advice}", _WIDTH))
    return "\n\n".join(part for part in parts if part)


def _head(report: "PerformerReport") -> str:
    pieces = f"{report.pieces_found:,} piece{'s' * (report.pieces_found != 1)} of up to {report.max_length} tokens"
    calibrated = ""
    if report.pieces_calibrated:
        calibrated = f"calibrated on {report.pieces_calibrated}, "
    return (
        f"{report.model}: {len(report.layers)} attention layers, {report.heads} heads of {report.head_dim}"
        f"{', causal' if report.causal else ''}; map {report.feature_map}, {report.num_features} features\n"
        f"text: {pieces}; {calibrated}measured on {report.pieces_measured}"
        f"{' other' + 's' * (report.pieces_measured != 1) if calibrated else ''} ({report.tokens_measured:,} tokens)"
    )


def _layers(report: "PerformerReport") -> str:
    names = [name for name in _MAPS if any(name in layer.errors for layer in report.layers)]
    title = "error of the layer alone"
    # Few columns are widened, to fit their common title.
    least = max(9, -(-(len(title) + 4) // len(names)) - 2)
    widths = [max(least, len(name)) for name in names]
    own = sum(widths) + 2 * len(widths)
    lines = [
        f"{'':<7}{'standard deviation':^26}{'attends to':>11}{title:^{own}}  {'hidden states':>13}",
        f"{'layer':<7}{'q':>8}{'k':>8}{'logits':>10}{'% of keys':>11}"
        + "".join(f"  {name:>{width}}" for name, width in zip(names, widths, strict=True))
        + f"  {'all linear':>13}  verdict",
    ]
    for layer in report.layers:
        errors = (f"  {_figure(layer.errors.get(name)):>{width}}" for name, width in zip(names, widths, strict=True))
        lines.append(
            f"{layer.number:<7}{layer.query_std:>8.2f}{layer.key_std:>8.2f}{layer.logit_std:>10.2f}"
            f"{100 * layer.attended:>11.1f}{''.join(errors)}"
            f"  {_figure(layer.hidden_errors.get(report.judged)):>13}  {layer.verdict}"
        )
    lines.append(
        "Errors are relative L2, 0 is softmax itself; a larger error than the mean of v is worse than no attention.\n"
        f"The verdict is on {report.judged!r}: a layer is fine up to {report.linear_error:g}."
    )
    return "\n".join(lines)


def _worst(report: "PerformerReport") -> str:
    shown = ", ".join(f"{layer}.{head} ({_figure(error)})" for layer, head, error in report.worst_heads())
    return f"Farthest heads, layer.head (error {report.judged}): {shown}" if shown else ""


def _output(report: "PerformerReport") -> str:
    lines = [f"{'output of the model, compared with softmax:':<50}{'cosine':>8}{'least':>8}{'states':>8}"]
    if report.loss_kind is not None:
        lines[0] += f"{report.loss_kind + ' loss':>18}"
        lines.append(f"{'  softmax':<50}{1:>8.3f}{1:>8.3f}{0:>8.3f}{_figure(report.softmax_loss):>18}")
    linear = [layer.number for layer in report.layers if layer.errors]
    whole = "all layers" if len(linear) == len(report.layers) else f"layers {ranges(linear)}"
    for name, found in report.outputs.items():
        what = f"{whole} linear, {name}" if name in _MAPS[1:] else f"{whole}, {name}"
        if name not in _MAPS:
            several = "s" * (len(report.suggested_layers) > 1)
            what = f"layer{several} {ranges(report.suggested_layers)} linear, {report.judged}"
        line = f"  {what:<48}{found.cosine:>8.3f}{found.least_cosine:>8.3f}{_figure(found.hidden_error):>8}"
        lines.append(line + (f"{_figure(found.loss):>18}" if report.loss_kind is not None else ""))
    if math.isfinite(report.cosine_between):
        lines.append(
            "cosine, least: mean-pooled vector against softmax's, mean and minimum over the pieces; softmax's vectors "
            f"of\ndifferent pieces have a mean cosine of {report.cosine_between:.3f}. states: relative error of the "
            "last hidden states."
        )
    if report.loss_kind is not None:
        lines.append(f"{report.loss_kind} loss: nats per word.")
    return "\n".join(lines)


def speed_text(speed: "AttentionSpeed") -> str:
    """Format the times by length, and the length from which linear attention is faster."""
    _, heads, head_dim = speed.shape
    threads = f", {speed.threads} threads" if speed.device == "cpu" else ""
    lines = [
        f"speed of one layer's attention here, one text, in milliseconds ({speed.device}{threads}, {speed.dtype}, "
        f"{heads} heads of {head_dim}):",
        f"{'tokens':>8}{'softmax':>12}{'linear':>12}{'times faster':>14}",
    ]
    for found in speed.lengths:
        ratio = "-" if found.ratio is None else f"{found.ratio:.2f}"
        lines.append(
            f"{found.length:>8,}{_milliseconds(found.softmax):>12}{_milliseconds(found.linear):>12}{ratio:>14}"
        )
    if speed.crossover is None:
        lines.append("Linear attention is not faster at any of these lengths.")
    elif speed.crossover <= speed.lengths[0].length:
        lines.append(f"Linear attention is faster from {speed.lengths[0].length:,} tokens on, or from fewer.")
    else:
        lines.append(f"Linear attention is faster from about {round(speed.crossover, -1):,.0f} tokens on.")
    if speed.device == "cpu" and speed.dtype not in ("float32", "float64"):
        lines[-1] += (
            f" That is in {speed.dtype},\nin which softmax may be several times slower on a CPU than in float32: "
            "compare with --dtype float32."
        )
    return "\n".join(lines)


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.1e}"


def ranges(numbers: Sequence[int]) -> str:
    """Format numbers as ranges: "0-2, 5" for [0, 1, 2, 5]."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return ", ".join(f"{group[0]}-{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups)


__all__ = ["report_text", "speed_text"]
