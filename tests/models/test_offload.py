"""Models offloaded to the CPU or to disk compute what they compute in memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model

from tests.models.tiny_models import class_names, inputs, tiny_model

MAPS = [(name, {}) for name in class_names()]
MAPS += [
    (name, {"feature_map": feature_map, "attention_switch_length": 0})
    for name in ("PerformerBertModel", "PerformerBertForMaskedLM", "PerformerBertForCausalLM")
    for feature_map in ("low_order", "favor++", "learned")
    if "Causal" not in name or feature_map != "low_order"
]
IDS = ["-".join([name, *map(str, changes.values())]) for name, changes in MAPS]


def output(model: Any, name: str) -> torch.Tensor:
    # Longer than the table of positions where the model allows it.
    batch = {"input_ids": torch.arange(5, 29)[None]} if "PerformerBert" in name else inputs(name)
    with torch.no_grad():
        found: torch.Tensor = model(**batch)[0]
    return found


@pytest.mark.parametrize(("name", "changes"), MAPS, ids=IDS)
@pytest.mark.parametrize("place", ["cpu", "disk", "half on disk"])
def test_offloaded_models_compute_the_same(name: str, changes: dict[str, Any], place: str, tmp_path: Path) -> None:
    model = tiny_model(name, **changes)
    expected = output(model, name)
    if place == "cpu":
        cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)
    elif place == "disk":
        disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"))
    else:
        parts = [child for child, module in model.named_children() if list(module.state_dict())]
        device_map = {child: "disk" if number % 2 == 0 else "cpu" for number, child in enumerate(parts)}
        dispatch_model(model, device_map, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True)
    assert any(parameter.is_meta for parameter in model.parameters())
    assert torch.equal(output(model, name), expected)
