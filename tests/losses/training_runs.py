"""One step of `Trainer` on 16 rows with each loss; `main` is run in two processes."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from kexue_hf.losses import (
    ClassPrior,
    DiceLoss,
    FocalLoss,
    LdamLoss,
    LogitAdjustedCrossEntropy,
    MultiLabelCrossEntropy,
    SmoothF1CrossEntropy,
    TruncatedCrossEntropy,
    WeightedCrossEntropy,
)
from kexue_hf.trainers.training_script import leave_process_group

LOSSES: dict[str, Any] = {
    "weighted": WeightedCrossEntropy((0.5, 2.0, 1.0)),
    "focal": FocalLoss(),
    "truncated": TruncatedCrossEntropy(),
    "logit_adjusted": LogitAdjustedCrossEntropy((8, 5, 3)),
    "ldam": LdamLoss((8, 5, 3), scale=2.0),
    "multi_label": MultiLabelCrossEntropy(),
    "dice": DiceLoss(),
    "smooth_f1": SmoothF1CrossEntropy(),
}
# Their statistics are those of what goes through the model together.
OF_BATCHES = ("dice", "smooth_f1")
# Trained without average_tokens_across_devices too.
NOT_AVERAGED = ("focal", *OF_BATCHES)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(x)}


def rows(several: bool) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(16, 4, generator=generator), torch.randint(3, (16,), generator=generator)
    # Unequal halves, of 5 and 7 labels: the number of labels is not that of rows.
    labels[3:6] = labels[8] = -100
    found = nn.functional.one_hot(labels.clamp(min=0), 3).float() if several else labels
    return [{"x": one, "labels": label} for one, label in zip(x, found, strict=True)]


def step(name: str, folder: Path, batch: int, accumulated: int, average: bool = True, devices: int = 1) -> list[float]:
    """Return the gradient of the first optimizer step, and the logged loss behind it."""
    torch.manual_seed(0)
    arguments = TrainingArguments(
        str(folder), max_steps=1, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulated,
        report_to="none", use_cpu=True, disable_tqdm=True, max_grad_norm=0.0, save_strategy="no",
        train_sampling_strategy="sequential", optim="sgd", learning_rate=1.0, remove_unused_columns=False,
        average_tokens_across_devices=average, logging_steps=1,
    )  # fmt: skip
    arguments._n_gpu = devices
    model = Linear()
    before = model.layer.weight.detach().clone()
    trainer = Trainer(model, arguments, train_dataset=rows(name == "multi_label"), compute_loss_func=LOSSES[name])
    trainer.train()
    return [*(before - model.layer.weight.detach()).flatten().tolist(), trainer.state.log_history[0]["loss"]]


def main(folder: str) -> None:
    output = Path(folder)
    found: dict[str, Any] = {name: step(name, output / name, 8, 1) for name in LOSSES}
    for name in NOT_AVERAGED:
        found[f"{name}, not averaged"] = step(name, output / name, 8, 1, average=False)
    rank = torch.distributed.get_rank()
    # The first process sees no item of class 2.
    found["prior"] = ClassPrior.from_labels([2 * rank, 2 * rank, 1]).over_processes().counts
    if rank == 0:
        (output / "found.json").write_text(json.dumps(found))
    leave_process_group()
