"""Make all layers of a trained encoder linear: how much do attention transfer and distillation recover?

    python benchmarks/performer_recovery.py --encoder all-MiniLM-L6-v2 --threads 2
    python benchmarks/performer_recovery.py --only masked --masked-lm FOLDER

The text is on every machine: the language's topics (`pydoc_data.topics`) and the docstrings of the standard library,
in passages of about 150 words. Every tenth topic or module is held out; held-out passages that share 13 consecutive
words with the rest are dropped. Figures are of held-out text: the cosine between the mean-pooled vector and the
softmax model's, and Spearman's correlation between both models' similarities of pairs (neighbours, nearest and random
ones). They are measured at 256 tokens, the training length, at 512 tokens, and on licences, another kind of text.

Stages: "low_order" and "low_order, calibrated" for comparison; then the same learned maps "swapped" (random
directions), "calibrated" (centroids of the keys), "transferred" (layers that are closer to softmax with calibrated
low_order use it) and "distilled". --minutes limits the last two together, without evaluation.

Second part: masked language models, the packaged tiny WoBERT and one from a folder, on the packaged samples; figures
are held-out losses of masked tokens. Writes results/performer_recovery.json and docs/performer_recovery.svg.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from drawing import picture_of
from measuring import ROOT, machine, read_result, write_result
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

import kexue_hf
from kexue_hf.performer.distillation import collator
from kexue_hf.performer.recovery_figures import HeldOut

FEATURES, LENGTH, LONGER, BATCH = 256, 256, 512, 4
PASSAGE, LONG_PASSAGE, SHARED_WORDS, HELD_OUT = 150, 340, 13, 10
MEASURED, MEASURED_LONGER, MEASURED_ON_THE_WAY, EVERY = 120, 32, 40, 50
SAMPLES = ROOT / "kexue_hf" / "assets" / "samples"
MASKED_LENGTH, CHARACTERS = 128, 110
PARTS = ("encoder", "masked")


def passages(text: str, words: int) -> Iterator[str]:
    """Return paragraphs joined to passages of this many words."""
    kept: list[str] = []
    count = 0
    for paragraph in re.split(r"\n\s*\n", text):
        size = len(paragraph.split())
        if kept and count + size > words:
            yield "\n\n".join(kept)
            kept, count = [], 0
        kept.append(paragraph.strip())
        count += size
    yield "\n\n".join(kept)


def documents() -> Iterator[tuple[str, str]]:
    """Return topics and modules of the standard library, by name."""
    from pydoc_data.topics import topics

    yield from sorted(topics.items())
    folder = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if any(part in ("site-packages", "test", "tests", "idlelib", "pydoc_data") for part in name.split("/")):
            continue
        try:
            tree = ast.parse(path.read_text("utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
        yield name, "\n\n".join(text for text in found if len(text) > 80)


def runs_of_words(text: str) -> set[str]:
    words = re.sub(r"\W+", " ", text).lower().split()
    return {" ".join(words[i : i + SHARED_WORDS]) for i in range(max(1, len(words) - SHARED_WORDS + 1))}


def english() -> tuple[list[str], list[str], list[str]]:
    """Return passages to train on, held-out ones, and longer held-out ones."""
    train: dict[str, str] = {}
    held_out: list[str] = []
    longer: list[str] = []
    for name, text in documents():
        if int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT:
            train.update((" ".join(t.split()).lower(), t) for t in passages(text, PASSAGE) if len(t) > 200)
        else:
            held_out += [t for t in passages(text, PASSAGE) if len(t) > 200]
            longer += [t for t in passages(text, LONG_PASSAGE) if len(t.split()) > LONG_PASSAGE / 2]
    known: set[str] = set().union(*map(runs_of_words, train))
    held_out, longer = ([t for t in some if not runs_of_words(t) & known] for some in (held_out, longer))
    # Evenly spaced, so that neighbours share a topic.
    step = max(1, len(held_out) // MEASURED)
    kept = [t for i, t in enumerate(held_out) if i // 2 % step == 0][:MEASURED]
    return list(train.values()), kept, longer[:: max(1, len(longer) // MEASURED_LONGER)][:MEASURED_LONGER]


def licences() -> list[str]:
    text = "\n\n".join((ROOT / name).read_text("utf-8") for name in ("LICENSE", "LICENSE-UNICODE"))
    return [t for t in passages(text, PASSAGE) if len(t) > 200]


class Stages:
    """Measures a model on several held-out sets after each stage."""

    def __init__(self, sets: dict[str, HeldOut], found: dict[str, Any]) -> None:
        self.sets, self.found = sets, found

    def __call__(self, name: str, model: Any) -> None:
        self.found[name] = {kind: rounded(measure(model)) for kind, measure in self.sets.items()}
        print(name, self.found[name], flush=True)


def rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def recover(
    model: Any,
    tokenizer: Any,
    texts: list[str],
    few: HeldOut,
    stages: Stages,
    options: argparse.Namespace,
    length: int,
    minutes: float,
) -> dict[str, Any]:
    """Transfer and distil a model with learned maps; return the costs and the curves."""
    found: dict[str, Any] = {}
    stages("swapped", model)
    kexue_hf.calibrate_performer(model, texts[:: max(1, len(texts) // 32)][:32], tokenizer, max_length=length)
    stages("calibrated", model)
    began, spent = time.perf_counter(), time.process_time()
    result = kexue_hf.transfer_attention(
        model, texts, tokenizer, held_out=few.texts[:16], steps=options.transfer_steps, batch_size=BATCH,
        max_length=length, new_start=False, minutes=minutes * 0.4, collate=collator(model, tokenizer),
        evaluate_every=EVERY, quiet=options.quiet,
    )  # fmt: skip
    found["transfer"] = {
        "steps": result.steps, "maps": result.kinds, "seconds": round(time.perf_counter() - began, 1),
        "cpu seconds": round(time.process_time() - spent, 1),
        "curve": [{"step": step, "errors": [round(e, 4) for e in errors]} for step, errors in result.curve],
    }  # fmt: skip
    stages("transferred", model)
    began, spent = time.perf_counter(), time.process_time()
    model, curve = kexue_hf.distil_performer(
        model, texts, tokenizer, steps=options.finetune_steps, batch_size=BATCH, max_length=length,
        rank=None if options.rank < 0 else options.rank, evaluate=few, evaluate_every=EVERY, minutes=minutes * 0.6,
        quiet=options.quiet,
    )  # fmt: skip
    found["distillation"] = {
        "rank": options.rank, "steps": max(point["step"] for point in curve),
        "seconds": round(time.perf_counter() - began, 1), "cpu seconds": round(time.process_time() - spent, 1),
        "curve": [{**rounded(point), "step": point["step"]} for point in curve],
    }  # fmt: skip
    stages("distilled", model.eval())
    return found


def encoder_part(options: argparse.Namespace) -> dict[str, Any]:
    if options.encoder is None or not options.encoder.is_dir():
        return {"missing": "no --encoder, or no such folder: nothing was measured"}
    train, held_out, longer = english()
    tokenizer = AutoTokenizer.from_pretrained(options.encoder)
    model = AutoModel.from_pretrained(options.encoder, dtype="float32").eval()
    found: dict[str, Any] = {
        "encoder": options.encoder.name,
        "texts": {"train": len(train), "held out": len(held_out), "held out, longer": len(longer)},
        "features": FEATURES, "batch": BATCH, "stages": {},
    }  # fmt: skip
    kexue_hf.use_performer(model, "low_order", num_features=FEATURES)
    sets = {
        f"{LENGTH} tokens": HeldOut(model, tokenizer, held_out, LENGTH),
        f"{LONGER} tokens": HeldOut(model, tokenizer, longer, LONGER),
        "licences": HeldOut(model, tokenizer, licences(), LENGTH),
    }
    few = HeldOut(model, tokenizer, held_out[:: max(1, len(held_out) // MEASURED_ON_THE_WAY)], LENGTH)
    found["texts"]["licences"] = len(sets["licences"].texts)
    sizes = [len(row) for row in tokenizer(held_out, truncation=True, max_length=LENGTH)["input_ids"]]
    found["tokens of a held-out text, mean"] = round(sum(sizes) / len(sizes), 1)
    stages = Stages(sets, found["stages"])
    stages("low_order", model)
    kexue_hf.calibrate_performer(model, train[:: max(1, len(train) // 16)][:16], tokenizer, max_length=LENGTH)
    stages("low_order, calibrated", model)
    kexue_hf.use_performer(model, "learned", num_features=FEATURES)
    found.update(recover(model, tokenizer, train, few, stages, options, LENGTH, options.minutes))
    return found


def pieces(path: Path) -> list[str]:
    """Return the texts of a file, cut to the length of a masked language model with 128 positions."""
    with open(path, encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    cut = [text[i : i + CHARACTERS] for text in texts for i in range(0, len(text), CHARACTERS)]
    return [text for text in cut if len(text) > CHARACTERS // 4]


def masked_part(options: argparse.Namespace, folder: Path, name: str) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype="float32").eval()
    train, held_out = pieces(SAMPLES / "train.jsonl"), pieces(SAMPLES / "held_out.jsonl")
    kexue_hf.use_performer(model, "low_order", num_features=FEATURES)
    measure = HeldOut(model, tokenizer, held_out, MASKED_LENGTH, masked=True, batch_size=32)
    found: dict[str, Any] = {
        "model": name, "texts": {"train": len(train), "held out": len(held_out)},
        "softmax": {"masked_word_loss": round(float(measure.softmax_loss or 0), 4)}, "stages": {},
    }  # fmt: skip
    stages = Stages({f"{MASKED_LENGTH} tokens": measure}, found["stages"])
    stages("low_order", model)
    kexue_hf.calibrate_performer(model, train[:16], tokenizer, max_length=MASKED_LENGTH)
    stages("low_order, calibrated", model)
    kexue_hf.use_performer(model, "learned", num_features=FEATURES)
    few = HeldOut(model, tokenizer, held_out[::4], MASKED_LENGTH, masked=True, batch_size=32)
    found.update(recover(model, tokenizer, train, few, stages, options, MASKED_LENGTH, options.masked_minutes))
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the errors of layers in transfer, the loss and cosine in distillation, and the masked losses by stage."""
    with picture_of(path, (14, 4), 3, frame=True) as axes:
        found = result.get("encoder", {})
        if "transfer" in found:
            curve = found["transfer"]["curve"]
            for layer in range(len(curve[0]["errors"])):
                axes[0].plot([p["step"] for p in curve], [p["errors"][layer] for p in curve], label=f"layer {layer}")
            axes[0].set(
                title=f"attention transfer, {found['encoder']}", xlabel="steps", ylabel="relative error, held out"
            )
            axes[0].set_ylim(bottom=0)
            axes[0].legend()
            points = found["distillation"]["curve"]
            for name, label in (
                ("loss", "loss, training"),
                ("least_cosine", "1 - least cosine"),
                ("cosine", "1 - cosine"),
            ):
                some = [(p["step"], p[name] if name == "loss" else 1 - p[name]) for p in points if name in p]
                axes[1].plot(*zip(*some, strict=True), label=label)
            axes[1].set(title="distillation", xlabel="steps", yscale="log")
            axes[1].legend()
        names = ["low_order", "low_order, calibrated", "calibrated", "transferred", "distilled"]
        for masked in result.get("masked", []):
            losses = [next(iter(masked["stages"][name].values()))["masked_word_loss"] for name in names]
            (line,) = axes[2].plot(names, losses, "o-", label=masked["model"])
            axes[2].axhline(masked["softmax"]["masked_word_loss"], color=line.get_color(), linestyle=":")
        axes[2].set(title="loss of masked words (dotted: softmax)")
        axes[2].tick_params(axis="x", rotation=25)
        if result.get("masked"):
            axes[2].legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="folder of all-MiniLM-L6-v2, or of another encoder")
    parser.add_argument("--masked-lm", type=Path, help="folder of a masked language model with Chinese characters")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--transfer-steps", type=int, default=500)
    parser.add_argument("--finetune-steps", type=int, default=500)
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapters; -1 trains all weights")
    parser.add_argument(
        "--minutes", type=float, default=14.5, help="limit for transfer and distillation of the encoder"
    )
    parser.add_argument("--masked-minutes", type=float, default=1.0, help="the same for each masked language model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", help="name of the result; only performer_recovery is drawn")
    parser.add_argument("--quiet", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = options.output or "performer_recovery"
    # Parts that are not run keep their figures.
    result = read_result(name)
    result["machine"] = {**machine("torch", "transformers", "peft"), "threads": options.threads}
    result["options"] = {
        key: value.name if isinstance(value, Path) else value
        for key, value in vars(options).items()
        if key not in ("only", "output", "quiet")
    }
    if "encoder" in options.only:
        found = encoder_part(options)
        # Keep figures measured with an encoder if it is missing this time.
        if "missing" not in found or "encoder" not in result:
            result["encoder"] = found
        write_result(name, result)
    if "masked" in options.only:
        result["masked"] = []
        with tempfile.TemporaryDirectory() as folder:
            tiny = Path(folder) / "wobert_tiny"
            kexue_hf.convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", tiny)
            result["masked"].append(masked_part(options, tiny, "wobert_tiny (packaged)"))
        if options.masked_lm is not None and options.masked_lm.is_dir():
            result["masked"].append(masked_part(options, options.masked_lm, options.masked_lm.name))
        else:
            result["masked missing"] = "no --masked-lm, or no such folder"
        write_result(name, result)
    if options.output is None:
        draw(result, ROOT / "docs" / "performer_recovery.svg")


if __name__ == "__main__":
    main()
