"""Zeroth-order trainings of a small network on 24 rows; run as a module, one of two processes.

The rows and directions of a step are the same in two processes, with accumulated batches, and in a resumed run.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from kexue_hf import ZerothOrderOptions, ZerothOrderTrainer
from kexue_hf.trainers.training_script import leave_process_group

ROWS = 24


class Network(nn.Module):
    """With dropout, which must be off while the two points are compared."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(4, 6)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        logits = self.classifier(self.dropout(self.encoder(x).tanh()))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def rows() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, 4, generator=generator)
    labels = x @ torch.randn(4, 3, generator=generator)
    return [{"x": one, "labels": label} for one, label in zip(x, labels.argmax(-1), strict=True)]


def macro_f1(outputs: Any, labels: torch.Tensor) -> float:
    """A metric that is no mean over rows, and has no gradient."""
    guesses = outputs["logits"].argmax(-1)
    hits = [2 * int(((guesses == k) & (labels == k)).sum()) / max(1, int((guesses == k).sum() + (labels == k).sum()))
            for k in range(3)]  # fmt: skip
    return sum(hits) / 3


def accuracy(outputs: Any, labels: torch.Tensor) -> torch.Tensor:
    return (outputs["logits"].argmax(-1) == labels).double().mean()


# name -> objective, options
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "loss": (None, {"directions": 3}),
    "metric of the whole batch": (macro_f1, {"directions": 3, "epsilon": 0.3}),
    "mean of a metric": (accuracy, {"directions": 3, "epsilon": 0.3, "whole_batch": False}),
    "momentum": (None, {"directions": 2, "momentum": 0.9}),
    "adam": (None, {"directions": 2, "adam": True, "learning_rate": 0.05, "parameters": "classifier"}),
    "alternating": (macro_f1, {"directions": 3, "epsilon": 0.3, "gradient_steps": 1, "parameters": "classifier"}),
}


def arguments_of(folder: Path, batch: int = 8, accumulated: int = 1, steps: int = 6, **more: Any) -> TrainingArguments:
    options: dict[str, Any] = {
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulated,
        "learning_rate": 0.05,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    }
    return TrainingArguments(str(folder), **{**options, **more})


def trainer_of(
    kind: str, folder: Path, model: nn.Module | None = None, devices: int = 1, **more: Any
) -> ZerothOrderTrainer:
    objective, options = KINDS[kind]
    arguments = arguments_of(folder, **more)
    arguments._n_gpu = devices
    return ZerothOrderTrainer(
        Network() if model is None else model,
        arguments,
        train_dataset=rows(),
        objective=objective,
        options=ZerothOrderOptions(**{"learning_rate": 0.3, **options}),
    )


def weights(trainer: ZerothOrderTrainer) -> list[float]:
    return torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()]).tolist()


def main(output: str) -> None:
    found = {}
    for kind in KINDS:
        # Dropout draws other numbers in each process, so gradient steps have none here.
        model = Network()
        model.dropout.p = 0.0
        if torch.distributed.is_initialized() and torch.distributed.get_rank():
            with torch.no_grad():
                model.classifier.bias.add_(1.0)  # process 0 decides
        trainer = trainer_of(kind, Path(output) / kind, model, batch=4)
        trainer.train()
        wrapped = trainer.model_wrapped is not trainer.model
        found[kind] = {"weights": weights(trainer), "wrapped": wrapped}
    rank = torch.distributed.get_rank()
    (Path(output) / f"found{rank}.json").write_text(json.dumps(found))
    leave_process_group()
