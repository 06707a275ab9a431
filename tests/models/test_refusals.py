"""Configurations and inputs that a model has no use for are refused, each with one clear line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, BertConfig

import kexue_hf
from tests.models.tiny_models import SIZES, class_names, inputs, tiny_model

NO_DECODER = {"is_decoder": True}
THREE_POOLINGS = "classifier_pooling must be 'pooler', 'cls' or 'mean', got 'max'"
TASKS = {"task_names": ["loose", "strict", "same"]}
BAD_CONFIGURATIONS: dict[str, list[tuple[dict[str, Any], str]]] = {
    "WoBertForSequenceClassification": [({"classifier_pooling": "max"}, THREE_POOLINGS)],
    "WoBertForMultipleChoice": [({"classifier_pooling": "max"}, THREE_POOLINGS)],
    "NezhaForSequenceClassification": [({"classifier_pooling": "max"}, THREE_POOLINGS)],
    "NezhaModel": [
        ({"classifier_pooling": "max"}, THREE_POOLINGS),
        ({"max_relative_position": 0}, "at least 1"),
        (NO_DECODER, "encoder only"),
        ({"add_cross_attention": True}, "encoder only"),
        ({"hidden_size": 30, "num_attention_heads": 6}, "twice num_attention_heads"),
        ({"hidden_size": 18, "num_attention_heads": 4}, "twice num_attention_heads"),
    ],
    "TtaModel": [
        ({"query_source": "token"}, "query_source must be 'mask_embedding' or 'position', got 'token'"),
        ({"classifier_pooling": "pooler"}, r"classifier_pooling must be 'mean' or 'cls' .*got 'pooler'"),
        ({"mask_token_id": None}, "needs mask_token_id.*got None"),
        ({"mask_token_id": -1}, "needs mask_token_id.*got -1"),
        (NO_DECODER, "encoder only"),
        ({"hidden_size": 15}, "multiple of num_attention_heads, got 15 and 2"),
    ],
    "PerformerBertForMaskedLM": [
        ({"feature_map": "favour"}, "feature_map must be one of"),
        ({"num_features": 0}, "num_features must be at least 1"),
        ({"feature_map": "favor+", "norm": "l2"}, "norm must be one of"),
        ({"redraw": 3}, "redraw must be"),
        ({"feature_map": "favor+", "redraw": 0}, "redraw must be"),
        ({"linear_layers": [1]}, "linear_layers must be of 0 to 0"),
        ({"attention_switch_length": -1}, "attention_switch_length must be"),
        ({"attention_switch_length": "always"}, "attention_switch_length must be"),
        ({"position_alpha": 1.0}, "position_alpha must be"),
        ({"classifier_pooling": "max"}, "classifier_pooling must be"),
        (NO_DECODER, "is an encoder"),
        ({"num_attention_heads": 3}, "multiple of the 3 heads"),
    ],
    "ClnMatcherForSequenceClassification": [
        ({**TASKS, "num_tasks": 2}, r"task_names must be 2 different names \(num_tasks\), got \['loose', 'strict', "),
        ({"task_names": ["a", "a"]}, "must be 2 different names"),
        ({"task_names": ["a", ""]}, "must be 2 different names"),
        ({"task_names": []}, "at least 1, got 0"),
        ({**TASKS, "task_embedding_size": 0}, "at least 1, got 3 and 0"),
        ({"position_embedding_type": "relative_key"}, "must be 'rotary' or 'absolute', got 'relative_key'"),
        ({"pooling": "pooler"}, "must be 'mean' or 'cls', got 'pooler'"),
        ({**TASKS, "conditional": False}, "has one task, got num_tasks=3"),
        (NO_DECODER, "is an encoder"),
        ({"hidden_size": 20, "num_attention_heads": 4}, "multiple of twice num_attention_heads, got 20 and 4"),
        (
            {"hidden_size": 22, "num_attention_heads": 4, "position_embedding_type": "absolute"},
            "multiple of num_attention_heads, got 22 and 4",
        ),
    ],
}
CASES = [(name, changes, message) for name, cases in BAD_CONFIGURATIONS.items() for changes, message in cases]


@pytest.mark.parametrize(("name", "changes", "message"), CASES, ids=lambda value: str(value)[:60])
def test_bad_configurations(name: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(name, **changes)
    # from_pretrained sets fields after the configuration was made.
    tiny_model(name).config.save_pretrained(tmp_path)
    if "num_tasks" not in changes:
        with pytest.raises(ValueError, match=message):
            getattr(kexue_hf, name)(AutoConfig.from_pretrained(tmp_path, **changes))


@pytest.mark.parametrize("name", class_names())
def test_inputs_are_ids_or_vectors(name: str) -> None:
    model = tiny_model(name)
    ids = inputs(name)["input_ids"]
    vectors = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=vectors)[0], model(input_ids=ids)[0])
    both = {"input_ids": ids, "inputs_embeds": vectors}
    # WoBertForMultipleChoice is transformers' own head, which does not look.
    for given in (both,) if name == "WoBertForMultipleChoice" else (both, {}):
        with pytest.raises(ValueError, match=r"(either|exactly one of|expected) input_ids or inputs_embeds"):
            model(attention_mask=torch.ones_like(ids), **given)


@pytest.mark.parametrize("name", [name for name in class_names() if name.startswith(("Tta", "ClnMatcher"))])
def test_texts_longer_than_the_table_of_positions(name: str) -> None:
    with pytest.raises(ValueError, match=r"texts of at most 16 tokens .*got 17: truncate"):
        tiny_model(name)(torch.full((2, 17), 7))


@pytest.mark.parametrize("name", [name for name in class_names() if name.startswith(("Tta", "ClnMatcher"))])
def test_another_models_configuration(name: str) -> None:
    model_class = getattr(kexue_hf, name)
    with pytest.raises(ValueError, match=f"expected a {model_class.config_class.__name__}, got a BertConfig"):
        model_class(BertConfig(**SIZES))
