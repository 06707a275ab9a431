"""Curves of the spread of sentence vectors during trainings, drawn with matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kexue_hf.evaluation.reliability_picture import check_picture
from kexue_hf.files.whole_file import whole_binary_file

# name of the figure -> title of its plot
_PLOTS = {
    "spread": "spread (1: all directions, 0: one point)",
    "projection_spread": "spread of the projections",
    "effective_rank": "effective rank",
    "mean_cosine": "mean cosine of different texts",
    "alignment": "alignment (lower: equal meanings closer)",
    "uniformity": "uniformity (lower: more uniform)",
}


def draw_collapse(
    histories: Sequence[Mapping[str, float]] | Mapping[str, Sequence[Mapping[str, float]]],
    path: str | Path,
    figures: Sequence[str] | None = None,
) -> None:
    """Draw one plot per figure against the step, with one curve per run, completely or not at all.

    Args:
        histories: `CollapseMonitor.history` of a run, or those of several runs by name.
        path: .png, .svg or .pdf; an existing file is replaced.
        figures: names of the figures to draw; by default all that the runs have.

    Raises:
        InputError: matplotlib is missing.
        OutputError: the name has another ending, or the file cannot be written.
    """
    check_picture(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    runs = histories if isinstance(histories, Mapping) else {"": histories}
    if figures is None:
        figures = [name for name in _PLOTS if any(name in line for history in runs.values() for line in history)]
    suffix = Path(path).suffix.lower().removeprefix(".")
    # The salt makes the file reproducible.
    with rc_context({"svg.hashsalt": "kexue", "font.size": 8}):
        figure: Any = Figure(figsize=(2.7 * len(figures) + 0.3, 2.6), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(figures), squeeze=False)[0], figures, strict=True):
            for run, history in runs.items():
                lines = [line for line in history if name in line]
                axes.plot([line["step"] for line in lines], [line[name] for line in lines], label=run, linewidth=1.2)
            axes.set_title(_PLOTS.get(name, name), fontsize=8)
            axes.set_xlabel("step")
            axes.spines[["top", "right"]].set_visible(False)
            if name in ("spread", "projection_spread", "effective_rank"):
                axes.set_ylim(bottom=0)
        if len(runs) > 1:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(runs), 4), frameon=False)
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
        with whole_binary_file(path, overwrite=True) as file:
            figure.savefig(file, format=suffix, dpi=130, metadata=metadata)


__all__ = ["draw_collapse"]
