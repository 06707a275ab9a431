"""Convert a trained encoder to linear attention and recover its quality.

    python examples/recover_performer.py --model all-MiniLM-L6-v2 --file corpus.jsonl --output recovered \\
        --picture recovery.svg --report recovery.json

The recovery has two steps. Attention transfer trains feature maps, layer by layer, to reproduce softmax attention
(Hedgehog, arXiv 2402.04347; LoLCATs, arXiv 2410.10254). A short distillation then trains the maps and low-rank
adapters against the whole softmax model, and merges the adapters (needs peft: pip install 'kexue-hf[recovery]').

--file is .jsonl, .csv, .tsv, .txt or .parquet, one passage per row. Duplicates are removed and a part is held out, on
which all printed figures are measured: the cosine between the mean-pooled vectors of the new and the softmax model,
the rank correlation of the similarities of pairs, and the masked-word loss if the model has a head for it.

The output folder has ordinary weights and a model card with the figures; it loads wherever kexue_hf is imported. It is
written completely or not at all, and a stopped run cannot be resumed. After --minutes, no further training step
begins; the measurements take additional time.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)
from transformers.utils.logging import disable_progress_bar

import kexue_hf
from kexue_hf.conversion.staged_folder import check_output, staged_folder
from kexue_hf.corpora.text_files import read_texts
from kexue_hf.errors import InputError, KexueError
from kexue_hf.files.hub_names import check_model_name
from kexue_hf.files.whole_file import whole_binary_file, whole_file
from kexue_hf.hub.card_callback import ModelCardCallback
from kexue_hf.hub.card_completion import write_card
from kexue_hf.hub.model_facts import PERFORMER
from kexue_hf.hub.recovery_sections import recovery_sections
from kexue_hf.performer.attention_modules import refuse_several_tasks, row_length
from kexue_hf.performer.distillation import collator, has_masked_head
from kexue_hf.performer.recovery_figures import HeldOut
from kexue_hf.pipelines.text_windows import frame_of, window_capacity
from kexue_hf.trainers.checked_options import one_line_errors

KINDS = {
    "ForMaskedLM": AutoModelForMaskedLM,
    "ForPreTraining": AutoModelForPreTraining,
    "ForCausalLM": AutoModelForCausalLM,
    "LMHeadModel": AutoModelForCausalLM,
    "ForQuestionAnswering": AutoModelForQuestionAnswering,
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
    "Model": AutoModel,
}
# One text in ten is held out.
HELD_OUT_SHARE = 10
MAX_HELD_OUT = 128
# A few hundred steps need fewer texts. At most twice this number is in memory.
MAX_TEXTS = 20_000


class Format(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the description, and shows defaults except None and False."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False) else super()._get_help_string(action)


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__, formatter_class=Format)
    add = result.add_argument
    add("--model", required=True, help="folder or Hub name of an encoder")
    add(
        "--file",
        required=True,
        nargs="+",
        help=".jsonl, .json, .csv, .tsv, .txt or .parquet files, optionally .gz; one passage per row",
    )
    add("--text-column", default="text", help="column of the texts")
    add("--output", required=True, help="folder to write; it must not exist")
    add("--feature-map", default="learned", help="learned; or low_order, favor+, favor++ (only calibrated)")
    add("--features", type=int, default=256, help="maximum number of features per head")
    add("--layers", help="layers to convert, such as 1,2,3; all if omitted")
    add("--transfer-steps", type=int, default=400, help="steps of attention transfer")
    add("--finetune-steps", type=int, default=200, help="steps of distillation; 0: no distillation")
    add(
        "--rank",
        default="16",
        help="rank of the adapters; 0: train only the maps; all: train all weights without adapters",
    )
    add("--batch-size", type=int, default=8, help="texts per batch")
    add("--accumulate", type=int, default=1, help="batches per step of distillation")
    add("--max-length", type=int, help="tokens per text; longer texts are truncated; default: at most 256")
    add("--minutes", type=float, help="time limit for both trainings together")
    add("--seed", type=int, default=0, help="seed of the order of texts, masks and adapters")
    add("--report", help="write the figures to this JSON file")
    add("--picture", help="draw the curves to this .svg or .png file (needs matplotlib)")
    add("--resume", action="store_true", help="not supported: a stopped recovery leaves nothing to resume")
    add("--quiet", action="store_true", help="show no progress")
    return result


def split(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Split texts into training and held-out texts.

    The split depends on a hash of each text, so no text is in both parts. Duplicates are removed. If there are more
    than `MAX_TEXTS` texts, those with the smallest hashes are used.

    Raises:
        InputError: there are fewer than two different texts.
    """
    by_hash: dict[bytes, str] = {}
    for text in texts:
        words = " ".join(text.split()).lower()
        if words:
            by_hash[hashlib.sha256(words.encode()).digest()] = text
        if len(by_hash) >= 2 * MAX_TEXTS:
            by_hash = dict(sorted(by_hash.items())[:MAX_TEXTS])
    if len(by_hash) < 2:
        raise InputError(f"expected at least two different texts, one of them held out, got {len(by_hash)}")
    order = sorted(by_hash)[:MAX_TEXTS]
    number = min(MAX_HELD_OUT, max(1, len(order) // HELD_OUT_SHARE))
    return [by_hash[key] for key in order[number:]], [by_hash[key] for key in order[:number]]


def load(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the model with feature maps, and the tokenizer; set `options.max_length` if it was omitted.

    Raises:
        InputError: model or tokenizer cannot be loaded, or the model cannot be converted.
    """
    layers = None
    if options.layers is not None:
        try:
            layers = [int(layer) for layer in options.layers.split(",")]
        except ValueError:
            raise InputError(f"--layers must be numbers separated by commas, got {options.layers!r}") from None
    check_model_name(options.model)
    with one_line_errors(options.model):
        config = AutoConfig.from_pretrained(options.model)
        name = (config.architectures or ["Model"])[0]
        kind = auto_class_of(name)
        if kind is None:
            raise InputError(
                f"{options.model}: expected one of *{', *'.join(KINDS)}, got a {name}, which would lose its head"
            )
        changes = {}
        if config.model_type == kexue_hf.PerformerBertConfig.model_type:
            changes = {"feature_map": options.feature_map, "num_features": options.features, "linear_layers": layers}
        model = kind.from_pretrained(options.model, dtype="float32", **changes)
        refuse_several_tasks(model)
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        if not changes:
            kexue_hf.use_performer(
                model, options.feature_map, num_features=options.features, layers=layers, seed=options.seed
            )
        # transformers creates a tokenizer without words if the folder has none.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise InputError(
                f"{options.model}: expected a tokenizer with words, got one without: save one in this folder"
            )
        if tokenizer.pad_token is None:
            raise InputError(f"{options.model}: expected a tokenizer with a padding token, got one without: add one")
        if options.max_length is None:
            options.max_length = row_length(model, tokenizer)
        if config.model_type != kexue_hf.PerformerBertConfig.model_type:
            window_capacity(model, tokenizer, frame_of(tokenizer), options.max_length)
    return model.eval(), tokenizer


def auto_class_of(name: str) -> Any:
    """Return the auto class that loads models of the named class; None for other classes."""
    return next((KINDS[ending] for ending in KINDS if name.endswith(ending)), None)


def check(options: argparse.Namespace) -> int | None:
    """Check the options before anything is loaded; return the rank of the adapters."""
    if options.resume:
        raise InputError("--resume is not supported, a stopped recovery leaves nothing to resume: leave it out")
    if not options.rank.isdigit() and options.rank != "all":
        raise InputError(f"--rank must be a number or all, got {options.rank!r}")
    minimums = {
        "features": 1,
        "transfer_steps": 0,
        "finetune_steps": 0,
        "batch_size": 1,
        "accumulate": 1,
        "max_length": 3,
    }
    for name, minimum in minimums.items():
        if getattr(options, name) is not None and getattr(options, name) < minimum:
            raise InputError(f"--{name.replace('_', '-')} must be at least {minimum}, got {getattr(options, name)}")
    if options.minutes is not None and not options.minutes > 0:
        raise InputError(f"--minutes must be a positive number, got {options.minutes}")
    if options.finetune_steps and options.rank not in ("0", "all") and find_spec("peft") is None:
        raise InputError(
            "adapters need the package peft: pip install 'kexue-hf[recovery]'; or use --rank 0 to train only the "
            "maps, or --rank all to train all weights"
        )
    if options.finetune_steps and options.rank == "0" and options.feature_map != "learned":
        raise InputError(
            f"--rank 0 trains only the maps, and {options.feature_map} has no weights: use --feature-map learned"
        )
    check_output(options.output, overwrite=False)
    for name in ("report", "picture"):
        path = getattr(options, name)
        if path is not None and Path(path).exists():
            raise InputError(f"--{name} must be a new file, {path} exists: use another name")
        if path is not None and next(place for place in Path(path).absolute().parents if place.exists()).is_file():
            raise InputError(f"--{name} must be in a folder, {path} is in a file: use another name")
    if options.picture is not None:
        if Path(options.picture).suffix not in (".svg", ".png"):
            raise InputError(f"--picture must end in .svg or .png, got {options.picture!r}")
        try:
            import matplotlib  # noqa: F401  # checks that it is installed
        except ImportError:
            raise InputError("--picture needs the package matplotlib: pip install matplotlib") from None
    return None if options.rank == "all" else int(options.rank)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Recover the model, save it, and return the figures."""
    if options.quiet:
        disable_progress_bar()
    rank = check(options)
    texts, held_out = split(read_texts(options.file, options.text_column))
    model, tokenizer = load(options)
    # A Performer BERT is measured with linear attention at every length, and saved with its own switch length.
    switch = getattr(model.config, "attention_switch_length", None)
    if switch is not None:
        model.config.attention_switch_length = None
    torch.manual_seed(options.seed)
    masked = has_masked_head(model) and tokenizer.mask_token_id is not None
    measure = HeldOut(model, tokenizer, held_out, options.max_length, masked)
    report: dict[str, Any] = {"texts": len(texts), "held_out_texts": len(held_out), "max_length": options.max_length}
    if masked:
        report["softmax"] = {"masked_word_loss": measure.softmax_loss}
    stages = report["stages"] = {"swapped": measure(model)}
    show("swapped", stages)
    with one_line_errors("calibration"):
        kexue_hf.calibrate_performer(model, texts[:32], tokenizer, max_length=options.max_length)
    stages["calibrated"] = measure(model)
    show("calibrated", stages)
    distils = options.finetune_steps > 0
    minutes = options.minutes
    if options.feature_map == "learned" and options.transfer_steps:
        result = kexue_hf.transfer_attention(
            model, texts, tokenizer, held_out=held_out[:16], steps=options.transfer_steps,
            batch_size=options.batch_size, max_length=options.max_length, new_start=False,
            minutes=minutes / 2 if distils and minutes else minutes,
            collate=collator(model, tokenizer), seed=options.seed, quiet=options.quiet,
        )  # fmt: skip
        report["transfer"] = {
            "layers": result.layers,
            "maps": result.kinds,
            "curve": [{"step": step, "errors": errors} for step, errors in result.curve],
        }
        stages["transferred"] = measure(model)
        show("transferred", stages)
        minutes = minutes / 2 if minutes else None
    if distils:
        model, curve = kexue_hf.distil_performer(
            model, texts, tokenizer, steps=options.finetune_steps, rank=rank, batch_size=options.batch_size,
            accumulate=options.accumulate, max_length=options.max_length, evaluate=measure,
            minutes=minutes, seed=options.seed, quiet=options.quiet,
        )  # fmt: skip
        report["distillation"] = curve
        stages["distilled"] = measure(model.eval())
        show("distilled", stages)
    if switch is not None:
        model.config.attention_switch_length = switch
    with staged_folder(options.output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        name, source = (Path(place).absolute().name for place in (options.output, options.model))
        summary, sections = recovery_sections(
            name, source, auto_class_of(type(model).__name__).__name__, options.feature_map, report
        )
        card = ModelCardCallback(options.model, options.file, script="recover_performer", post=PERFORMER)
        facts = card.facts(Path(options.output), model, tokenizer)
        facts = replace(
            facts,
            tags=(*facts.tags, "performer", "linear-attention"),
            summary=summary,
            sections={**facts.sections, **sections},
        )
        write_card(Path(folder), facts)
    if options.report is not None:
        with whole_file(options.report) as file:
            json.dump(report, file, indent=1)
            file.write("\n")
    if options.picture is not None:
        draw(report, options.picture)
    print(f"saved to {options.output}")
    return report


def show(name: str, stages: dict[str, dict[str, float]]) -> None:
    print(f"{name}: " + ", ".join(f"{figure} {value:.4f}" for figure, value in stages[name].items()), flush=True)


def draw(report: dict[str, Any], path: str) -> None:
    """Draw the curves: errors of the layers in transfer, loss and cosine in distillation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = [name for name in ("transfer", "distillation") if name in report]
    figure, axes = pyplot.subplots(1, max(1, len(parts)), figsize=(5.5 * max(1, len(parts)), 4), squeeze=False)
    for axis, part in zip(axes[0], parts, strict=False):
        if part == "transfer":
            curve = report[part]["curve"]
            for layer in range(len(report[part]["layers"])):
                steps, errors = [point["step"] for point in curve], [point["errors"][layer] for point in curve]
                axis.plot(steps, errors, label=f"layer {layer}")
            axis.set(title="attention transfer", xlabel="steps", ylabel="relative error of a layer, held out")
            axis.set_ylim(bottom=0)
        else:
            for name, label in (("loss", "loss, training"), ("cosine", "cosine, held out")):
                points = [(point["step"], point[name]) for point in report[part] if name in point]
                if points:
                    axis.plot(*zip(*points, strict=True), label=label)
            axis.set(title="distillation", xlabel="steps")
        axis.legend()
    figure.tight_layout()
    with whole_binary_file(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:], bbox_inches="tight")
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    try:
        run(options)
    except KexueError as error:
        print(f"recover_performer: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nrecover_performer: interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
