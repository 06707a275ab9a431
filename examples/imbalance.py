"""Compare the losses for uneven classes on your data: one encoder, the same rows and steps, several seeds.

    python examples/imbalance.py --model kexue-demo/wobert-tiny --train_file train.jsonl --eval_file dev.jsonl \
        --output_dir imbalance --seeds 3 --learning_rate 1e-3 --num_train_epochs 3

Prints accuracy, balanced accuracy, macro-F1 and the recall of the worst class on the held-out rows, and draws them to
OUTPUT/imbalance.svg (needs matplotlib). examples/finetune_classification.py trains each model and takes the same
options. The models are not kept.
"""

import contextlib
import copy
import dataclasses
import io
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from transformers import TrainingArguments

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples import finetune_classification
from kexue_hf.errors import InputError
from kexue_hf.files.whole_file import whole_binary_file
from kexue_hf.trainers.checked_options import check_range
from kexue_hf.trainers.training_script import leave_process_group, run_script, write_report

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "worst_recall")
# A linear classifier's logits are no cosines, for which LDAM's scale is 30.
CONTENDERS = (
    "cross_entropy",
    "cross_entropy weight=sqrt_inverse",
    "cross_entropy weight=inverse",
    "focal",
    "truncated",
    "dice",
    "smooth_f1",
    "ldam scale=1",
    "logit_adjusted",
)


@dataclass
class Options(finetune_classification.Options):
    losses: list[str] | None = field(
        default=None, metadata={"help": 'losses to compare, each with its options: "focal gamma=1"; default: all'}
    )
    seeds: int = field(default=3, metadata={"help": "number of trainings of each loss; --seed is the first seed"})


def compare(options: Options, arguments: TrainingArguments) -> dict[str, dict[str, list[float]]]:
    """Train and evaluate each loss with each seed; return loss -> figure -> one value for each seed.

    Raises:
        InputError: an option is wrong, or there are no held-out rows.
    """
    check_range({"seeds": options.seeds}, 1)
    if options.eval_file is None:
        raise InputError("--eval_file is missing: the losses are compared on held-out rows")
    found: dict[str, dict[str, list[float]]] = {}
    for contender in options.losses or CONTENDERS:
        name, *chosen = contender.split()
        values: dict[str, list[float]] = {figure: [] for figure in FIGURES}
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                here = dataclasses.replace(options, loss=name, loss_option=chosen or None, report=None)
                training = copy.copy(arguments)
                training.output_dir, training.seed = folder, arguments.seed + seed
                figures = finetune_classification.run(here, training)
            for figure in FIGURES:
                values[figure].append(round(figures[figure], 4))
        found[contender] = values
        print(f"{contender:36} " + "  ".join(f"{figure} {shown(values[figure])}" for figure in FIGURES), flush=True)
    return found


def shown(values: list[float]) -> str:
    """Return 100 x the mean and the standard deviation over the seeds."""
    spread = f" ± {100 * statistics.stdev(values):4.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):5.1f}{spread}"


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw each figure of each loss, with a dot for each seed."""
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "kexue"
    figure, axes = pyplot.subplots(1, len(FIGURES), figsize=(11, 0.6 + 0.32 * len(found)), sharey=True)
    for axis, name in zip(axes, FIGURES, strict=True):
        for place, (contender, values) in enumerate(found.items()):
            numbers = [100 * value for value in values[name]]
            color = "black" if contender == "cross_entropy" else "tab:blue"
            axis.plot(numbers, [place] * len(numbers), "o", color=color, alpha=0.4, markersize=4)
            axis.plot(statistics.mean(numbers), place, "|", color=color, markersize=14, markeredgewidth=2)
        if "cross_entropy" in found:
            axis.axvline(100 * statistics.mean(found["cross_entropy"][name]), color="black", linewidth=0.5)
        axis.set(title=name.replace("_", " "), yticks=range(len(found)), yticklabels=list(found))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    figure.tight_layout()
    with whole_binary_file(path, overwrite=True) as file:
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


def run(options: Options, arguments: TrainingArguments) -> dict[str, dict[str, list[float]]]:
    """Compare the losses, draw the figures, and write the report."""
    found = compare(options, arguments)
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    draw(found, folder / "imbalance.svg")
    print(f"drawn to {folder / 'imbalance.svg'}")
    write_report(options.report, found)
    return found


def main(arguments: list[str] | None = None) -> None:
    run_script("imbalance", __doc__, Options, run, arguments)


if __name__ == "__main__":
    main()
    leave_process_group()
