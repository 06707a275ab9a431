"""Losses in `Trainer`: whatever the batch is divided into, the gradient is that of the whole batch.

Dice and smooth F1 are computed from what goes through the model together, on all processes: their docstrings say so.
"""

import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from kexue_hf.losses import ClassPrior, DecisionRule
from tests.data_parallel import Halves
from tests.losses.training_runs import LOSSES, NOT_AVERAGED, OF_BATCHES, rows, step
from tests.two_processes import two_processes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: torch.tensor(step(name, folder, 16, 1)) for name in LOSSES}


def network_and_rows() -> tuple[torch.nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3)
    x, labels = (torch.stack([row[name] for row in rows(False)]) for name in ("x", "labels"))
    return layer, x, labels


@pytest.mark.parametrize("accumulated", [2, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_accumulation(name: str, accumulated: int, whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    found = torch.tensor(step(name, tmp_path, 16 // accumulated, accumulated))
    if name not in OF_BATCHES:
        torch.testing.assert_close(found, whole[name], rtol=1e-5, atol=1e-7)
        return
    # The mean over the parts of their gradients, weighted by their labels (which smooth F1's sum has already).
    layer, x, labels = network_and_rows()
    parts = [slice(start, start + 16 // accumulated) for start in range(0, 16, 16 // accumulated)]
    losses = [LOSSES[name]({"logits": layer(x[part])}, labels[part]) for part in parts]
    shares = [(labels[part] != -100).sum() / (labels != -100).sum() for part in parts]
    loss = sum(share * one for share, one in zip(shares, losses, strict=True))
    loss.backward()
    torch.testing.assert_close(
        found, torch.cat([layer.weight.grad.flatten(), loss.detach()[None]]), rtol=1e-4, atol=1e-6
    )
    assert (found - whole[name]).abs().max() > 1e-4


@pytest.mark.slow
def test_two_processes(whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with two_processes("tests.losses.training_runs", tmp_path) as process:
        _, errors = process.communicate(timeout=480)
        assert process.returncode == 0, errors[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.pop("prior") == [2, 2, 2]
    for name in NOT_AVERAGED:
        # Each process's part, times the mean number of labels of a process and divided by its own.
        layer, x, labels = network_and_rows()
        factors = torch.tensor([6 / 5] * 8 + [6 / 7] * 8)
        logits = layer(x)
        loss = LOSSES[name]({"logits": logits}, labels)
        (of_logits,) = torch.autograd.grad(loss, logits, retain_graph=True)
        logits.backward(of_logits * factors[:, None])
        *gradient, logged = found.pop(f"{name}, not averaged")
        torch.testing.assert_close(torch.tensor(gradient), layer.weight.grad.flatten(), rtol=1e-4, atol=1e-6, msg=name)
        assert (torch.tensor(gradient) - whole[name][:-1]).abs().max() > 1e-4
        if name == "dice":
            assert logged == pytest.approx(loss.item() * (6 / 5 + 6 / 7) / 2)
    assert found.keys() == whole.keys()
    for name, values in found.items():
        torch.testing.assert_close(torch.tensor(values), whole[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_two_devices_of_one_process(
    name: str, average: bool, whole: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss sees the logits of all devices of `nn.DataParallel`: batch statistics are those of the whole batch."""
    monkeypatch.setattr(torch.nn, "DataParallel", Halves)
    found = torch.tensor(step(name, tmp_path, 8, 1, average, devices=2))
    torch.testing.assert_close(found, whole[name], rtol=1e-5, atol=1e-7)


def test_the_code_of_the_documentation_runs(tmp_path: Path) -> None:
    """docs/losses.md, with a model and rows made here."""
    first, second = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "losses.md").read_text("utf-8"), re.DOTALL)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    rows_of_text = {"input_ids": [[1, 2], [3, 4], [5, 6]], "label": [0, 0, 1]}
    names: dict[str, Any] = {
        "model": BertForSequenceClassification(BertConfig(vocab_size=9, num_labels=2, **sizes)),
        "arguments": TrainingArguments(str(tmp_path), max_steps=1, use_cpu=True, report_to="none"),
        "data": {"train": datasets.Dataset.from_dict(rows_of_text)},
        "Trainer": Trainer,
    }
    exec(first, names)
    names["trainer"].train()
    assert names["prior"].counts == (2, 1)
    exec(second, names)
    config = names["model"].config
    assert ClassPrior.of(config).counts == (2, 1) and DecisionRule.of(config) == DecisionRule("prior_adjusted")
    # The alternative in the comment.
    (alternative,) = re.findall(r"# or (.*)", second)
    exec(alternative, names)
    assert DecisionRule.of(config) == DecisionRule("thresholds", thresholds=(0.7, 0.3))
