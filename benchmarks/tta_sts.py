"""Unsupervised similarity: how well the cosine of a T-TA's sentence vectors ranks pairs, against human scores.

    python benchmarks/tta_sts.py --model tta_small --mlm mlm_small --data stsb_zh

The data are the Chinese STS-B's train.jsonl and dev.jsonl: JSON objects with text1, text2 and score, 0 to 5. Figures
are measured on dev. Of train only the texts are read, for tf-idf's document frequencies and for whitening
(https://kexue.fm/archives/8069, arXiv 2103.15316); nothing is chosen by scores. For comparison: bags of characters,
the mean of the model's static embeddings, the same network with random weights (three seeds), and a masked language
model of the same size. Errors are bootstrap standard errors over the pairs; the differences to the T-TA are paired.
Writes results/tta_sts.json.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from measuring import json_lines, machine, write_result
from similarity import (
    WHITENED_ON,
    bags_of_characters,
    cosines,
    pearson,
    rarity,
    spearman,
    static_vectors,
    weighted,
    whiten,
)

RESAMPLES = 1000
RANDOM_SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the T-TA")
    parser.add_argument("--mlm", type=Path, help="folder of a masked language model of the same size")
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    import torch
    import transformers

    import kexue_hf  # noqa: F401 (registers the models)

    transformers.logging.set_verbosity_error()  # it would warn that the encoder does not use the head's weights
    torch.set_num_threads(options.threads)
    started = time.process_time()
    pairs = json_lines(options.data / "dev.jsonl")
    texts = [text for pair in pairs for text in (pair["text1"], pair["text2"])]
    scores = np.array([pair["score"] for pair in pairs])
    train = sorted({pair[side] for pair in json_lines(options.data / "train.jsonl") for side in ("text1", "text2")})

    similarities, details = _contenders(options, texts, train)
    samples = np.random.default_rng(0).integers(0, len(pairs), (RESAMPLES, len(pairs)))
    rows = {name: _correlations(found, scores, samples) for name, found in similarities.items()}
    resampled = {name: row.pop("resampled spearman") for name, row in rows.items()}
    for ours in ("T-TA", "T-TA, whitened"):
        for name, row in rows.items():
            if name != ours:
                row[f"spearman of {ours} minus this"] = {
                    "difference": round(rows[ours]["spearman"] - row["spearman"], 4),
                    "standard error": round(float(np.std(resampled[ours] - resampled[name])), 4),
                }
    result = {
        "what": "correlation of the cosine of two sentences' vectors with people's scores, on the dev part; whitening "
        "and document frequencies from the texts of the train part, no scores used",
        "data": {
            "pairs": len(pairs),
            "texts for document frequencies": len(train),
            "texts for whitening": min(len(train), WHITENED_ON),
        },
        "machine": machine("torch", "transformers"),
        "threads": options.threads,
        **details,
        "CPU seconds in all": round(time.process_time() - started, 1),
        "rows": rows,
    }
    write_result("tta_sts", result)
    print(json.dumps(result, indent=2, ensure_ascii=False))


def _contenders(
    options: argparse.Namespace, texts: list[str], train: list[str]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return {contender: cosines [pairs, or seeds x pairs]}, and details of the models and their cost."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from kexue_hf import sentence_vectors

    found: dict[str, np.ndarray] = {}
    details: dict[str, Any] = {"models": {}}
    weights = rarity(train)
    found["bag of characters"] = cosines(bags_of_characters(texts, Counter))
    found["bag of characters, tf-idf"] = cosines(bags_of_characters(texts, lambda text: weighted(text, weights)))

    sample = np.random.default_rng(0).permutation(train)[:WHITENED_ON].tolist()

    def add(name: str, vectors: Callable[[list[str]], np.ndarray]) -> None:
        both = vectors(texts + sample)
        found[name] = cosines(both[: len(texts)])
        found[f"{name}, whitened"] = cosines(whiten(both[: len(texts)], both[len(texts) :]))

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModel.from_pretrained(options.model, dtype=torch.float32)
    add("static embeddings", lambda texts: static_vectors(model, tokenizer, texts))

    for name, folder in {"masked language model": options.mlm, "T-TA": options.model}.items():
        if folder is None:
            details["models"][name] = None
            continue
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        started = time.process_time()
        sentence_vectors(model, tokenizer, texts)
        details["models"][name] = {
            "type": model.config.model_type,
            "parameters of the encoder": model.num_parameters(),
            "layers": model.config.num_hidden_layers,
            "width": model.config.hidden_size,
            "sentences": len(texts),
            "CPU seconds for the sentences": round(time.process_time() - started, 2),
        }
        add(name, lambda texts, model=model, tokenizer=tokenizer: sentence_vectors(model, tokenizer, texts))

    for seed in RANDOM_SEEDS:
        torch.manual_seed(seed)
        random = AutoModel.from_config(model.config)
        add(f"random {seed}", lambda texts, random=random: sentence_vectors(random, tokenizer, texts))
    for kind in ("", ", whitened"):
        found[f"random weights{kind}"] = np.stack([found.pop(f"random {seed}{kind}") for seed in RANDOM_SEEDS])
    return found, details


def _correlations(found: np.ndarray, scores: np.ndarray, samples: np.ndarray) -> dict[str, Any]:
    """Return Spearman and Pearson with bootstrap errors; for several seeds, the mean and each value."""
    runs = np.atleast_2d(found)
    resampled = {"spearman": [], "pearson": []}
    for rows in samples:
        resampled["spearman"].append(np.mean([spearman(run[rows], scores[rows]) for run in runs]))
        resampled["pearson"].append(np.mean([pearson(run[rows], scores[rows]) for run in runs]))
    result: dict[str, Any] = {}
    for name, measure in {"spearman": spearman, "pearson": pearson}.items():
        values = [measure(run, scores) for run in runs]
        result[name] = round(float(np.mean(values)), 4)
        result[f"{name}, standard error"] = round(float(np.std(resampled[name])), 4)
        if len(values) > 1:
            result[f"{name}, each seed"] = _rounded(values)
    result["resampled spearman"] = np.array(resampled["spearman"])
    return result


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]


if __name__ == "__main__":
    main()
