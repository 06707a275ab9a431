"""Reliability diagrams of a matcher, drawn with matplotlib.

For each task: the share of matches against the predicted probability, and below it the histograms of the probabilities
of matching pairs and of other pairs.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError, OutputError
from kexue_hf.evaluation.matching import SCORE_BINS, Reliability
from kexue_hf.evaluation.picture_fonts import fonts_for
from kexue_hf.files.whole_file import whole_binary_file

_SUFFIXES = ("png", "svg", "pdf")
_MATCHING, _OTHERS = "tab:blue", "tab:orange"
# Longer task names do not fit above a plot.
_LONGEST_NAME = 22


def check_picture(path: str | Path, *, overwrite: bool = True) -> None:
    """Raise the errors that `draw_reliability` would raise, before anything is computed.

    Raises:
        InputError: matplotlib is missing.
        OutputError: the name does not end in .png, .svg or .pdf, or the file exists and must not be replaced.
    """
    if _suffix(path) not in _SUFFIXES:
        raise OutputError(f"{path}: expected a name that ends in .{', .'.join(_SUFFIXES)}")
    if Path(path).exists() and not (overwrite and Path(path).is_file()):
        raise OutputError(f"{path} exists; name another file, or pass --overwrite")
    if next(place for place in Path(path).absolute().parents if place.exists()).is_file():
        raise OutputError(f"{path}: its parent is a file, not a folder; name another path")
    if find_spec("matplotlib") is None:
        raise InputError("a picture needs matplotlib, which is not installed: pip install matplotlib")


def draw_reliability(tasks: Mapping[str, Reliability], path: str | Path, *, overwrite: bool = True) -> None:
    """Write the picture, completely or not at all, in the format of its name: .png, .svg or .pdf.

    The bars are 95 % confidence intervals of the share of matches (Wilson's). If no installed font has all characters
    of the task names, an .svg stores text, to be drawn with the viewer's fonts; other formats number the tasks.

    Raises:
        InputError: matplotlib is missing.
        OutputError: the name does not end in .png, .svg or .pdf, or the file cannot be written.
    """
    check_picture(path, overwrite=overwrite)
    # pyplot would look for a screen and keep every figure in memory.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    suffix = _suffix(path)
    names = [_short(name) for name in tasks]
    fonts, legible = fonts_for(names)
    # The salt makes the file reproducible; letters as paths look the same everywhere.
    style: Any = {"svg.hashsalt": "kexue", "svg.fonttype": "path" if legible else "none", "font.size": 8}
    if legible or suffix != "svg":
        style["font.family"] = fonts
    if not legible and suffix != "svg":
        names = [f"task {number} of {len(names)}" for number in range(1, len(names) + 1)]
    columns = len(names) if len(names) < 4 else 2 if len(names) == 4 else 3
    rows = -(-len(names) // columns)
    with rc_context(style):
        height = 0.6 + 3.7 * rows
        figure: Any = Figure(figsize=(0.7 + 2.9 * columns, height))
        # An automatic layout would measure the names in a font that may lack their characters.
        outer = figure.add_gridspec(
            rows,
            columns,
            left=0.62 / figure.get_figwidth(),
            right=1 - 0.12 / figure.get_figwidth(),
            bottom=0.72 / height,
            top=1 - 0.42 / height,
            hspace=0.3,
            wspace=0.16,
        )
        for number, (name, found) in enumerate(zip(names, tasks.values(), strict=True)):
            inner = outer[divmod(number, columns)].subgridspec(2, 1, height_ratios=(2.4, 1), hspace=0.1)
            curve = figure.add_subplot(inner[0])
            scores = figure.add_subplot(inner[1], sharex=curve)
            _curve(curve, found)
            _scores(scores, found)
            curve.set_title(_facts(found), fontsize=7)
            # Not in the title: its lines would be aligned by the name's measured width, which may be wrong.
            # Dollar signs in names do not start formulas.
            above: dict[str, Any] = {"xytext": (0, 15), "textcoords": "offset points", "ha": "center"}
            curve.annotate(name, (0.5, 1), xycoords="axes fraction", fontsize=9, parse_math=False, **above)
            if number % columns:
                curve.set_yticklabels([])
            else:
                curve.set_ylabel("share of matches")
                scores.set_ylabel("pairs, %")
            if number + columns >= len(names):
                scores.set_xlabel("predicted probability of a match")
        labels = ["pairs that match", "pairs that do not"]
        figure.legend(scores.patches, labels, loc="lower center", ncols=2, frameon=False)
        with whole_binary_file(path, overwrite=overwrite) as file:
            dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
            _save(figure, file, suffix, dates.get(suffix))


def _save(figure: Any, file: Any, suffix: str, metadata: dict[str, None] | None) -> None:
    import warnings

    with warnings.catch_warnings():
        if suffix == "svg":
            # matplotlib measures the names in a font that lacks them; the measurements are not used.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format=suffix, dpi=130, metadata=metadata)


def _facts(found: Reliability) -> str:
    share = f"{found.matches / found.pairs:.0%}"
    return f"{found.pairs:,} pairs, {share} match; calibration error {found.calibration_error:.3f}"


def _curve(axes: Any, found: Reliability) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--")
    points = [
        (probability, share, *_interval(share, pairs))
        for probability, share, pairs in zip(found.probabilities, found.shares, found.bins, strict=True)
        if probability is not None and share is not None
    ]
    across, shares, low, high = zip(*points, strict=True)
    axes.vlines(across, low, high, color="0.55", linewidth=1)
    axes.plot(across, shares, color="black", marker="o", markersize=3.5, linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    ticks = [place / 5 for place in range(6)]
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.tick_params(labelbottom=False)
    axes.spines[["top", "right"]].set_visible(False)


def _scores(axes: Any, found: Reliability) -> None:
    """Draw one histogram per label, each as a percentage, because one label is usually much more frequent."""
    edges = [place / SCORE_BINS for place in range(SCORE_BINS + 1)]
    for counts, colour in ((found.matching_scores, _MATCHING), (found.other_scores, _OTHERS)):
        total = max(1, sum(counts))
        axes.stairs([100 * count / total for count in counts], edges, fill=True, color=colour, alpha=0.55)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _interval(share: float, pairs: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share of `pairs`."""
    middle = (share + z**2 / (2 * pairs)) / (1 + z**2 / pairs)
    half = z / (1 + z**2 / pairs) * (share * (1 - share) / pairs + z**2 / (4 * pairs**2)) ** 0.5
    return middle - half, middle + half


def _suffix(path: str | Path) -> str:
    return Path(path).suffix.lower().removeprefix(".")


def _short(name: str) -> str:
    name = "".join(character if character.isprintable() else " " for character in name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


__all__ = ["check_picture", "draw_reliability"]
