"""SimSiam, BYOL, SimCSE and ablations on unlabelled Chinese sentences: what collapses, and what ranks pairs well.

    python benchmarks/sentence_vectors.py --data FOLDER [--parts ablation baselines recipes]

FOLDER has stsb_zh/, lcqmc/ and afqmc/, each with train.jsonl (objects with `text1` and `text2`), stsb_zh/dev.jsonl
with `score`, and zh_text/train.jsonl (objects with `text`). Nothing is trained on labels, and sentences of the dev
part are left out of the texts.

ablation: from the packaged tiny WoBERT, equal steps, batches and views (dropout 0.1, a fifth of the words deleted),
    three seeds; the spread of the vectors on the way, and Spearman's correlation with people's scores on stsb_zh dev
    before and after.
baselines: the untrained encoder, bags of characters, tf-idf, and whitening, on the same pairs.
recipes: settings chosen by the scores of the last 1,200 training pairs, whose sentences are left out of the texts too:
    from the packaged encoder, and from one that starts as tf-idf (rarity_encoder.py), trained on the texts of stsb_zh,
    or on passages of zh_text.

Writes results/sentence_vectors.json after each part, and docs/sentence_vectors.svg.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from measuring import ROOT, json_lines, machine, read_result, write_result
from rarity_encoder import write_rarity_encoder
from similarity import (
    WHITENED_ON,
    bags_of_characters,
    cosines,
    rarity,
    spearman,
    static_vectors,
    weighted,
    whiten,
)

SETS = ("stsb_zh", "lcqmc", "afqmc")
COMMON = [
    "--use_cpu", "--report_to=none", "--disable_tqdm=True", "--logging_strategy=no", "--save_strategy=no",
    "--text_column", "text", "--max_length=48", "--train_sampling_strategy=group_by_length",
]  # fmt: skip
STEPS = 300
ABLATION = [
    "--batch_size=32", f"--max_steps={STEPS}", "--learning_rate=3e-4", "--warmup_steps=0.1", "--dropout=0.1",
    "--deletion=0.2", "--collapse_steps=30",
]  # fmt: skip
CURVES = ("spread", "projection_spread", "effective_rank")
VARIANTS = {
    "SimSiam": ["--method=simsiam"],
    "BYOL": ["--method=byol", "--momentum=0.99"],
    "SimSiam without predictor": ["--method=simsiam", "--no_predictor"],
    "SimSiam without stop-gradient": ["--method=simsiam", "--no_stop_gradient"],
    "mean of the views": ["--method=view_mean"],
    "SimCSE": ["--method=simcse"],
}
# The last training pairs of stsb_zh, by which recipes are chosen.
CHOSEN_BY = 1200
RARITY_SIZE = 2048
RECIPES = {
    "packaged encoder, SimCSE": ("model", [
        "--method=simcse", "--learning_rate=1e-4", "--batch_size=64", "--max_steps=150", "--deletion=0.2",
    ]),
    "packaged encoder, SimCSE on passages of encyclopaedia and papers": ("model", [
        "--method=simcse", "--learning_rate=1e-4", "--batch_size=64", "--max_steps=150", "--passage=0.5",
    ]),
    "packaged encoder, SimSiam": ("model", [
        "--method=simsiam", "--learning_rate=1e-4", "--predictor_learning_rate=1e-3", "--batch_size=64",
        "--max_steps=150", "--deletion=0.2",
    ]),
    "tf-idf encoder, SimCSE": ("rarity", [
        "--method=simcse", "--learning_rate=1e-3", "--batch_size=128", "--max_steps=300", "--deletion=0.3",
    ]),
}  # fmt: skip


def train(
    options: list[str], folder: Path, model: str = "model", texts: str = "texts.jsonl", pairs: str = "pairs.jsonl"
) -> dict[str, Any]:
    """Run the example and return its figures and the measurements of the spread."""
    from transformers import HfArgumentParser, TrainingArguments

    from examples import train_sentence_vectors as script

    parser: Any = HfArgumentParser((script.Options, TrainingArguments))
    arguments = parser.parse_args_into_dataclasses([
        f"--model={folder / model}", f"--train_file={folder / texts}", f"--pairs_file={folder / pairs}",
        f"--output_dir={folder / 'out'}", "--overwrite", *COMMON, *options,
    ])  # fmt: skip
    figures = script.run(*arguments)
    return {"figures": figures, "history": json.loads((folder / "out" / "collapse.json").read_text())}


def summary(values: list[float]) -> dict[str, Any]:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return {
        "mean": round(statistics.mean(values), 4),
        "standard deviation": round(spread, 4),
        "all": [round(value, 4) for value in values],
    }


def ablation(folder: Path, seeds: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, options in VARIANTS.items():
        runs = [train([*ABLATION, *options, f"--seed={seed}"], folder) for seed in range(seeds)]
        found[name] = {
            "spearman before": round(runs[0]["figures"]["spearman_before"], 4),
            "spearman": summary([run["figures"]["spearman"] for run in runs]),
            **{
                figure: summary([run["history"][-1][figure] for run in runs])
                for figure in (
                    "spread",
                    "effective_rank",
                    "mean_cosine",
                    "uniformity",
                    "alignment",
                    "projection_spread",
                )
            },
            "steps": [line["step"] for line in runs[0]["history"]],
            "curves": {
                figure: [[round(line[figure], 4) for line in run["history"]] for run in runs] for figure in CURVES
            },
        }
        print(name, found[name]["spread"], found[name]["spearman"])
    return found


def recipes(data: Path, folder: Path) -> dict[str, Any]:
    """Return the correlations of each recipe, before and after, on the pairs that chose it and on dev."""
    from transformers import AutoModel, AutoTokenizer

    from examples.train_sentence_vectors import rank_correlation, read_pairs

    chosen_by = json_lines(data / "stsb_zh" / "train.jsonl")[-CHOSEN_BY:]
    hidden = {row[side] for row in chosen_by for side in ("text1", "text2")}
    texts = [row["text"] for row in json_lines(folder / "texts.jsonl")]
    own = [text for text in texts[: int((folder / "own").read_text())] if text not in hidden]
    write_lines(folder / "own.jsonl", [{"text": text} for text in own])
    write_lines(folder / "choice.jsonl", chosen_by)
    write_rarity_encoder(folder / "rarity", texts, own, RARITY_SIZE, dropout=0.1)
    dev = read_pairs(str(folder / "pairs.jsonl"))
    found = {}
    for name, (start, options) in RECIPES.items():
        figures = train(
            [*options, "--warmup_steps=0.1", "--dropout=0.1", "--collapse_steps=50", "--seed=0"],
            folder,
            start,
            str(data / "zh_text" / "train.jsonl") if "passages" in name else "own.jsonl",
            "choice.jsonl",
        )["figures"]  # fmt: skip
        before, after = (
            rank_correlation(AutoModel.from_pretrained(place), AutoTokenizer.from_pretrained(place), dev)
            for place in (folder / start, folder / "out" / "encoder")
        )
        found[name] = {
            "chosen by": {"before": round(figures["spearman_before"], 4), "after": round(figures["spearman"], 4)},
            "dev": {"before": round(before, 4), "after": round(after, 4)},
            "seconds": round(figures["seconds"]),
        }
        print(name, found[name])
    return found


def draw(found: dict[str, Any]) -> None:
    from kexue_hf.evaluation.collapse_picture import draw_collapse

    runs = {
        name: [
            {
                "step": step,
                **{figure: float(np.mean([run[place] for run in row["curves"][figure]])) for figure in CURVES},
            }
            for place, step in enumerate(row["steps"])
        ]
        for name, row in found.items()
    }
    draw_collapse(runs, ROOT / "docs" / "sentence_vectors.svg", CURVES)


def baselines(folder: Path) -> dict[str, float]:
    from transformers import AutoModel, AutoTokenizer

    from kexue_hf import sentence_vectors

    pairs = json_lines(folder / "pairs.jsonl")
    texts = [text for pair in pairs for text in (pair["text1"], pair["text2"])]
    scores = np.array([pair["score"] for pair in pairs])
    train_texts = [row["text"] for row in json_lines(folder / "texts.jsonl")]
    own = train_texts[: int((folder / "own").read_text())]
    sample = np.random.default_rng(0).permutation(own)[:WHITENED_ON].tolist()
    tokenizer, model = (kind.from_pretrained(folder / "model") for kind in (AutoTokenizer, AutoModel))
    frequencies = rarity(own)
    both = sentence_vectors(model, tokenizer, texts + sample)
    table = {
        "bag of characters": bags_of_characters(texts, Counter),
        "bag of characters, tf-idf": bags_of_characters(texts, lambda text: weighted(text, frequencies)),
        "static embeddings of the encoder": static_vectors(model, tokenizer, texts),
        "mean of the encoder": both[: len(texts)],
        "mean of the encoder, whitened": whiten(both[: len(texts)], both[len(texts) :]),
    }
    return {name: round(spearman(cosines(vectors), scores), 4) for name, vectors in table.items()}


def write_texts(data: Path, folder: Path) -> None:
    """Write the distinct training texts, those of stsb_zh first, and the held-out pairs."""
    held_out = {row[side] for row in json_lines(data / "stsb_zh" / "dev.jsonl") for side in ("text1", "text2")}
    texts: dict[str, None] = {}
    for name in SETS:
        rows = json_lines(data / name / "train.jsonl")
        found = (row[side] for row in rows for side in ("text1", "text2"))
        texts |= dict.fromkeys(text for text in found if text not in held_out)
        if name == "stsb_zh":
            (folder / "own").write_text(str(len(texts)))
    write_lines(folder / "texts.jsonl", [{"text": text} for text in texts])
    (folder / "pairs.jsonl").write_text((data / "stsb_zh" / "dev.jsonl").read_text("utf-8"), encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("ablation", "baselines", "recipes")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", choices=parts, default=parts)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    from kexue_hf import convert

    result: dict[str, Any] = {
        **read_result("sentence_vectors"),
        "machine": machine("torch", "transformers"),
        "setting": {
            "ablation": ABLATION,
            "variants": VARIANTS,
            "recipes": RECIPES,
            "seeds": options.seeds,
            "model": "wobert_tiny",
            "steps": STEPS,
        },
    }
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", folder / "model", dtype="float32")
        write_texts(options.data, folder)
        for part in options.parts:
            if part == "ablation":
                result[part] = ablation(folder, options.seeds)
                draw(result[part])
            elif part == "baselines":
                result[part] = baselines(folder)
            else:
                result[part] = recipes(options.data, folder)
            write_result("sentence_vectors", result)


if __name__ == "__main__":
    main()
