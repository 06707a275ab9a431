"""What is special to WoBERT models: they are BERTs for a file without a pooler, and for `BertModel`.

Against the original code, and what all models do: tests/models.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertModel

from tests.models.golden_cases import read_batches
from tests.models.tiny_models import tiny_model


def test_an_mlm_only_checkpoint_says_so(converted: Callable[[str], Path]) -> None:
    model, info = AutoModel.from_pretrained(converted("wobert_mlm_only_tf_ckpt"), output_loading_info=True)
    assert model.config.add_pooling_layer is False and model.pooler is None
    assert not info["missing_keys"]


@pytest.mark.parametrize("case", ["wobert_tf_ckpt", "wobert_mlm_only_tf_ckpt", "wobert_keras_h5"])
def test_a_wobert_folder_loads_into_plain_bert(case: str, converted: Callable[[str], Path]) -> None:
    inputs, _ = read_batches(case)["b0"]
    ours = AutoModel.from_pretrained(converted(case)).eval()
    plain = BertModel.from_pretrained(converted(case), add_pooling_layer=False).eval()
    assert torch.equal(ours(**inputs).last_hidden_state, plain(**inputs).last_hidden_state)


@pytest.mark.parametrize(
    ("head", "changes", "pooler"),
    [
        ("WoBertModel", {}, True),
        ("WoBertModel", {"add_pooling_layer": False}, False),
        ("WoBertForMaskedLM", {}, False),
        ("WoBertForSequenceClassification", {}, True),
        ("WoBertForSequenceClassification", {"add_pooling_layer": False}, True),
        ("WoBertForSequenceClassification", {"classifier_pooling": "cls"}, False),
        ("WoBertForSequenceClassification", {"classifier_pooling": "mean"}, False),
    ],
    ids=lambda value: str(value),
)
def test_a_saved_configuration_says_whether_there_is_a_pooler(head, changes, pooler, tmp_path: Path) -> None:
    model = tiny_model(head, **changes)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["add_pooling_layer"] is pooler
    assert model.config.add_pooling_layer is changes.get("add_pooling_layer", True)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert (base.pooler is not None) is pooler and not info["missing_keys"]
