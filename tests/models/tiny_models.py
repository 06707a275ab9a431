"""Tiny models of all public classes and random batches for them: what the shared model tests run on.

A new model type joins every shared test by one entry in `TYPES`.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from transformers import AutoConfig

import kexue_hf
from kexue_hf.integrations.auto_classes import MODEL_TYPES

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 16,
}


@dataclass(frozen=True)
class TinyType:
    """What the shared tests know about a model type.

    Args:
        full: the class that holds all pre-trained weights; its folder loads into every other class.
        variants: names and configurations of the other networks that the type can be.
        pooling: the configuration field that says what a text classifier reads, and its values.
        tolerance: the largest difference in float64 between equal ways to compute.
        extra_inputs: inputs of a batch of this number of rows that only this type takes.
        position_ids: whether `forward` takes them.
        causal: whether every class, not only its language model, looks back only.
    """

    full: str
    variants: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    pooling: tuple[str, tuple[str, ...]] = ("classifier_pooling", ("pooler", "cls", "mean"))
    tolerance: float = 1e-11
    extra_inputs: Callable[[Any, int], dict[str, Any]] = lambda config, rows: {}
    position_ids: bool = True
    causal: bool = False


TYPES = {
    "wobert": TinyType("WoBertForPreTraining"),
    # Longer texts than its table of distances go another way, in which nothing is rounded to float32.
    "nezha": TinyType(
        "NezhaForPreTraining", {"clipped": {"max_relative_position": 3}}, tolerance=5e-6, position_ids=False
    ),
    "tta": TinyType(
        "TtaForMaskedLM",
        {"position": {"query_source": "position"}, "no_diagonal_mask": {"mask_diagonal": False}},
        ("classifier_pooling", ("mean", "cls")),
    ),
    "performer_bert": TinyType(
        "PerformerBertForMaskedLM",
        {
            "low_order": {"attention_switch_length": 0},
            "favor+": {"attention_switch_length": 0, "feature_map": "favor+"},
        },
        # Feature maps compute in float32.
        tolerance=1e-5,
    ),
    "cln_matcher": TinyType(
        "ClnMatcherForSequenceClassification",
        {"tasks": {"num_tasks": 3}, "absolute": {"num_tasks": 3, "position_embedding_type": "absolute"}},
        ("pooling", ("mean", "cls")),
        extra_inputs=lambda config, rows: {"task_ids": torch.arange(rows) % config.num_tasks},
    ),
    "simsiam": TinyType(
        "SimSiamModel", {"byol": {"target": "ema"}, "layer_norm": {"norm": "layer"}}, ("pooling", ("mean", "cls"))
    ),
    # Its classifier reads the last real token.
    "xiangqi_gpt": TinyType(
        "XiangqiGptForCausalLM", {"board": {"board_input": True, "board_hidden_size": 4}}, ("", ()), causal=True
    ),
}


def class_names(model_type: str | None = None) -> list[str]:
    """The model classes of a type, or of all types."""
    references = [
        reference
        for known in MODEL_TYPES
        for auto, reference in importlib.import_module(f"kexue_hf.models.{known}.auto_map_{known}").AUTO_MAP.items()
        if auto != "AutoConfig" and model_type in (None, known)
    ]
    return [reference.split(".")[1] for reference in references]


def type_of(name: str) -> TinyType:
    return TYPES[getattr(kexue_hf, name).config_class.model_type]


def is_causal(name: str) -> bool:
    return type_of(name).causal or "CausalLM" in name


def heads(*kinds: str) -> list[str]:
    """The classes with a head; with `kinds`, those whose name contains one of them."""
    return [name for name in class_names() if "For" in name and any(kind in name for kind in kinds or ("",))]


def variants(names: list[str]) -> pytest.MarkDecorator:
    """Run a test of `name` and `changes` on these classes; on encoders and pre-trained models in each variant."""
    cases = [pytest.param(name, {}, id=name) for name in names]
    cases += [
        pytest.param(name, changes, id=f"{name}-{variant}")
        for name in names
        for variant, changes in type_of(name).variants.items()
        if name == type_of(name).full or name.endswith("Model")
    ]
    return pytest.mark.parametrize(("name", "changes"), cases)


def tiny_model(name: str, **changes: Any) -> Any:
    model_class = getattr(kexue_hf, name)
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_class.config_class.model_type, **{**SIZES, **changes})
    return model_class(config).eval()


def trained_model(name: str, **changes: Any) -> Any:
    """A model of two layers whose weights are all as large as after training, also those that start at zero."""
    model = tiny_model(name, **{"num_hidden_layers": 2, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return model


def inputs(name: str) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.full((2, 2, 3) if "MultipleChoice" in name else (2, 3), 7)}


def random_batch(model: Any, rows: int = 6, length: int = 9, labels: bool = False) -> dict[str, torch.Tensor]:
    """Random inputs for a model, padded at the end of the first row and at the start of the second."""
    name, generator = type(model).__name__, torch.Generator().manual_seed(length)

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    choices = (rows, 2) if "MultipleChoice" in name else (rows,)
    mask = torch.ones(*choices, length, dtype=torch.long)
    mask[0, ..., length - 3 :] = 0
    mask[1:2, ..., :2] = 0
    batch = {
        "input_ids": integers(SIZES["vocab_size"] - 5, *choices, length) + 5,
        "attention_mask": mask,
        "token_type_ids": integers(2, *choices, length).sort().values,
        **type_of(name).extra_inputs(model.config, rows),
    }
    return {**batch, **random_labels(name, rows, length, integers)} if labels else batch


def random_labels(name: str, rows: int, length: int, integers: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor]:
    """Labels of a head; two thirds of those of tokens are ignored."""
    tokens = integers(SIZES["vocab_size"], rows, length).masked_fill(integers(3, rows, length) > 0, -100)
    if name.endswith("Model"):
        return {}
    if "QuestionAnswering" in name:
        return {"start_positions": integers(length, rows), "end_positions": integers(length, rows)}
    if "ForPreTraining" in name:
        return {"labels": tokens, "next_sentence_label": integers(2, rows)}
    if "TokenClassification" in name:
        return {"labels": tokens.clamp(max=1)}
    return {"labels": tokens if name.endswith("LM") else integers(2, rows)}


def tensors(outputs: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The outputs that are tensors, by name; a cache is none."""
    yield from ((name, value) for name, value in outputs.items() if isinstance(value, torch.Tensor))


def gradients(model: Any, output: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a loss, or of the sum of an output's squares, by every parameter that takes part."""
    model.zero_grad()
    (output if output.dim() == 0 else output.square().sum()).backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
