"""Tiny matchers whose tasks differ, and a batch for them."""

from typing import Any

import torch

import kexue_hf
from kexue_hf import ClnMatcherConfig

NAMES = ["loose", "strict", "短长匹配A类"]
SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    # Heads of 6: their root is no power of two, so that dividing by it is not multiplying by its inverse.
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "max_position_embeddings": 12,
}
LENGTH = 7
MASK = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [1] * 7])
IDS = torch.randint(5, 40, (4, LENGTH), generator=torch.Generator().manual_seed(3))
SEGMENTS = torch.arange(LENGTH).ge(3).long().expand(4, -1)
MIXED = torch.tensor([2, 0, 1, 0])
ENCODER, CLASSIFIER = "ClnMatcherModel", "ClnMatcherForSequenceClassification"


def config_of(**options: Any) -> ClnMatcherConfig:
    return ClnMatcherConfig(**{**SIZES, "task_names": NAMES, "task_embedding_size": 10, **options})


def randomize(model: Any) -> Any:
    """Every parameter, the kernels of the layer norms too: as after training."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return model


def tiny(name: str = CLASSIFIER, **options: Any) -> Any:
    torch.manual_seed(0)
    return randomize(getattr(kexue_hf, name)(config_of(**options)).eval())


def aligned(model: Any) -> Any:
    """With parameters where torch puts them: a file's, mapped into memory, begin anywhere, and a matrix product that
    begins elsewhere may round otherwise."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model
