"""PEFT on every model type: where adapters go by default, and sentence vectors of a model with adapters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, TaskType, get_peft_model

from kexue_hf import sentence_vectors
from kexue_hf.integrations.auto_classes import MODEL_TYPES
from tests.fresh_process import TORCH, run_forked
from tests.models.test_keywords import class_names, tiny_model
from tests.pipelines.correction_models import make

ENCODERS = {
    getattr(tiny_model(name).config, "model_type", ""): name for name in class_names() if name.endswith("Model")
}


def test_every_model_type_has_an_encoder() -> None:
    assert set(ENCODERS) == set(MODEL_TYPES)


@pytest.mark.parametrize("config", [LoraConfig, IA3Config], ids=["lora", "ia3"])
@pytest.mark.parametrize("name", ENCODERS.values())
def test_adapters_need_no_target_modules(name: str, config: Any) -> None:
    adapted = get_peft_model(tiny_model(name), config())
    places = {module.split(".")[-1] for module in adapted.targeted_module_names}
    assert places == ({"query", "value"} if config is LoraConfig else {"key", "value", "dense"})
    assert any(parameter.requires_grad for parameter in adapted.parameters())


@pytest.mark.parametrize("order", ["kexue_hf, peft", "peft, kexue_hf"])
def test_whichever_is_imported_first(order: str) -> None:
    code = f"import {order}\nfrom peft.utils import constants\nprint(constants." + (
        "TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING['nezha'])"
    )
    assert run_forked(TORCH, code).strip() == "['query', 'value']"


@pytest.mark.parametrize("task", [None, TaskType.FEATURE_EXTRACTION, TaskType.TOKEN_CLS])
def test_sentence_vectors_of_a_wrapped_model(task: TaskType | None, tmp_path: Path) -> None:
    model, tokenizer = make("tta", tmp_path)
    texts = ["今天天气不错", "天气"]
    before = sentence_vectors(model, tokenizer, texts)
    adapted = get_peft_model(model, LoraConfig(task_type=task, target_modules=["query", "value"]))
    # B starts at 0, so that nothing changes; with another B the vectors are the adapted network's.
    np.testing.assert_array_equal(sentence_vectors(adapted, tokenizer, texts), before)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    assert np.abs(sentence_vectors(adapted, tokenizer, texts) - before).max() > 1e-3
    merged = adapted.merge_and_unload()
    np.testing.assert_allclose(
        sentence_vectors(adapted, tokenizer, texts), sentence_vectors(merged, tokenizer, texts), atol=1e-5
    )


def test_learned_prompts_are_refused(tmp_path: Path) -> None:
    model, tokenizer = make("bert", tmp_path)
    adapted = get_peft_model(
        model, PromptTuningConfig(task_type=TaskType.TOKEN_CLS, num_virtual_tokens=2, num_layers=1, token_dim=16)
    )
    with pytest.raises(ValueError, match="learned prompts"):
        sentence_vectors(adapted, tokenizer, ["天气"])
