"""Attention in every model class and variant: eager equals sdpa, and padding changes nothing."""

from typing import Any

import pytest
import torch

from tests.models.tiny_models import (
    class_names,
    gradients,
    heads,
    is_causal,
    random_batch,
    tensors,
    trained_model,
    type_of,
    variants,
)


def assert_near(found: torch.Tensor, expected: torch.Tensor, name: str, message: str) -> None:
    tolerance = type_of(name).tolerance
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{message}: {text}")


def of_tokens(value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The rows of an output that belong to real tokens; all of it where it has no row for each token."""
    return value[mask.bool()] if value.shape[: mask.dim()] == mask.shape else value


@variants(class_names())
def test_eager_and_sdpa_agree(name: str, changes: dict[str, Any]) -> None:
    """Outputs and gradients."""
    model = trained_model(name, **changes).double()
    batch = random_batch(model)
    # What padding attends to in a causal model depends on the implementation.
    real = batch["attention_mask"] if is_causal(name) else torch.ones(())
    found = []
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        outputs = {key: of_tokens(value, real) for key, value in tensors(model(**batch))}
        found.append({**outputs, **gradients(model, next(iter(outputs.values())))})
    assert found[0].keys() == found[1].keys()
    for key, value in found[0].items():
        assert value.isfinite().all(), key
        assert_near(value, found[1][key], name, key)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@variants(class_names())
def test_a_text_of_padding_alone_is_finite(name: str, changes: dict[str, Any], attention: str) -> None:
    model = trained_model(name, attn_implementation=attention, **changes)
    batch = random_batch(model)
    batch["attention_mask"][2] = 0
    assert all(value.isfinite().all() for _, value in tensors(model(**batch)))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@variants(heads())
def test_padding_changes_nothing(name: str, changes: dict[str, Any], attention: str) -> None:
    """Each text gives alone what it gives in a padded batch, whatever ids the padding has."""
    if name in heads("SequenceClassification", "MultipleChoice") and "mean" in type_of(name).pooling[1]:
        changes = {**changes, type_of(name).pooling[0]: "mean"}
    model = trained_model(name, attn_implementation=attention, **changes).double()
    batch = random_batch(model, rows=3)
    if name in heads("PreTraining", "NextSentence"):
        # They read the first token, whatever it is.
        batch["attention_mask"] = batch["attention_mask"].sort(dim=-1, descending=True).values
    if type_of(name).position_ids:
        batch["position_ids"] = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    together = dict(tensors(model(**batch)))
    for row, mask in enumerate(batch["attention_mask"].bool()):
        # The choices of a question are padded alike.
        real = mask.reshape(-1, 9)[0]
        alone = {
            key: value[row : row + 1, ..., real] if value.shape[-1] == 9 else value[row : row + 1]
            for key, value in batch.items()
        }
        outputs = dict(tensors(model(**alone)))
        assert outputs.keys() == together.keys() and bool(real.all()) == (row == 2)
        for key, expected in outputs.items():
            found = together[key][row]
            assert_near(found[real] if found.shape[:1] == (9,) else found, expected[0], name, key)


@variants([name for name in class_names() if name.endswith("Model")])
def test_attentions_are_probabilities(name: str, changes: dict[str, Any]) -> None:
    model = trained_model(name, attn_implementation="eager", **changes)
    batch = random_batch(model)
    attentions = model(**batch, output_attentions=True).attentions
    assert len(attentions) == 2
    for weights in attentions:
        assert weights.shape == (6, 2, 9, 9)
        torch.testing.assert_close(weights.sum(-1), torch.ones(6, 2, 9), rtol=0, atol=1e-5)
        # Padding on the left sees no real token if it looks back only.
        assert not weights[0, ..., 6:].any() and not weights[1, :, 2 * is_causal(name) :, :2].any()


@pytest.mark.parametrize("reentrant", [False, True])
@variants(heads())
def test_gradient_checkpointing_changes_nothing(name: str, changes: dict[str, Any], reentrant: bool) -> None:
    found = []
    for checkpointing in (False, True):
        model = trained_model(name, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **changes).train()
        if checkpointing:
            # The name changed in the course of transformers 5.
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": reentrant})
        found.append(gradients(model, model(**random_batch(model, labels=True)).loss))
    torch.testing.assert_close(*found)
