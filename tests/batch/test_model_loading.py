"""The type of numbers that a command or a batch computes in."""

from pathlib import Path

import pytest
import torch
from transformers.utils.quantization_config import QuantizationMethod

from kexue_hf import TtaForMaskedLM
from kexue_hf.batch.model_loading import load_encoder, load_masked_lm
from tests.pipelines.test_text_scoring import make

STORED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, dtype in STORED.items():
        found[name] = tmp_path_factory.mktemp(name)
        model, tokenizer = make("tta", found[name])
        model.to(dtype).save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
    return found


@pytest.mark.parametrize("load", [load_encoder, load_masked_lm])
@pytest.mark.parametrize(
    ("stored", "asked", "computed"),
    [
        ("float32", "auto", torch.float32),
        ("bfloat16", "auto", torch.bfloat16),
        ("float16", "auto", torch.float32),
        ("float16", "float16", torch.float16),
        ("float32", "bfloat16", torch.bfloat16),
    ],
)
def test_float16_is_computed_on_a_cpu_only_if_asked_for(
    load, stored: str, asked: str, computed: torch.dtype, folders: dict[str, Path]
) -> None:
    model, _ = load(str(folders[stored]), "cpu", asked)
    assert {parameter.dtype for parameter in model.parameters()} == {computed}


def test_a_quantized_model_keeps_its_types(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TtaForMaskedLM, "quantization_method", QuantizationMethod.QUARK, raising=False)
    model, _ = load_masked_lm(str(folders["float16"]), "cpu")
    assert model.dtype == torch.float16
