"""Every class exports with `torch.export` for any batch and length, and computes what the model computes."""

from typing import Any

import pytest
import torch
from torch.export import Dim

from tests.models.test_keywords import class_names, tiny_model


def batch_of(name: str, rows: int, length: int) -> dict[str, torch.Tensor]:
    shape = (rows, 2, length) if "MultipleChoice" in name else (rows, length)
    generator = torch.Generator().manual_seed(rows * length)
    ids = torch.randint(5, 30, shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[0, ..., length - 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def changes_for(name: str) -> dict[str, Any]:
    # Weights as large as a trained model's: with those of a new one, any attention is the mean of the values.
    changes: dict[str, Any] = {"initializer_range": 0.3}
    # Which attention an input has is a matter of its length, and a program has one of them.
    return changes | ({"attention_switch_length": 0} if "PerformerBert" in name else {})


@pytest.mark.parametrize("name", class_names())
def test_exported_for_any_batch_and_length(name: str) -> None:
    model = tiny_model(name, **changes_for(name))
    sizes = {0: Dim.DYNAMIC, (2 if "MultipleChoice" in name else 1): Dim.DYNAMIC}
    example = batch_of(name, 3, 7)
    program = torch.export.export(
        model, (), example, dynamic_shapes=dict.fromkeys(example, sizes), strict=False
    ).module()
    for rows, length in ((3, 7), (2, 12), (5, 4)):
        given = batch_of(name, rows, length)
        with torch.no_grad():
            expected, found = model(**given), program(**given)
        for key, tensor in expected.items():
            if isinstance(tensor, torch.Tensor):
                torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["PerformerBertForMaskedLM", "PerformerBertForSequenceClassification"])
def test_a_linear_model_compiles_without_a_break(name: str) -> None:
    model = tiny_model(name, **changes_for(name))
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=True)
    for rows, length in ((3, 7), (2, 15)):
        given = batch_of(name, rows, length)
        with torch.no_grad():
            torch.testing.assert_close(compiled(**given).logits, model(**given).logits, rtol=1e-4, atol=1e-5)
