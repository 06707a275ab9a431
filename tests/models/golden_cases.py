"""The golden cases: inputs and outputs of the original code for a tiny checkpoint of each kind."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parents[1] / "golden"
# The references are good to 1e-5 (against a recomputation in float64); the smallest of the mistakes in
# `test_parity.py`, a wrong GELU or epsilon, moves some output by at least 1.5e-4.
TOLERANCE = 5e-5
_NAMES = {
    "token_ids": "input_ids",
    "segment_ids": "token_type_ids",
    "mask": "attention_mask",
    "input_mask": "attention_mask",
}

Batch = tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]


@functools.cache
def read_batches(case: str) -> dict[str, Batch]:
    """{batch: (inputs under transformers' names, expected outputs)} of a case."""
    inputs, outputs = np.load(GOLDEN / case / "inputs.npz"), np.load(GOLDEN / case / "outputs.npz")
    found: dict[str, Batch] = {}
    for key in inputs.files:
        batch, name = key.split("_", 1)
        found.setdefault(batch, ({}, {}))[0][_NAMES.get(name, name)] = torch.from_numpy(inputs[key]).long()
    for key in outputs.files:
        batch, name = key.split("_", 1)
        found[batch][1][name] = outputs[key]
    return found


def load(auto: Any, folder: Path, attention: str = "sdpa") -> Any:
    """The model of a converted checkpoint, which must hold all its weights and nothing else."""
    model, info = auto.from_pretrained(folder, attn_implementation=attention, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def deviation(found: torch.Tensor, expected: np.ndarray) -> float:
    """The largest absolute difference; the shapes must agree."""
    assert tuple(found.shape) == expected.shape
    return float(np.abs(found.detach().double().numpy() - expected).max())
