"""Does training on the metric itself help after cross entropy? Headlines in 15 uneven classes.

    python benchmarks/policy_gradient.py --data tnews [--resume]

The folder has train.jsonl and dev.jsonl, objects with `text` and `label`. The packaged tiny WoBERT is fine-tuned with
cross entropy. From these weights each contender continues for as many steps, on the same rows in the same order:
cross entropy again, the expected accuracy, and the expected macro-F1 of a batch, alone and with cross entropy
(`PolicyGradientTrainer`). 1,000 training rows are held out of all training: on them, with a seed that is not
measured, each contender chooses its learning rate by its metric (cross entropy by macro-F1). The metrics of
dev.jsonl before and after are measured with other seeds, which give the order of rows, dropout and the classifier's
first weights. Writes results/policy_gradient.json after each seed; --resume keeps the seeds in it.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from measuring import json_lines, machine, mean_and_error, read_result, write_result

SEEDS, CHOOSING_SEED = 5, 100
KEPT_OUT = 1000
MAX_LENGTH = 48
BEFORE = {"epochs": 3, "rows of a step": 32, "learning rate": 1e-3}
AFTER = {"epochs": 1, "rows of a step": 128}
RATES = (1e-4, 3e-4)
START, CROSS_ENTROPY = "before", "cross entropy"
# Contender: the metric that it maximises, the weight of cross entropy.
CONTENDERS: dict[str, tuple[str, float | None]] = {
    CROSS_ENTROPY: ("macro_f1", None),
    "accuracy": ("accuracy", 0.0),
    "macro-F1": ("macro_f1", 0.0),
    "macro-F1 and cross entropy": ("macro_f1", 0.1),
}
METRICS = ("accuracy", "macro_f1")


def load_rows(path: Path) -> list[dict[str, str]]:
    return json_lines(path)


def trained(model: Any, rows: Any, name: str, rate: float, seed: int, tokenizer: Any, folder: str) -> Any:
    """Train a model in place, as the contender of this name or before all of them, and return it."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

    from kexue_hf import PolicyGradientTrainer
    from kexue_hf.trainers.policy_gradient import PolicyGradientOptions
    from kexue_hf.trainers.rewards import Accuracy, MacroF1

    settings = BEFORE if name == START else AFTER
    set_seed(seed)
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=int(settings["rows of a step"]),
        num_train_epochs=settings["epochs"],
        learning_rate=rate,
        warmup_steps=0.1,
        train_sampling_strategy="group_by_length",
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    common = {"train_dataset": rows, "data_collator": DataCollatorWithPadding(tokenizer)}
    metric, mix = CONTENDERS.get(name, ("", None))
    if mix is None:
        trainer: Any = Trainer(model, arguments, **common)
    else:
        reward = Accuracy() if metric == "accuracy" else MacroF1()
        options = PolicyGradientOptions(mix=mix)
        trainer = PolicyGradientTrainer(model, arguments, reward=reward, options=options, **common)
    trainer.train()
    return model


def measured(model: Any, rows: Any, tokenizer: Any) -> dict[str, float]:
    """Return accuracy and macro-F1 of the likeliest classes."""
    import torch

    from kexue_hf.trainers.rewards import macro_f1

    model.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(rows), 200):
            part = rows[start : start + 200]
            batch = tokenizer.pad({"input_ids": part["input_ids"]}, return_tensors="pt")
            found.append(model(**batch).logits.argmax(-1))
    predictions, labels = torch.cat(found), torch.tensor(list(rows["labels"]))
    accuracy = float((predictions == labels).float().mean())
    return {"accuracy": round(accuracy, 4), "macro_f1": round(macro_f1(predictions, labels), 4)}


def summary(values: Sequence[float]) -> dict[str, Any]:
    mean, error = mean_and_error(values)
    return {"mean": mean, "standard error": error, "all": list(values)}


def summaries(seeds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return each contender's metrics over the seeds, and their differences from those before, seed by seed."""
    found: dict[str, Any] = {}
    for name in (START, *CONTENDERS):
        found[name] = {}
        for metric in METRICS:
            values = [seed[name]["held out"][metric] for seed in seeds.values()]
            first = [seed[START]["held out"][metric] for seed in seeds.values()]
            found[name][metric] = summary(values)
            if name != START:
                gain = summary([round(value - start, 4) for value, start in zip(values, first, strict=True)])
                found[name][f"{metric} gained"] = {"difference": gain.pop("mean"), **gain}
            found[name][f"{metric} of training rows"] = summary([seed[name]["of those trained on"][metric]
                                                                 for seed in seeds.values()])  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and dev.jsonl")
    parser.add_argument("--resume", action="store_true", help="keep the seeds in results/policy_gradient.json")
    options = parser.parse_args()

    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
    from transformers.utils import logging

    from kexue_hf import convert

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings = {"before": BEFORE, "after": AFTER, "rates": list(RATES), "maximum length": MAX_LENGTH}
    earlier = read_result("policy_gradient") if options.resume else {}
    if earlier.get("settings") != settings:
        earlier = {}
    train, held_out = (load_rows(options.data / f"{part}.jsonl") for part in ("train", "dev"))
    order = np.random.default_rng(0).permutation(len(train))
    names = sorted({row["label"] for row in train})
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder, resources.as_file(resources.files("kexue_hf") / "assets") as assets:
        packaged = convert(assets / "wobert_tiny", Path(folder) / "tiny", dtype="float32").output
        tokenizer = AutoTokenizer.from_pretrained(packaged)

        def encoded(rows: list[dict[str, str]]) -> Any:
            ids = tokenizer([row["text"] for row in rows], truncation=True, max_length=MAX_LENGTH)["input_ids"]
            return Dataset.from_dict({"input_ids": ids, "labels": [names.index(row["label"]) for row in rows]})

        data = {
            "choosing": encoded([train[i] for i in order[:KEPT_OUT]]),
            "trained on": encoded([train[i] for i in order[KEPT_OUT:]]),
            "held out": encoded(held_out),
            "of those trained on": encoded([train[i] for i in order[KEPT_OUT : 2 * KEPT_OUT]]),
        }

        def fresh(weights: Any = None, seed: int = 0) -> Any:
            set_seed(seed)
            model = AutoModelForSequenceClassification.from_pretrained(
                packaged, num_labels=len(names), classifier_pooling="mean", attn_implementation="eager"
            )
            if weights is not None:
                model.load_state_dict(weights)
            return model

        def start(seed: int) -> Any:
            rate = float(BEFORE["learning rate"])
            return trained(fresh(seed=seed), data["trained on"], START, rate, seed, tokenizer, folder)

        def continued(weights: Any, name: str, rate: float, seed: int) -> Any:
            return trained(fresh(weights), data["trained on"], name, rate, seed, tokenizer, folder)

        chosen: dict[str, Any] = earlier.get("chosen", {})
        if not chosen:
            model = start(CHOOSING_SEED)
            before, weights = measured(model, data["choosing"], tokenizer), model.state_dict()
            print("choosing, before", before, flush=True)
            for name, (metric, _) in CONTENDERS.items():
                tried = {
                    str(rate): measured(continued(weights, name, rate, CHOOSING_SEED), data["choosing"], tokenizer)
                    for rate in RATES
                }
                best = max(tried, key=lambda rate: tried[rate][metric])
                chosen[name] = {"learning rate": float(best), "by": metric, "tried": tried, "before": before}
                print("choosing", name, chosen[name], flush=True)
        seeds: dict[str, Any] = earlier.get("seeds", {})

        def write() -> None:
            write_result(
                "policy_gradient",
                {
                    "what": "accuracy and macro-F1 before and after a continued training: mean over seeds, standard "
                    "error, all; gained: minus those before, seed by seed",
                    "machine": machine("torch", "transformers", "datasets"),
                    "settings": settings,
                    "rows": {part: len(rows) for part, rows in data.items()},
                    "classes": len(names),
                    "processor seconds": earlier.get("processor seconds", 0) + round(time.process_time() - started),
                    "chosen": chosen,
                    "contenders": summaries(seeds),
                    "seeds": seeds,
                },
            )

        for seed in range(SEEDS):
            if str(seed) in seeds:
                continue
            models = {START: start(seed)}
            weights = models[START].state_dict()
            for name in CONTENDERS:
                models[name] = continued(weights, name, chosen[name]["learning rate"], seed)
            seeds[str(seed)] = {
                name: {part: measured(model, data[part], tokenizer) for part in ("held out", "of those trained on")}
                for name, model in models.items()
            }
            print(seed, json.dumps(seeds[str(seed)]), flush=True)
            write()
        write()


if __name__ == "__main__":
    main()
