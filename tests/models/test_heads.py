"""What the heads of every model type compute: losses, classifiers, pooling."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional

from tests.models.tiny_models import gradients, heads, random_batch, tensors, trained_model, type_of, variants

TEXT_CLASSIFIERS = heads("SequenceClassification")


@variants(heads())
def test_micro_batches_give_the_loss_of_the_whole_batch(name: str, changes: dict[str, Any]) -> None:
    """The sum of sum / num_items_in_batch over unequal micro-batches is the whole batch's mean; gradients too.

    The next-sentence part is weighted by a micro-batch's share of masked words, so only the MLM part is compared.
    """
    model = trained_model(name, **changes).double()
    batch = random_batch(model, labels=True)
    batch.pop("next_sentence_label", None)
    whole = model(**batch).loss
    expected = gradients(model, whole)
    counted = batch.get("labels", batch.get("start_positions"))
    items = (counted[:, 1:] if name.endswith("CausalLM") else counted).ne(-100).sum()
    total, found = 0.0, {key: torch.zeros_like(value) for key, value in expected.items()}
    for part in (slice(0, 1), slice(1, 3), slice(3, 6)):
        loss = model(**{key: value[part] for key, value in batch.items()}, num_items_in_batch=items).loss
        total += loss.item()
        for key, gradient in gradients(model, loss).items():
            found[key] += gradient
    assert total == pytest.approx(whole.item(), rel=1e-12)
    tolerance = type_of(name).tolerance
    torch.testing.assert_close(found, expected, rtol=max(1e-9, tolerance), atol=max(1e-12, tolerance))


@pytest.mark.parametrize("name", heads("ForPreTraining"))
def test_the_next_sentence_part_is_weighted_by_the_share_of_masked_words(name: str) -> None:
    model = trained_model(name).double()
    batch = random_batch(model, labels=True)
    words = {key: value for key, value in batch.items() if key != "next_sentence_label"}
    pairs = {key: value for key, value in batch.items() if key != "labels"}
    torch.testing.assert_close(model(**batch).loss, model(**words).loss + model(**pairs).loss)
    items = batch["labels"].ne(-100).sum()
    part, words, pairs = ({key: value[:2] for key, value in given.items()} for given in (batch, words, pairs))
    share = part["labels"].ne(-100).sum() / items
    expected = model(**words, num_items_in_batch=items).loss + share * model(**pairs).loss
    torch.testing.assert_close(model(**part, num_items_in_batch=items).loss, expected, check_dtype=False)


@pytest.mark.parametrize("name", heads("MaskedLM", "TokenClassification"))
def test_the_loss_of_tokens_is_their_mean_cross_entropy(name: str) -> None:
    model = trained_model(name)
    batch = random_batch(model, labels=True)
    outputs = model(**batch)
    expected = functional.cross_entropy(outputs.logits.flatten(0, 1), batch.pop("labels").flatten())
    torch.testing.assert_close(outputs.loss, expected)
    assert model(**batch).loss is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", heads("TokenClassification", "SequenceClassification"))
def test_the_loss_of_half_precision_weights_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    """20,000 labels of about log 50 each: their sum overflows float16."""
    model = trained_model(name, num_labels=50, num_hidden_layers=1).to(dtype)
    ids = torch.full((20000, 1), 7)
    labels = torch.ones_like(ids[:, 0] if name in TEXT_CLASSIFIERS else ids)
    with torch.no_grad():
        loss, logits = model(ids, labels=labels, num_items_in_batch=labels.numel()).to_tuple()[:2]
    assert loss.dtype == torch.float32 and logits.dtype == dtype
    torch.testing.assert_close(loss, functional.cross_entropy(logits.float().flatten(0, -2), labels.flatten()))


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem"),
    [
        (1, torch.randn(6), "regression"),
        (3, torch.randn(6, 3), "regression"),
        (3, torch.ones(6, 3), "multi_label_classification"),
        (3, torch.ones(6, dtype=torch.long), "single_label_classification"),
    ],
    ids=["regression_1", "regression_3", "multi_label", "single_label"],
)
@pytest.mark.parametrize("name", TEXT_CLASSIFIERS)
def test_classification_losses(name: str, num_labels: int, labels: torch.Tensor, problem: str) -> None:
    model = trained_model(name, num_labels=num_labels, problem_type=problem)
    batch = {**random_batch(model), "labels": labels}
    output = model(**batch)
    expected = {
        "regression": lambda: functional.mse_loss(output.logits.squeeze(), labels),
        "multi_label_classification": lambda: functional.binary_cross_entropy_with_logits(output.logits, labels),
        "single_label_classification": lambda: functional.cross_entropy(output.logits, labels),
    }[problem]()
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(model(**batch, num_items_in_batch=2 * labels.numel()).loss, expected / 2)
    # Without a problem type the labels say which one it is.
    if problem != "regression" or num_labels == 1:
        model.config.problem_type = None
        torch.testing.assert_close(model(**batch).loss, expected)
        assert model.config.problem_type == problem


@pytest.mark.parametrize("name", heads("SequenceClassification", "TokenClassification"))
def test_classes_are_integers_of_any_type(name: str) -> None:
    model = trained_model(name, problem_type="single_label_classification")
    batch = random_batch(model, labels=True)
    assert torch.equal(model(**{**batch, "labels": batch["labels"].int()}).loss, model(**batch).loss)
    with pytest.raises(RuntimeError):
        model(**{**batch, "labels": batch["labels"] + 0.5})


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        (name, pooling)
        for name in heads("SequenceClassification", "MultipleChoice")
        for pooling in type_of(name).pooling[1]
    ],
)
def test_a_classifier_reads_what_the_configuration_says(name: str, pooling: str, tmp_path: Path) -> None:
    option = type_of(name).pooling[0]
    model = trained_model(name, **{option: pooling})
    batch = random_batch(model)
    flat = {key: value.flatten(0, -2) if value.dim() == 3 else value for key, value in batch.items()}
    outputs = model.base_model(**flat)
    real = flat["attention_mask"][..., None]
    text = {
        "pooler": lambda: outputs.pooler_output,
        "cls": lambda: outputs.last_hidden_state[:, 0],
        "mean": lambda: (outputs.last_hidden_state * real).sum(1) / real.sum(1),
    }[pooling]()
    logits = model(**batch).logits
    torch.testing.assert_close(logits, model.classifier(text).view_as(logits))
    assert any(".pooler." in key for key in model.state_dict()) == (pooling == "pooler")
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved[option] == pooling
    # An encoder that is loaded from the folder must know whether the file has a pooler.
    assert saved.get("add_pooling_layer", False) is (pooling == "pooler")


@pytest.mark.parametrize(
    "name", [name for name in heads() if name.startswith(("WoBert", "PerformerBert")) and "Causal" not in name]
)
def test_heads_equal_berts_own(name: str) -> None:
    """Outputs, their names and losses; a Performer BERT in texts up to its switch length."""
    model = trained_model(name)
    plain = getattr(transformers, name[name.index("Bert") :])(transformers.BertConfig(**{
        key: value for key, value in model.config.to_dict().items() if hasattr(transformers.BertConfig(), key)
    })).eval()  # fmt: skip
    missing, unexpected = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all("favor_map" in key for key in unexpected)
    batch = random_batch(model, labels=True)
    ours, theirs = model(**batch), plain(**batch)
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key])
    unnamed = model(**batch, return_dict=False)
    assert isinstance(unnamed, tuple) and all(map(torch.equal, unnamed, ours.to_tuple()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@variants(heads("ForPreTraining", "MaskedLM", "SequenceClassification"))
def test_half_precision_comes_near(name: str, changes: dict[str, Any], dtype: torch.dtype) -> None:
    model = trained_model(name, **changes)
    batch = random_batch(model)
    for key, expected in tensors(model(**batch)):
        found = copy.deepcopy(model).to(dtype)(**batch)[key]
        assert found.dtype == dtype and (found.float() - expected).norm() < 0.1 * expected.norm(), key
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert (model(**batch)[key].float() - expected).norm() < 0.1 * expected.norm(), key
