"""Mixed batches and folded tasks against the outputs of the original code; each task by itself: ../test_parity.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.models.golden_cases import TOLERANCE, deviation, load, read_batches

CASE = "sohu_matcher_keras_h5"


def test_a_mixed_batch_equals_its_texts_one_by_one(converted: Callable[[str], Path]) -> None:
    """The original's outputs under six tasks hold every text under its own."""
    inputs, expected = read_batches(CASE)["b0"]
    tasks = inputs["mixed_task_ids"]
    batch = {name: value for name, value in inputs.items() if name != "mixed_task_ids"}
    with torch.no_grad():
        logits = load(AutoModelForSequenceClassification, converted(CASE))(**batch, task_ids=tasks).logits
    for row, task in enumerate(tasks.flatten().tolist()):
        assert deviation(logits[row], expected[f"task{task}_logits"][row]) < TOLERANCE


@pytest.mark.parametrize("task", range(6))
def test_a_folded_task_equals_the_original(task: int, converted: Callable[[str], Path]) -> None:
    folded = load(AutoModelForSequenceClassification, converted(CASE), "eager").fold_task(task)
    for inputs, expected in read_batches(CASE).values():
        batch = {name: value for name, value in inputs.items() if name != "mixed_task_ids"}
        with torch.no_grad():
            assert deviation(folded(**batch).logits, expected[f"task{task}_logits"]) < TOLERANCE
