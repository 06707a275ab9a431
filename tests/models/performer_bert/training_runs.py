"""Short trainings of tiny classifiers with linear attention."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from kexue_hf import PerformerBertConfig, PerformerBertForSequenceClassification, use_performer
from kexue_hf.models.performer_bert.feature_maps_performer_bert import RandomFeatures
from kexue_hf.trainers.training_script import leave_process_group

SIZES: dict[str, Any] = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "hidden_dropout_prob": 0.0,
}  # fmt: skip
RANDOM = {"feature_map": "favor+", "num_features": 16, "redraw": 2}
ALWAYS = {"attention_switch_length": None}
KINDS: dict[str, dict[str, Any]] = {
    "low_order": ALWAYS,
    "favor+": {**RANDOM, **ALWAYS},
    # Dropout, of which a resumed run has to go on with the same draws.
    "favor+, dropout": {**RANDOM, **ALWAYS, "hidden_dropout_prob": 0.1},
    # Some batches are longer, some are not: see `rows`.
    "mixed lengths": {"attention_switch_length": 37},
    "swapped BERT, favor+": RANDOM,
}


def create(kind: str) -> Any:
    """A classifier with weights that do not depend on what came before, and queries and keys that are no noise."""
    torch.manual_seed(0)
    settings = {**SIZES, **KINDS[kind]}
    if kind.startswith("swapped"):
        bert = BertForSequenceClassification(BertConfig(**{**SIZES, "max_position_embeddings": 40}))
        model = use_performer(bert, **RANDOM)
    else:
        model = PerformerBertForSequenceClassification(PerformerBertConfig(**settings, classifier_pooling="mean"))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "query.weight" in name or "key.weight" in name or "classifier.weight" in name:
                weight.mul_(20)
    return model


def rows() -> list[dict[str, Any]]:
    """48 texts of 12 to 40 tokens and their classes."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(12, 41, (48,), generator=generator).tolist()
    texts = [torch.randint(1, 50, (length,), generator=generator).tolist() for length in lengths]
    return [{"input_ids": text, "labels": text[0] % 2} for text in texts]


def padded(found: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch, as long as its longest text."""
    length = max(len(row["input_ids"]) for row in found)
    missing = [length - len(row["input_ids"]) for row in found]
    return {
        "input_ids": torch.tensor([row["input_ids"] + [0] * count for row, count in zip(found, missing, strict=True)]),
        "attention_mask": torch.tensor([[1] * (length - count) + [0] * count for count in missing]),
        "labels": torch.tensor([row["labels"] for row in found]),
    }


def train(kind: str, output: Path, steps: int, resume: Path | None = None, **changes: Any) -> Any:
    """Train with checkpoints in the middle and at the end; return the model."""
    options = {
        "per_device_train_batch_size": 8, "max_steps": steps, "save_steps": steps // 2, "logging_steps": 1,
        "learning_rate": 1e-2, "lr_scheduler_type": "constant", "use_cpu": True, "report_to": "none",
        "disable_tqdm": True, "logging_nan_inf_filter": False,
    }  # fmt: skip
    model = create(kind)
    arguments = TrainingArguments(str(output), **{**options, **changes})
    trainer = Trainer(model, arguments, padded, train_dataset=rows(), eval_dataset=rows()[:5])
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return model


def losses(output: Path) -> list[float]:
    """Of all steps, those before a resumption included."""
    last = max(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def main(folder: str, steps: str) -> None:
    """Train as one of two processes, and write what it has drawn."""
    trained = train("favor+", Path(folder), int(steps), per_device_train_batch_size=4)
    draws = [module.projection.tolist() for module in trained.modules() if isinstance(module, RandomFeatures)]
    (Path(folder) / f"draws-{os.environ['RANK']}.json").write_text(json.dumps(draws))
    leave_process_group()
