"""Losses in `Trainer`: whatever the batch is divided into, the gradient is that of the whole batch.

Dice and smooth F1 are computed from what goes through the model together, on all processes: their docstrings say so.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.losses.training_runs import LOSSES, OF_BATCHES, rows, step

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("whole")
    return {name: torch.tensor(step(name, folder, 16, 1)) for name in LOSSES}


@pytest.mark.parametrize("accumulated", [2, 4])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_accumulation(name: str, accumulated: int, whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    found = torch.tensor(step(name, tmp_path, 16 // accumulated, accumulated))
    if name not in OF_BATCHES:
        torch.testing.assert_close(found, whole[name], rtol=1e-5, atol=1e-7)
        return
    # The mean over the parts of their gradients, weighted by their labels (which smooth F1's sum has already).
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3)
    data = rows(False)
    size = 16 // accumulated
    for start in range(0, 16, size):
        x = torch.stack([row["x"] for row in data[start : start + size]])
        labels = torch.stack([row["labels"] for row in data[start : start + size]])
        loss = LOSSES[name]({"logits": layer(x)}, labels)
        (loss * (labels != -100).sum() / 14).backward()
    torch.testing.assert_close(found, layer.weight.grad, rtol=1e-4, atol=1e-6)
    assert (found - whole[name]).abs().max() > 1e-4


def test_two_processes(whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.losses.training_runs", tmp_path],
            cwd=ROOT,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
                 "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.wait(timeout=480) == 0, process.stderr and process.stderr.read()[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found.pop("prior") == [2, 2, 2]
    # The rows of one process are every other one, or one half: sums over the whole batch do not mind.
    for name, gradient in found.items():
        torch.testing.assert_close(torch.tensor(gradient), whole[name], rtol=1e-4, atol=1e-6, msg=name)
