"""Measure continued pre-training: equal losses however it is run, the gain, the speed, and an estimate of the cost.

    python benchmarks/pretraining.py --text FOLDER [--only losses held_out speed reading cost]

FOLDER has train.jsonl and dev.jsonl, objects with `text`, one paragraph each. Parts:

* losses (3 minutes on two idle cores): examples/pretrain_mlm.py continues the packaged tiny model: in one process;
  with gradient accumulation; in two processes (`accelerate launch`); in two with FSDP; killed by SIGKILL and resumed;
  and as a stream. All use the same rows per step. Recorded: losses, their largest difference, and that of the final
  weights.
* held_out (4 minutes): the packaged tiny model, trained for 1,500 more steps of 32 rows; held-out loss on the way.
* speed (4 minutes, one thread): tokens and characters per second of a training step, for tiny and base size with 128
  and 512 tokens, against transformers (BertTokenizer of characters, DataCollatorForLanguageModeling, BertForMaskedLM).
* reading (half a minute): megabytes per second of reading, cutting into segments, and encoding.
* cost (no time): an estimate for 30 GB of text on N GPUs, from the figures above and published peak speeds.

Writes benchmarks/results/pretraining.json (parts that are not run keep their figures) and docs/pretraining.svg;
benchmarks/tables.py then writes the tables of docs/pretraining.md.
"""

import argparse
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

from drawing import picture_of
from measuring import ROOT, interleave, machine, read_result, summary, write_result

SCRIPT = str(ROOT / "examples" / "pretrain_mlm.py")
QUIET = ["--use_cpu", "--report_to=none", "--disable_tqdm=True", "--max_length=128"]
STEPS, SAVE = 40, 15
LAUNCH = ["accelerate", "launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
LAUNCH += ["--dynamo_backend=no"]
# accelerate ignores --fsdp on CPUs; this runs the script with it all the same.
FSDP_LAUNCH = [*LAUNCH, str(ROOT / "tests" / "fsdp_on_cpus.py")]

# Dense bf16 (V100: fp16) peaks from the data sheets, in TFLOP/s.
PEAKS = {
    "V100 SXM2": (125, "NVIDIA V100 data sheet, tensor cores"),
    "A100": (312, "NVIDIA A100 data sheet, bf16 without sparsity"),
    "H100 SXM": (989.4, "NVIDIA H100 data sheet, bf16 without sparsity"),
}
UTILISATION = 0.35
CORPUS_BYTES = 30e9
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 512}


# --- losses ---------------------------------------------------------------------------------------------------------


def launch(command: list[str], kill_after: Path | None = None) -> float:
    """Run a command to its end, or kill it as soon as a file exists; return the seconds."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            if kill_after is not None and kill_after.exists():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        if process.wait() not in (0, -signal.SIGKILL if kill_after else 0):
            log.seek(0)
            raise SystemExit(f"{' '.join(command)}\n{log.read().decode()[-3000:]}")
    return time.perf_counter() - start


def read_losses(output: Path, name: str = "loss") -> dict[int, float]:
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text("utf-8"))["log_history"]
    return {entry["step"]: entry[name] for entry in history if name in entry}


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def measure_losses(model: Path, text: Path, folder: Path) -> dict[str, Any]:
    common = [SCRIPT, f"--model={model}", f"--train_file={text / 'train.jsonl'}", *QUIET, f"--max_steps={STEPS}"]
    common += [f"--save_steps={SAVE}", "--logging_steps=1", "--learning_rate=3e-4", "--warmup_steps=5"]
    python = [sys.executable]
    stream = ["--batch_size=16", "--streaming", "--pack=segments", "--train_sampling_strategy=group_by_length"]
    # No dropout, since each process draws its own random numbers. Some killed runs have it, to test that it resumes.
    runs: dict[str, tuple[str, list[str], list[str], bool]] = {
        # name: (compared with, launcher, options, killed)
        "one process": ("", python, ["--batch_size=16", "--dropout=0"], False),
        "4 x 4 accumulated": (
            "one process",
            python,
            ["--batch_size=4", "--gradient_accumulation_steps=4", "--dropout=0"],
            False,
        ),
        "two processes": ("one process", LAUNCH, ["--batch_size=8", "--dropout=0"], False),
        "two processes, FSDP": ("one process", FSDP_LAUNCH, ["--batch_size=8", "--dropout=0", "--fsdp"], False),
        "killed and resumed": ("one process", python, ["--batch_size=16", "--dropout=0"], True),
        "dropout": ("", python, ["--batch_size=16", "--dropout=0.1"], False),
        "dropout, killed and resumed": ("dropout", python, ["--batch_size=16", "--dropout=0.1"], True),
        "stream of segments": ("", python, [*stream, "--dropout=0"], False),
        "stream, two processes": (
            "stream of segments",
            LAUNCH,
            [*stream, "--batch_size=8", "--dropout=0", "--dataloader_num_workers=1"],
            False,
        ),
        "stream, killed and resumed": ("stream of segments", python, [*stream, "--dropout=0"], True),
    }
    result: dict[str, Any] = {"rows a step": 16, "steps": STEPS, "runs": {}}
    for name, (reference, launcher, options, killed) in runs.items():
        output = folder / name.replace(" ", "_")
        command = [*launcher, *common, f"--output_dir={output}", *options]
        seconds = 0.0
        if killed:
            seconds += launch(command, kill_after=output / f"checkpoint-{SAVE}" / "progress.json")
            command.append("--resume")
        seconds += launch(command)
        losses = read_losses(output)
        entry: dict[str, Any] = {
            "losses": [losses[step] for step in range(1, STEPS + 1)],
            "seconds": round(seconds, 1),
        }
        if reference:
            other = result["runs"][reference]["losses"]
            weights, expected = weights_of(output), weights_of(folder / reference.replace(" ", "_"))
            entry["compared with"] = reference
            entry["largest difference of losses"] = max(
                abs(a - b) for a, b in zip(entry["losses"], other, strict=True)
            )
            entry["largest difference of weights"] = max(
                float(abs(weights[key] - expected[key]).max()) for key in expected
            )
        result["runs"][name] = entry
        print_last(name, entry)
    return result


def print_last(name: str, entry: dict[str, Any]) -> None:
    shown = "  ".join(f"{entry['losses'][step - 1]:.6f}" for step in (1, SAVE, SAVE + 1, STEPS))
    difference = entry.get("largest difference of losses")
    tail = "" if difference is None else f"   |difference| <= {difference:.1e} from {entry['compared with']}"
    print(f"{name:>28}: {shown}{tail}", flush=True)


# --- held_out -------------------------------------------------------------------------------------------------------


def measure_held_out(model: Path, text: Path, folder: Path) -> dict[str, Any]:
    output = folder / "held_out"
    command = [sys.executable, SCRIPT, f"--model={model}", f"--train_file={text / 'train.jsonl'}", *QUIET]
    command += [f"--validation_file={text / 'dev.jsonl'}", f"--output_dir={output}", f"--report={folder / 'r.json'}"]
    command += ["--batch_size=32", "--max_steps=1500", "--learning_rate=2e-4", "--warmup_steps=300", "--bf16"]
    command += ["--attention=eager", "--adam_beta2=0.98", "--weight_decay=0.01", "--eval_strategy=steps"]
    command += ["--eval_steps=300", "--eval_on_start", "--logging_steps=300", "--save_steps=1500", "--dropout=0"]
    seconds = launch(command)
    return {
        "what": "the packaged tiny model, trained on: masked-word loss on held-out documents",
        "training loss": read_losses(output),
        "held-out loss": read_losses(output, "eval_loss"),
        "held-out accuracy": read_losses(output, "eval_accuracy"),
        "seconds": round(seconds, 1),
    }


# --- speed ----------------------------------------------------------------------------------------------------------


def flops_of_token(size: dict[str, int], length: int, vocabulary: int, share: float = 0.15) -> float:
    """Return the FLOPs of a training step per token of a full row; the head is computed for `share` of them."""
    hidden, layers, inner = size["hidden_size"], size["num_hidden_layers"], size["intermediate_size"]
    matrices = layers * (4 * hidden * hidden + 2 * hidden * inner)
    head = share * (hidden * hidden + hidden * vocabulary)
    attention = layers * 2 * hidden * length  # scores and weighted values, one multiplication and addition each
    return 6.0 * (matrices + head) + 6.0 * attention


def rows_of(
    text: Path, length: int, number: int, vocabulary: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], Any, Any]:
    """Return full rows of the same text for ours (words) and the peer (characters), and both tokenizers."""
    from transformers import BertTokenizer

    from kexue_hf import WoBertTokenizer
    from kexue_hf.corpora.packing import FullRows
    from kexue_hf.corpora.text_files import read_texts

    texts = list(islice(read_texts([text / "train.jsonl"]), 2000))
    ours = WoBertTokenizer(vocab=vocabulary)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    characters = dict.fromkeys([*special, *sorted({c for t in texts for c in t.lower() if not c.isspace()})])
    peer = BertTokenizer(vocab={token: index for index, token in enumerate(characters)})
    packed = islice(FullRows(ours, length).split(texts), number)
    own = [{**row, "row": index, "epoch": 0} for index, row in enumerate(packed)]
    # As run_mlm does: all texts concatenated and cut.
    joined = peer("".join(texts[: 2 * number + 50])[: number * length * 3], add_special_tokens=False)
    joined_ids, offsets = joined["input_ids"], joined.encodings[0].offsets
    room = length - 2
    theirs = [
        {
            "input_ids": [peer.cls_token_id, *joined_ids[start : start + room], peer.sep_token_id],
            "offset_mapping": [(0, 0), *offsets[start : start + room], (0, 0)],
        }
        for start in range(0, number * room, room)
    ]
    return own, theirs, ours, peer


def measure_speed(model: Path, text: Path, repetitions: int) -> dict[str, Any]:
    import torch
    from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling

    from kexue_hf import WoBertConfig, WoBertForMaskedLM
    from kexue_hf.trainers.collators import WordMaskingCollator
    from kexue_hf.trainers.selected_logits import compute_masked_logits_only
    from kexue_hf.vocabulary.corpus_counts import CorpusCounts
    from kexue_hf.vocabulary.vocabulary_files import build_vocabulary

    torch.set_num_threads(1)
    vocabularies = {
        "tiny": (model / "vocab.txt").read_text("utf-8").splitlines(),
        "base": build_vocabulary(CorpusCounts(), 33_586),
    }
    result: dict[str, Any] = {"threads": 1, "dtype": "float32", "cells": {}}
    for name, size in (("tiny", TINY), ("base", BASE)):
        for length in (128, 512):
            rows = {"tiny": 2048, "base": 512}[name] // length
            vocabulary = vocabularies[name]
            own, theirs, tokenizer, peer = rows_of(text, length, rows, vocabulary)
            words = WoBertForMaskedLM(WoBertConfig(vocab_size=len(vocabulary), max_position_embeddings=512, **size))
            compute_masked_logits_only(words)
            characters = BertForMaskedLM(BertConfig(vocab_size=21_128, max_position_embeddings=512, **size))
            # It either masks whole words or replaces words by others, not both.
            theirs_collator = DataCollatorForLanguageModeling(
                peer, whole_word_mask=True, mask_replace_prob=1.0, random_replace_prob=0.0
            )
            # Special tokens have no characters in the text.
            in_text = sum(len(tokenizer.decode(row["input_ids"], skip_special_tokens=True)) for row in own)
            contenders: dict[str, Callable[[], float]] = {
                "ours": trained(words, WordMaskingCollator(tokenizer, seed=1), own),
                "transformers": trained(characters, theirs_collator, theirs),
            }
            for contender in contenders.values():
                contender()
            seconds = interleave(contenders, repetitions)
            tokens = {"ours": sum(len(r["input_ids"]) for r in own), "transformers": rows * length}
            signs = {"ours": in_text, "transformers": rows * (length - 2)}
            flops = flops_of_token(size, length, words.config.vocab_size)
            median = {key: statistics.median(values) for key, values in seconds.items()}
            result["cells"][f"{name}, {length} tokens"] = {
                "parameters": sum(p.numel() for p in words.parameters()),
                "rows a step": rows,
                "seconds a step": {key: summary(values) for key, values in seconds.items()},
                "tokens/s": {key: round(tokens[key] / median[key]) for key in median},
                "characters/s": {key: round(signs[key] / median[key]) for key in median},
                "GFLOP per token, ours": round(flops / 1e9, 4),
                "GFLOP/s, ours": round(flops * tokens["ours"] / median["ours"] / 1e9, 1),
            }
            cell = result["cells"][f"{name}, {length} tokens"]
            print(name, length, cell["tokens/s"], cell["characters/s"], cell["GFLOP/s, ours"], flush=True)
            del words, characters, contenders
            gc.collect()
    return result


def trained(model: Any, collator: Any, rows: list[dict[str, Any]]) -> Callable[[], float]:
    """Return the seconds of a training step, including masking."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model.train()

    def step() -> float:
        start = time.perf_counter()
        batch = collator([dict(row) for row in rows])
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    return step


# --- reading --------------------------------------------------------------------------------------------------------


def measure_reading(model: Path, text: Path, repetitions: int) -> dict[str, Any]:
    from transformers import AutoTokenizer

    import kexue_hf  # noqa: F401 (registers the tokenizer)
    from kexue_hf.corpora.packing import FullRows, Segments
    from kexue_hf.corpora.text_files import read_texts

    tokenizer = AutoTokenizer.from_pretrained(model)
    files = [text / "train.jsonl"]
    texts = list(read_texts(files))
    size = sum(len(t.encode()) for t in texts)
    rows, segments = FullRows(tokenizer, 512), Segments(tokenizer, 512)
    counted = {"tokens": 0, "segments": 0, "dropped": 0}

    def clock(work: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            work()
            return size / 1e6 / (time.perf_counter() - start)

        return run

    def encode() -> None:
        for start in range(0, len(texts), 1000):
            segments({"text": texts[start : start + 1000]})

    found = interleave(
        {
            "reading": clock(lambda: list(read_texts(files))),
            "reading and cutting into segments (what skipping takes)": clock(
                lambda: list(segments.split(read_texts(files)))
            ),
            "encoding segments": clock(encode),
            "packing full rows": clock(lambda: [rows({"text": texts[i : i + 99]}) for i in range(0, len(texts), 99)]),
        },
        repetitions,
    )
    for part in segments.split(texts):
        length = len(tokenizer(part["text"], add_special_tokens=False)["input_ids"])
        counted["tokens"] += length
        counted["segments"] += 1
        counted["dropped"] += max(0, length - 510)
    return {
        "MB/s": {name: summary(values, 2) for name, values in found.items()},
        "bytes of text per token": round(size / counted["tokens"], 3),
        "tokens per segment at 512": round(counted["tokens"] / counted["segments"], 1),
        "tokens dropped at 512": counted["dropped"] / counted["tokens"],
    }


# --- cost -----------------------------------------------------------------------------------------------------------


def compute_cost(reading: dict[str, Any]) -> dict[str, Any]:
    flops = flops_of_token(BASE, 512, 33_586)
    tokens = CORPUS_BYTES / reading["bytes of text per token"]
    original = 1e6 * 16 * 512
    return {
        "what": "estimates: FLOPs of one pass over FLOP/s = peak x utilisation x GPUs; nothing of this is measured",
        "model": "base size, 33,586 words, rows of 512 tokens, head at the masked 15 %",
        "GFLOP per token": round(flops / 1e9, 4),
        "bytes per token": reading["bytes of text per token"],
        "corpus in GB": CORPUS_BYTES / 1e9,
        "tokens of a pass": round(tokens),
        "FLOP of a pass": tokens * flops,
        "tokens of WoBERT's schedule": original,
        "assumed utilisation": UTILISATION,
        "GPUs": {
            name: {
                "peak TFLOP/s": peak,
                "source": source,
                "tokens/s of one": round(peak * 1e12 * UTILISATION / flops),
                "hours of a pass": {
                    str(n): round(tokens * flops / (peak * 1e12 * UTILISATION * n) / 3600, 2) for n in (1, 4, 8, 32)
                },
                "hours of WoBERT's schedule on one": round(original * flops / (peak * 1e12 * UTILISATION) / 3600, 1),
            }
            for name, (peak, source) in PEAKS.items()
        },
    }


# --- picture --------------------------------------------------------------------------------------------------------


def picture(result: dict[str, Any], path: Path) -> None:
    """Draw the losses of all ways of running (left) and the held-out loss over the steps (right)."""
    with picture_of(path, (9, 3.2), 2) as (left, right):
        runs = {
            name: run
            for name, run in result["losses"]["runs"].items()
            if name == "one process" or run.get("compared with") == "one process"
        }
        styles = ["-", "x", "+", "|", "."]
        for (name, run), style in zip(runs.items(), styles, strict=False):
            plain = style == "-"
            left.plot(
                range(1, STEPS + 1),
                run["losses"],
                style,
                color="0.7" if plain else None,
                linewidth=4 if plain else None,
                markersize=6,
                label=name,
            )
        left.set(xlabel="step", ylabel="training loss", title="The same losses, however it is run")
        left.axvline(SAVE, color="black", linestyle=":", linewidth=0.8)
        left.legend(frameon=False, fontsize=7)
        held_out = {int(step): loss for step, loss in result["held_out"]["held-out loss"].items()}
        right.plot(list(held_out), list(held_out.values()), "o-", color="tab:blue", markersize=3)
        right.set(xlabel="step", ylabel="held-out loss", title="The packaged tiny model, trained on")
        for axes in (left, right):
            axes.title.set_fontsize(9)


PARTS = ("losses", "held_out", "speed", "reading", "cost")


def earlier() -> dict[str, Any]:
    """Return the existing result, and this machine."""
    return {"machine": machine("torch", "transformers", "accelerate", "datasets"), **read_result("pretraining")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repetitions", type=int, default=5, help="repetitions of the parts speed and reading")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    from kexue_hf import convert

    files = resources.files("kexue_hf") / "assets"
    with tempfile.TemporaryDirectory() as temporary, resources.as_file(files) as assets:
        folder = Path(temporary)
        # The datasets cache is deleted with the folder.
        os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
        model = convert(assets / "wobert_tiny", folder / "tiny", dtype="float32").output
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "losses": lambda: measure_losses(model, options.text, folder),
            "held_out": lambda: measure_held_out(model, options.text, folder),
            "speed": lambda: measure_speed(model, options.text, options.repetitions),
            "reading": lambda: measure_reading(model, options.text, options.repetitions),
            "cost": lambda: compute_cost(earlier()["reading"]),
        }
        for part in PARTS:
            if part in options.only:
                measured = parts[part]()
                # Read the file again: another process may have added a part.
                write_result("pretraining", earlier() | {part: measured})
    result = earlier()
    if {"losses", "held_out"} <= result.keys():
        picture(result, ROOT / "docs" / "pretraining.svg")


if __name__ == "__main__":
    main()
