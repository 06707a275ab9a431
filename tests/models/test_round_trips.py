"""Saving and loading, copies, and the meta device: every class comes back as it was."""

import copy
import importlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import kexue_hf
from kexue_hf.integrations.auto_classes import MODEL_TYPES
from tests.models.tiny_models import class_names, random_batch, tensors, tiny_model, trained_model, variants


def auto_map(model_type: str) -> dict[str, str]:
    return importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}").AUTO_MAP


def assert_equal(model: Any, other: Any) -> None:
    """Both compute the same, to the last bit."""
    batch = random_batch(model)
    expected, found = dict(tensors(model(**batch))), dict(tensors(other(**batch)))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@variants(class_names())
def test_saved_and_loaded_by_its_auto_class(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = trained_model(name, **changes)
    model.save_pretrained(tmp_path)
    classes = {reference.split(".")[1]: auto for auto, reference in auto_map(model.config.model_type).items()}
    auto = getattr(transformers, classes[name])
    again, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is getattr(kexue_hf, name)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    for key, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key
    # A file's tensors begin anywhere in memory, where a matrix product may round otherwise.
    for parameter in again.parameters():
        parameter.data = parameter.data.clone()
    assert_equal(model, again)
    half = auto.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert_equal(copy.deepcopy(model).to(torch.bfloat16), half)


@variants(class_names())
def test_copies_compute_the_same(name: str, changes: dict[str, Any]) -> None:
    model = trained_model(name, **changes)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_equal(model, again)


# WoBERT, Xiangqi GPT and SimSiam's encoder are transformers' BERT, whose position ids do not survive it.
@variants([name for name in class_names() if not name.startswith(("WoBert", "SimSiam", "XiangqiGpt"))])
def test_made_on_the_meta_device(name: str, changes: dict[str, Any]) -> None:
    model = trained_model(name, **changes)
    with torch.device("meta"):
        empty = tiny_model(name, num_hidden_layers=2, **changes)
    assert all(parameter.is_meta for parameter in empty.parameters())
    empty.to_empty(device="cpu").load_state_dict(model.state_dict())
    assert_equal(model, empty)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_configuration_names_every_auto_class(model_type: str, tmp_path: Path) -> None:
    tiny_model(class_names(model_type)[0], vocab_fingerprint="abc").config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["auto_map"] == auto_map(model_type)
    assert saved.get("encoder_config", saved)["vocab_fingerprint"] == "abc"
