"""Train a T-TA and a masked language model of the same size on the same tokens, and compare what they learn.

    python benchmarks/tta_pretraining.py --text FOLDER --output FOLDER [--only rates train head measure]

The text's folder has train.jsonl and dev.jsonl, objects with `text`. Both models have the same vocabulary of the
training text's characters, [SOS] and [EOS] around each row, and the same sizes, rows, order, steps, seed, optimizer
and schedule. The masked language model is transformers' BertForMaskedLM, trained by examples/pretrain_mlm.py (15 % of
the words: 80 % masked, 10 % replaced, 10 % unchanged); the T-TA is trained by examples/pretrain_tta.py. Parts:

* rates: each model with each of RATES for SHORT steps, with a schedule of that length. The lower held-out loss wins,
  separately for each model, so that neither is trained with a rate that suits the other.
* train: both models in parallel, one thread each, for `--steps` steps, with a constant rate except for WARM_UP steps
  and the last DECAY steps; saved as OUTPUT/tta_small and OUTPUT/mlm_small.
* head: seconds and memory of a training step of the T-TA with a Chinese BERT's vocabulary (21,128 tokens; 32 rows of
  128), with the loss in chunks (kexue_hf/trainers/chunked_loss.py) and computed by the model.
* measure: held-out pseudo-perplexity, exp(-mean of log p(token i | all others)), of both on the same texts: one pass
  of the T-TA, one masked copy per token for the other. Special tokens are given and not counted. For comparison:
  unigrams (add-one counts of the training text). Also for checkpoints, on fewer texts.

Run again with the same OUTPUT, both trainings resume.

Writes benchmarks/results/tta_pretraining.json (parts that are not run keep their figures) and
docs/tta_pretraining.svg.
"""

import argparse
import json
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from drawing import picture_of
from measuring import ROOT, machine, read_result, summary, write_result

PARTS = ("rates", "train", "head", "measure")
NAMES = ("T-TA", "MLM")
FOLDERS = {"T-TA": "tta_small", "MLM": "mlm_small"}
SIZES = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
LENGTH, ROWS, SEED = 128, 16, 42
RATES, SHORT = ("5e-4", "1e-3", "2e-3"), 250
# Steps of warm-up, steps of decay at the end, steps between checkpoints and between evaluations. The rate is constant
# in between, so a longer training begins like a shorter one.
WARM_UP, DECAY, SAVED, EVALUATED = 100, 300, 100, 300
CHARACTERS = {"vocab_size": 8000, "min_character_count": 2}
# Every n-th held-out text for the loss during training, and the first segment of every n-th for perplexities.
LOSS_EVERY, PERPLEXITY_EVERY, ON_THE_WAY_EVERY = 4, 4, 16
LONGEST_TEXT = LENGTH - 2


def texts_of(path: Path) -> list[str]:
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


# --- rates, train ---------------------------------------------------------------------------------------------------


def prepare(text: Path, output: Path) -> dict[str, Any]:
    """Write the vocabulary, the masked language model's random weights, and the held-out texts for the loss."""
    from transformers import BertConfig, BertForMaskedLM, set_seed

    from kexue_hf import TtaTokenizer
    from kexue_hf.corpora.packing import FullRows
    from kexue_hf.vocabulary.corpus_counts import count_corpus
    from kexue_hf.vocabulary.vocabulary_files import build_character_vocabulary, save_vocabulary

    output.mkdir(parents=True, exist_ok=True)
    texts, held_out = texts_of(text / "train.jsonl"), texts_of(text / "dev.jsonl")
    counts = count_corpus(texts, cut=lambda text: ())
    vocabulary = build_character_vocabulary(counts, CHARACTERS["vocab_size"], CHARACTERS["min_character_count"])
    save_vocabulary(vocabulary, output / "vocab.txt")
    tokenizer = TtaTokenizer(vocab_file=str(output / "vocab.txt"))
    tokenizer.model_max_length = LENGTH
    set_seed(SEED)
    config = BertConfig(
        vocab_size=len(vocabulary),
        intermediate_size=4 * SIZES["hidden_size"],
        max_position_embeddings=LENGTH,
        type_vocab_size=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **SIZES,
    )
    BertForMaskedLM(config).save_pretrained(output / "mlm_start")
    tokenizer.save_pretrained(output / "mlm_start")
    with open(output / "held_out.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in held_out[::LOSS_EVERY])
    lengths = [row["length"] for row in FullRows(tokenizer, LENGTH).split(texts)]
    return {
        "training text": {"texts": len(texts), "characters": sum(map(len, texts)), "rows": len(lengths)},
        "vocabulary": len(vocabulary),
        "tokens a row": round(sum(lengths) / len(lengths), 2),
    }


def command(name: str, options: argparse.Namespace, folder: Path, rate: str, schedule: list[str]) -> list[str]:
    """Return the script's command line."""
    script = {"T-TA": "pretrain_tta.py", "MLM": "pretrain_mlm.py"}[name]
    own = {
        "T-TA": [
            f"--vocabulary={options.output / 'vocab.txt'}",
            *(f"--{key}={value}" for key, value in SIZES.items()),
        ],
        "MLM": [f"--model={options.output / 'mlm_start'}"],
    }[name]
    return [
        sys.executable,
        str(ROOT / "examples" / script),
        f"--train_file={options.text / 'train.jsonl'}",
        f"--validation_file={options.output / 'held_out.jsonl'}",
        f"--output_dir={folder}",
        f"--report={folder}.json",
        *own,
        f"--max_length={LENGTH}",
        f"--batch_size={ROWS}",
        f"--learning_rate={rate}",
        *schedule,
        "--adam_beta2=0.98",
        "--weight_decay=0.01",
        f"--seed={SEED}",
        "--attention=eager",
        "--bf16",
        "--use_cpu",
        "--report_to=none",
        "--disable_tqdm=True",
        "--logging_steps=50",
        "--resume",
    ]


def run_both(commands: dict[str, list[str]], output: Path) -> None:
    """Run both trainings in parallel, one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    started = {}
    for name, line in commands.items():
        log = open(output / f"{FOLDERS[name]}.log", "ab")  # noqa: SIM115 (stays open while the process runs)
        started[name] = subprocess.Popen(line, env=environment, stdout=log, stderr=log)
    codes = {name: process.wait() for name, process in started.items()}
    for name, code in codes.items():
        if code:
            raise SystemExit(
                f"{' '.join(commands[name])}\nfailed with exit code {code}: see {output}/{FOLDERS[name]}.log"
            )


def compare_rates(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {"steps": SHORT, "held-out loss": {name: {} for name in NAMES}}
    for rate in RATES:
        folders = {name: options.output / "rates" / f"{FOLDERS[name]}_{rate}" for name in NAMES}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        schedule = [f"--max_steps={SHORT}", f"--warmup_steps={SHORT // 10}", "--lr_scheduler_type=linear"]
        schedule += [f"--save_steps={SHORT}"]
        run_both({name: command(name, options, folders[name], rate, schedule) for name in NAMES}, options.output)
        for name in NAMES:
            report = json.loads(Path(f"{folders[name]}.json").read_text("utf-8"))
            found["held-out loss"][name][rate] = round(report["held_out_loss"], 4)
        print(rate, {name: found["held-out loss"][name][rate] for name in NAMES}, flush=True)
    found["chosen"] = {name: min(losses, key=losses.__getitem__) for name, losses in found["held-out loss"].items()}
    return found


def train(options: argparse.Namespace, chosen: dict[str, str], prepared: dict[str, Any]) -> dict[str, Any]:
    steps = options.steps
    schedule = [f"--max_steps={steps}", f"--warmup_steps={WARM_UP}", "--lr_scheduler_type=warmup_stable_decay"]
    schedule += ["--lr_scheduler_kwargs=" + json.dumps({"num_decay_steps": DECAY, "decay_type": "linear"})]
    schedule += [f"--save_steps={SAVED}", "--eval_strategy=steps", f"--eval_steps={EVALUATED}"]
    lines = {name: command(name, options, options.output / FOLDERS[name], chosen[name], schedule) for name in NAMES}
    run_both(lines, options.output)
    found: dict[str, Any] = {"steps": steps, "rows a step": ROWS, "models": {}}
    for name in NAMES:
        folder = options.output / FOLDERS[name]
        report = json.loads(Path(f"{folder}.json").read_text("utf-8"))
        state = json.loads((folder / f"checkpoint-{steps}" / "trainer_state.json").read_text("utf-8"))
        evaluations = {
            e["step"]: (e["eval_loss"], e["eval_accuracy"]) for e in state["log_history"] if "eval_loss" in e
        }
        evaluations[steps] = report["held_out_loss"], report["held_out_accuracy"]
        tokens = ROWS * prepared["tokens a row"]
        found["models"][name] = {
            "learning rate": chosen[name],
            "command": " ".join(shown(part, options) for part in lines[name]),
            "parameters": report["parameters"],
            "epochs": report["epochs"],
            "tokens": round(steps * tokens),
            "held-out loss": {round(step * tokens): round(loss, 4) for step, (loss, _) in evaluations.items()},
            "held-out accuracy": {round(step * tokens): round(share, 4) for step, (_, share) in evaluations.items()},
        }
    return found


def shown(part: str, options: argparse.Namespace) -> str:
    """Return a word of the command line without this machine's folders."""
    for path, name in ((options.output, "OUTPUT"), (options.text, "FOLDER"), (ROOT, "")):
        part = part.replace(f"{path}/", f"{name}/" if name else "")
    return "python" if part == sys.executable else part


# --- head -----------------------------------------------------------------------------------------------------------


def compare_heads() -> dict[str, Any]:
    """Run each contender in turn in a separate process, for its peak memory."""
    found: dict[str, Any] = {"vocabulary": 21_128, "rows": 32, "tokens a row": LENGTH, "threads": 1, "cells": {}}
    for precision in ("float32", "bfloat16"):
        runs: dict[str, list[dict[str, float]]] = {"whole": [], "chunks": []}
        for _ in range(3):
            for name, measured in runs.items():
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    measured.append(pool.apply(training_step, (name == "chunks", precision == "bfloat16")))
        found["cells"][precision] = {
            name: {
                "seconds a step": summary([run["seconds"] for run in measured], 3),
                "peak MB": summary([run["MB"] for run in measured], 0),
            }
            for name, measured in runs.items()
        }
        print(
            precision, {name: cell["seconds a step"] for name, cell in found["cells"][precision].items()}, flush=True
        )
    return found


def training_step(chunks: bool, bfloat16: bool) -> dict[str, float]:
    """Return the median of three steps after a first one, and how much the process grew."""
    import torch

    from kexue_hf import TtaConfig, TtaForMaskedLM
    from kexue_hf.trainers.chunked_loss import use_chunked_loss

    torch.set_num_threads(1)
    config = TtaConfig(vocab_size=21_128, **SIZES, intermediate_size=4 * SIZES["hidden_size"])
    model = TtaForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    if chunks:
        use_chunked_loss(model)
    ids = torch.randint(7, 21_128, (32, LENGTH))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": statistics.median(seconds[1:]), "MB": round(grown)}


# --- measure --------------------------------------------------------------------------------------------------------


def measure(options: argparse.Namespace) -> dict[str, Any]:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    import kexue_hf  # noqa: F401 (registers the model)

    tokenizer = AutoTokenizer.from_pretrained(options.output / "tta_small")
    counts = unigrams(tokenizer, texts_of(options.text / "train.jsonl"))
    final: dict[str, Any] = {}
    chosen = encoded(tokenizer, first_segments(options)[::PERPLEXITY_EVERY])
    losses = {"unigrams": [[-counts[token] for token in ids] for ids in real_tokens(tokenizer, chosen)]}
    for name in NAMES:
        model = AutoModelForMaskedLM.from_pretrained(options.output / FOLDERS[name])
        start = time.perf_counter()
        losses[name] = surprises(model, tokenizer, chosen)
        final[name] = {"seconds": round(time.perf_counter() - start, 1)}
    for name, values in losses.items():
        final[name] = {**perplexity(values), **final.get(name, {})}
        print(name, final[name], flush=True)
    return {
        "texts": len(chosen),
        "tokens": sum(map(len, losses["unigrams"])),
        "final": final,
        "T-TA less MLM, nats a token": difference(losses["T-TA"], losses["MLM"]),
    }


def measure_on_the_way(options: argparse.Namespace) -> dict[str, Any]:
    """Return the perplexities of the checkpoints by step, on fewer texts."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.output / "tta_small")
    texts = first_segments(options)[::ON_THE_WAY_EVERY]
    few = encoded(tokenizer, texts)
    found: dict[str, Any] = {"texts": len(few), "perplexity": {name: {} for name in NAMES}}
    for name in NAMES:
        for step in sorted({*range(2 * EVALUATED, options.steps, 2 * EVALUATED), options.steps}):
            model = AutoModelForMaskedLM.from_pretrained(options.output / FOLDERS[name] / f"checkpoint-{step}")
            found["perplexity"][name][step] = perplexity(surprises(model, tokenizer, few))["perplexity"]
        print(name, found["perplexity"][name], flush=True)
    return found


def first_segments(options: argparse.Namespace) -> list[str]:
    """Return the leading sentences of each held-out text that fit into a row."""
    from kexue_hf.corpora.packing import split_segments

    return [next(split_segments(text, LONGEST_TEXT)) for text in texts_of(options.text / "dev.jsonl")]


def encoded(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
    return ids


def real_tokens(tokenizer: Any, rows: list[list[int]]) -> list[list[int]]:
    special = set(tokenizer.all_special_ids)
    return [[token for token in row if token not in special] for row in rows]


def unigrams(tokenizer: Any, texts: list[str]) -> list[float]:
    """Return the log probability of each token."""
    counts = [1] * len(tokenizer)
    for row in real_tokens(tokenizer, tokenizer(texts, verbose=False)["input_ids"]):
        for token in row:
            counts[token] += 1
    total = sum(counts) - len(tokenizer.all_special_ids)
    return [math.log(count / total) for count in counts]


def surprises(model: Any, tokenizer: Any, rows: list[list[int]]) -> list[list[float]]:
    """Return -log p(token | all others) of the real tokens of each row."""
    import torch

    from kexue_hf.pipelines.leave_one_out import leave_one_out

    model.eval()
    special = torch.tensor(tokenizer.all_special_ids)
    found: list[list[float]] = []
    for row in rows:
        ids = torch.tensor([row])
        wanted = ~torch.isin(ids, special)

        def take(
            scores: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, ids: torch.Tensor = ids
        ) -> list[float]:
            taken: list[float] = (-scores.gather(1, ids[rows, columns][:, None])[:, 0]).tolist()
            return taken

        parts = leave_one_out(model, ids, None, wanted, take, mask_token_id=tokenizer.mask_token_id)
        found.append([value for part in parts for value in part])
    return found


def perplexity(values: list[list[float]]) -> dict[str, float]:
    """Return the perplexity over all tokens; its standard error, in nats, takes each text as one draw."""
    mean, error = ratio([sum(row) for row in values], [len(row) for row in values])
    return {"perplexity": round(math.exp(mean), 2), "nats a token": round(mean, 4), "standard error": round(error, 4)}


def difference(first: list[list[float]], second: list[list[float]]) -> dict[str, float]:
    """Return the mean difference, paired by text."""
    sums = [sum(a) - sum(b) for a, b in zip(first, second, strict=True)]
    mean, error = ratio(sums, [len(row) for row in first])
    return {"mean": round(mean, 4), "standard error": round(error, 4)}


def ratio(sums: list[float], lengths: list[int]) -> tuple[float, float]:
    """Return the ratio of the sums, and its standard error."""
    total = sum(lengths)
    mean = sum(sums) / total
    squares = sum((s - mean * n) ** 2 for s, n in zip(sums, lengths, strict=True))
    return mean, math.sqrt(squares * len(sums) / max(1, len(sums) - 1)) / total


# --- picture --------------------------------------------------------------------------------------------------------


def picture(result: dict[str, Any], path: Path) -> None:
    with picture_of(path, (9.5, 3.6), 2) as (left, right):
        colours = {"T-TA": "#c0392b", "MLM": "#2c6fbb"}
        objective = {"T-TA": "every token predicted", "MLM": "masked 15 % predicted"}
        per_step = None
        for name, model in result["train"]["models"].items():
            losses = model["held-out loss"]
            left.plot(
                [int(tokens) / 1e6 for tokens in losses],
                list(losses.values()),
                color=colours[name],
                marker=".",
                label=f"{name} ({objective[name]})",
            )
            per_step = model["tokens"] / result["train"]["steps"]
        left.set(xlabel="million tokens read", ylabel="held-out loss, nats a predicted token")
        if "on the way" in result and per_step:
            for name, found in result["on the way"]["perplexity"].items():
                right.plot(
                    [int(step) * per_step / 1e6 for step in found],
                    list(found.values()),
                    color=colours[name],
                    marker="o",
                    label=name,
                )
            baseline = result["measure"]["final"]["unigrams"]["perplexity"]
            right.axhline(baseline, color="#888888", linestyle="--", label="unigrams")
            right.set(xlabel="million tokens read", ylabel="held-out pseudo-perplexity", yscale="log")
            ticks = [20, 50, 100, 200, 500, 1000]
            right.set_yticks(ticks, [str(tick) for tick in ticks])
            right.set_yticks([], minor=True)
            right.legend(frameon=False)
        left.legend(frameon=False)


# --- main ------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="folder for the models")
    parser.add_argument("--steps", type=int, default=1800, help="steps of the training")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    options.text, options.output = options.text.resolve(), options.output.resolve()
    prepared = prepare(options.text, options.output)
    result = read_result("tta_pretraining") | {
        "command": f"python benchmarks/tta_pretraining.py --text FOLDER --output OUTPUT --steps {options.steps}",
        "machine": machine("torch", "transformers"),
        "data": prepared,
        "setting": {**SIZES, "max_length": LENGTH, "rows a step": ROWS, "seed": SEED, "characters": CHARACTERS},
    }
    if "rates" in options.only:
        result["rates"] = compare_rates(options)
        write_result("tta_pretraining", result)
    if "train" in options.only:
        result["train"] = train(options, result["rates"]["chosen"], prepared)
        write_result("tta_pretraining", result)
    if "head" in options.only:
        result["head"] = compare_heads()
        write_result("tta_pretraining", result)
    if "measure" in options.only:
        result["measure"] = measure(options)
        write_result("tta_pretraining", result)
        result["on the way"] = measure_on_the_way(options)
    write_result("tta_pretraining", result)
    if "train" in result:
        # Read the file again: JSON turns numeric keys into text.
        picture(read_result("tta_pretraining"), ROOT / "docs" / "tta_pretraining.svg")


if __name__ == "__main__":
    main()
