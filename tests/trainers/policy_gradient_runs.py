"""One step of `PolicyGradientTrainer` on 16 rows with each kind of reward; `main` is run in two processes."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from kexue_hf.trainers.policy_gradient import PolicyGradientOptions, PolicyGradientTrainer
from kexue_hf.trainers.training_script import leave_process_group

CLASSES, LENGTH = 3, 4
PRICES = torch.tensor([[1.0, 0.2, 0.0], [0.0, 2.0, 0.5], [-1.0, 0.0, 1.0]])


def price(predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A reward of each label: a table of label and prediction."""
    return PRICES[labels.clamp(min=0), predictions.clamp(min=0)]


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        return {"logits": self.layer(x)}


def rows(tokens: bool) -> list[dict[str, torch.Tensor]]:
    """16 rows, unequally divided: two lack labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (16, LENGTH) if tokens else (16,)
    x, labels = torch.randn(*shape, 4, generator=generator), torch.randint(CLASSES, shape, generator=generator)
    if tokens:
        labels[:, 2:] = labels[:, 2:].masked_fill(torch.rand(16, 2, generator=generator) < 0.5, -100)
    labels[3] = labels[8] = -100
    return [{"x": one, "labels": label} for one, label in zip(x, labels, strict=True)]


ALL = PolicyGradientOptions(entropy=0.1, kl=0.2, mix=0.3)
# Name: reward, options, whether of tokens.
CASES: dict[str, tuple[Any, PolicyGradientOptions, bool]] = {
    "texts": (price, PolicyGradientOptions(), False),
    "tokens": (price, PolicyGradientOptions(), True),
    "all terms": (price, ALL, True),
}


def trainer(
    folder: Path,
    reward: Any,
    options: PolicyGradientOptions,
    data: list[Any],
    model: nn.Module,
    *,
    devices: int = 1,
    **arguments: Any,
) -> PolicyGradientTrainer:
    settings = {
        "max_steps": 1, "per_device_train_batch_size": 16, "report_to": "none", "use_cpu": True, "disable_tqdm": True,
        "max_grad_norm": 0.0, "save_strategy": "no", "train_sampling_strategy": "sequential", "optim": "sgd",
        "learning_rate": 1.0, "lr_scheduler_type": "constant", "remove_unused_columns": False, **arguments,
    }  # fmt: skip
    made = TrainingArguments(str(folder), **settings)
    made._n_gpu = devices
    return PolicyGradientTrainer(model, made, train_dataset=data, reward=reward, options=options)


def step(name: str, folder: Path, batch: int, accumulated: int) -> list[list[float]]:
    """Return the gradient of the first optimizer step."""
    torch.manual_seed(0)
    reward, options, tokens = CASES[name]
    model = Linear()
    made = trainer(folder, reward, options, rows(tokens), model, per_device_train_batch_size=batch,
                   gradient_accumulation_steps=accumulated)  # fmt: skip
    if made.start_model is not None:
        # Else the divergence from the start has no gradient.
        made.start_model.layer.weight.data += torch.linspace(-1, 1, 12).view(3, 4)
    before = model.layer.weight.detach().clone()
    made.train()
    return (before - model.layer.weight.detach()).tolist()


def one_of_rows(predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A reward of 1 for each row, whose mean is 1."""
    return torch.ones(len(labels))


def logged(folder: Path, data: list[Any], **arguments: Any) -> float:
    """Return the logged loss of the first step with a reward of 1 for each row."""
    made = trainer(folder, one_of_rows, PolicyGradientOptions(), data, Linear(), logging_steps=1, **arguments)
    made.train()
    return float(made.state.log_history[0]["loss"])


def main(folder: str) -> None:
    output = Path(folder)
    found: dict[str, Any] = {name: step(name, output / name, 8, 1) for name in CASES}
    # Unequal halves, of 6 and 7 rows with labels.
    data = rows(True)
    data[0]["labels"][:] = -100
    found["rows"] = logged(output / "rows", data, per_device_train_batch_size=8)
    if torch.distributed.get_rank() == 0:
        (output / "found.json").write_text(json.dumps(found))
    leave_process_group()
