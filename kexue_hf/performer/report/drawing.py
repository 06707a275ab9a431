"""Draw a report on linear attention with matplotlib."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kexue_hf.errors import InputError, OutputError
from kexue_hf.evaluation.picture_fonts import fonts_for
from kexue_hf.files.whole_file import whole_binary_file

if TYPE_CHECKING:
    from kexue_hf.performer.report.report import PerformerReport

_COLOURS = {
    "mean of v": "0.6",
    "uncalibrated": "tab:orange",
    "calibrated": "tab:blue",
    "as saved": "tab:blue",
    "suggested": "tab:green",
}
_SUFFIXES = ("png", "svg", "pdf")
# Larger errors are drawn at this height: twice the size of the exact result.
_LARGEST = 2.0


def draw_report(report: "PerformerReport", path: str | Path, *, overwrite: bool = True) -> None:
    """Write the picture atomically, in the format of the file name's suffix.

    Raises:
        InputError: matplotlib is missing.
        OutputError: the suffix is unknown, or the file cannot be written.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in _SUFFIXES:
        raise OutputError(f"{path}: expected a file name that ends in .{', .'.join(_SUFFIXES)}")
    try:
        # Without pyplot, which would look for a display and keep every figure.
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("a picture needs matplotlib, which is not installed: pip install matplotlib") from error
    # A fixed salt makes equal figures give equal files.
    style: Any = {"svg.hashsalt": "kexue", "font.size": 9, "font.family": fonts_for([report.model])[0]}
    with rc_context(style):
        figure = Figure(figsize=(11, 7.4), layout="constrained")
        panels: Any = figure.subplots(2, 3)
        _layer_errors(panels[0][0], report)
        _hidden_errors(panels[0][1], report)
        _heads(figure, panels[0][2], report)
        _peakedness(panels[1][0], report)
        _outputs(panels[1][1], report)
        _speed(panels[1][2], report)
        colour = {"fine as it is": "tab:green", "recover it": "tab:orange", "do not": "tab:red"}[report.verdict]
        figure.suptitle(
            f"{report.model}, {report.feature_map} with {report.num_features} features: {report.verdict}",
            color=colour,
            fontweight="bold",
        )
        with whole_binary_file(path, overwrite=overwrite) as file:
            # "tight", since the model's name may be wider than the panels.
            dates: Any = {"Date": None} if suffix == "svg" else None
            figure.savefig(file, format=suffix, dpi=130, bbox_inches="tight", metadata=dates)


def _lines(axes: Any, report: "PerformerReport", errors: str, names: list[str]) -> None:
    for name in names:
        places = [layer.number for layer in report.layers if name in getattr(layer, errors)]
        heights = [min(_LARGEST, _bounded(getattr(layer, errors)[name])) for layer in report.layers if name in
                   getattr(layer, errors)]  # fmt: skip
        style = "--" if name == "mean of v" else "-"
        axes.plot(places, heights, style, marker="o", markersize=4, color=_COLOURS[name], label=name)
    _by_layer(axes, report)
    axes.set_ylim(bottom=0)


def _by_layer(axes: Any, report: "PerformerReport") -> None:
    numbers = [layer.number for layer in report.layers]
    step = max(1, math.ceil(len(numbers) / 12))
    axes.set_xticks(numbers[::step])
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axes.set_xlabel("layer")
    axes.spines[["top", "right"]].set_visible(False)


def _layer_errors(axes: Any, report: "PerformerReport") -> None:
    names = [name for name in _COLOURS if any(name in layer.errors for layer in report.layers)]
    axes.axhspan(0, report.linear_error, color="tab:green", alpha=0.12, linewidth=0)
    _lines(axes, report, "errors", names)
    axes.set_title("error of each layer alone", fontsize=10)
    axes.set_ylabel("relative L2 (green: close enough)")
    axes.legend(frameon=False, fontsize=8)


def _hidden_errors(axes: Any, report: "PerformerReport") -> None:
    names = [name for name in _COLOURS if any(name in layer.hidden_errors for layer in report.layers)]
    if not names:
        return _empty_panel(axes, "hidden states do not\nmatch the attention layers")
    _lines(axes, report, "hidden_errors", names)
    axes.set_title("error of the hidden states, all layers linear", fontsize=10)
    axes.set_ylabel("relative L2")
    return None


def _heads(figure: Any, axes: Any, report: "PerformerReport") -> None:
    nothing = [math.nan] * report.heads
    rows = [layer.head_errors or nothing for layer in report.layers]
    image = axes.imshow(rows, aspect="auto", vmin=0, vmax=1, cmap="RdYlGn_r", interpolation="nearest")
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.set_yticks(range(len(rows)), [str(layer.number) for layer in report.layers])
    if len(rows) * report.heads <= 160:
        for row, errors in enumerate(rows):
            for head, error in enumerate(errors):
                if math.isfinite(error):
                    axes.text(head, row, f"{error:.2f}".lstrip("0"), ha="center", va="center", fontsize=6)
    figure.colorbar(image, ax=axes, extend="max")
    axes.set_title(f"error of each head, {report.judged}", fontsize=10)


def _peakedness(axes: Any, report: "PerformerReport") -> None:
    numbers = [layer.number for layer in report.layers]
    axes.bar(numbers, [100 * layer.attended for layer in report.layers], color="0.85", width=0.7)
    axes.set_ylabel("keys attended to, % (bars)")
    axes.set_title("how peaked the attention is", fontsize=10)
    other = axes.twinx()
    series = {"logits": ("logit_std", "tab:red"), "q": ("query_std", "tab:blue"), "k": ("key_std", "tab:purple")}
    for name, (field, colour) in series.items():
        heights = [getattr(layer, field) for layer in report.layers]
        other.plot(numbers, heights, marker="o", markersize=4, color=colour, label=name)
    other.set_ylim(bottom=0)
    other.set_ylabel("standard deviation (lines)")
    other.legend(frameon=False, fontsize=8)
    _by_layer(axes, report)
    other.spines["top"].set_visible(False)


def _outputs(axes: Any, report: "PerformerReport") -> None:
    names = list(report.outputs)
    heights = [max(0.0, _bounded(report.outputs[name].cosine)) for name in names]
    axes.bar(range(len(names)), heights, color=[_COLOURS[name] for name in names], width=0.6)
    for place, name in enumerate(names):
        found = report.outputs[name]
        note = f"{found.cosine:.3f}"
        if found.loss is not None and report.softmax_loss is not None:
            note += f"\nloss {found.loss - report.softmax_loss:+.2f}"
        axes.annotate(note, (place, heights[place]), (0, 3), textcoords="offset points", ha="center", fontsize=8)
    from kexue_hf.performer.report.text import ranges

    shown = [f"layers {ranges(report.suggested_layers)}" if name == "suggested" else name for name in names]
    axes.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in shown], fontsize=8)
    if math.isfinite(report.cosine_between):
        axes.axhline(report.cosine_between, color="0.3", linestyle=":", linewidth=1, label="softmax, other pieces")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    axes.set_ylim(0, 1.3)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_ylabel("cosine with softmax's vector")
    axes.set_title("the pooled vector", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def _speed(axes: Any, report: "PerformerReport") -> None:
    speed = report.speed
    if speed is None:
        return _empty_panel(axes, "speed was not measured")
    for name, colour in {"softmax": "0.45", "linear": "tab:blue"}.items():
        known = [(found.length, 1000 * getattr(found, name)) for found in speed.lengths if getattr(found, name)]
        axes.plot(*zip(*known, strict=True), marker="o", markersize=4, color=colour, label=name)
    if speed.crossover is not None and speed.crossover > speed.lengths[0].length:
        label = f"the same at {round(speed.crossover, -1):.0f}"
        axes.axvline(speed.crossover, color="tab:green", linestyle="--", linewidth=1, label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = [found.length for found in speed.lengths]
    axes.set_xticks(lengths, [f"{length // 1024}k" if length % 1024 == 0 else str(length) for length in lengths])
    axes.set_xlabel("tokens")
    axes.set_ylabel("ms, one layer's attention")
    axes.set_title("speed on this machine", fontsize=10)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return None


def _empty_panel(axes: Any, why: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, why, ha="center", va="center", color="0.5", transform=axes.transAxes)


def _bounded(value: float) -> float:
    return value if math.isfinite(value) else _LARGEST


__all__ = ["draw_report"]
