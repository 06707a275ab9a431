"""Every class exports with `torch.export` for any batch and length, and the program computes what the model computes.

A trace takes seconds for each layer: encoders and causal models have one layer here, the other heads have none.
"""

from typing import Any

import pytest
import torch
from torch.export import Dim

from tests.models.tiny_models import class_names, heads, tiny_model, type_of
from tests.old_torch import needs_tracing

pytestmark = needs_tracing


def changes_for(name: str) -> dict[str, Any]:
    # Weights as large as a trained model's: with those of a new one, any attention is the mean of the values.
    changes: dict[str, Any] = {"initializer_range": 0.3}
    # An input's length decides between two kinds of attention, and a program has one of them.
    return changes | ({"attention_switch_length": 0} if "PerformerBert" in name else {})


ENCODERS = [name for name in class_names() if name.endswith("Model")]
POOLED = [name for name in heads("SequenceClassification", "MultipleChoice") if "mean" in type_of(name).pooling[1]]
CASES = [(name, {}) for name in ENCODERS + heads("CausalLM")]
CASES += [
    (name, changes)
    for name in ENCODERS
    for changes in type_of(name).variants.values()
    # The boards of a game are made in Python: test_boards_xiangqi_gpt.py exports with them as an input.
    if changes.keys() - changes_for(name).keys() and not changes.get("board_input")
]
CASES += [("NezhaModel", {"attn_implementation": "eager"})]
CASES += [
    (
        name,
        {"num_hidden_layers": 0}
        | ({type_of(name).pooling[0]: "mean"} if name in POOLED and "mean" in type_of(name).pooling[1] else {}),
    )
    for name in heads()
    if "CausalLM" not in name
]


def batch_of(name: str, rows: int, length: int) -> dict[str, torch.Tensor]:
    shape = (rows, 2, length) if "MultipleChoice" in name else (rows, length)
    generator = torch.Generator().manual_seed(rows * length)
    ids = torch.randint(5, 30, shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[0, ..., length - 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def assert_program_equals_model(program: Any, model: Any, *shapes: tuple[int, int], masked: bool = True) -> None:
    name = type(model).__name__
    for rows, length in shapes:
        given = batch_of(name, rows, length) | type_of(name).extra_inputs(model.config, rows)
        if not masked:
            del given["attention_mask"]
        with torch.no_grad():
            expected, found = model(**given), program(**given)
        for key, tensor in expected.items():
            if isinstance(tensor, torch.Tensor):
                torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5)


def export(model: Any, masked: bool = True) -> Any:
    name = type(model).__name__
    example = batch_of(name, 3, 7) | type_of(name).extra_inputs(model.config, 3)
    if not masked:
        del example["attention_mask"]
    sizes = {key: dict.fromkeys({0, value.dim() - 1}, Dim.DYNAMIC) for key, value in example.items()}
    return torch.export.export(model, (), example, dynamic_shapes=sizes, strict=False).module()


@pytest.mark.parametrize(("name", "changes"), CASES, ids=str)
def test_exported_for_any_batch_and_length(name: str, changes: dict[str, Any]) -> None:
    model = tiny_model(name, **changes_for(name) | changes)
    assert_program_equals_model(export(model), model, (3, 7), (2, 12), (5, 4), (1, 9))


def test_exported_without_a_mask() -> None:
    """T-TA has a path of its own for texts without padding."""
    model = tiny_model("TtaModel", **changes_for("TtaModel"))
    assert_program_equals_model(export(model, masked=False), model, (3, 7), (2, 12), (5, 4), (1, 9), masked=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PerformerBertForSequenceClassification", "WoBertForSequenceClassification"])
def test_compiled_without_a_break(name: str) -> None:
    changes = {} if "Performer" in name else {"classifier_pooling": "mean"}
    model = tiny_model(name, **changes_for(name), **changes)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    assert_program_equals_model(compiled, model, (3, 7), (2, 15))
