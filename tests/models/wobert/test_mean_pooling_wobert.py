"""`classifier_pooling="mean"`: padding never matters, whatever form the mask has."""

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional

import kexue_hf
from kexue_hf import WoBertConfig
from kexue_hf.models.wobert.modeling_wobert import masked_mean
from tests.models.tiny_models import tiny_model

HEADS = ["WoBertForSequenceClassification", "WoBertForMultipleChoice"]
LENGTHS = (9, 5, 1, 7)


def mean_model(head: str = HEADS[0], **changes):
    # Weights so large that tokens differ by more than the rounding.
    sizes = {"vocab_size": 50, "num_hidden_layers": 2, "initializer_range": 0.3}
    return tiny_model(head, classifier_pooling="mean", **sizes, **changes)


def padded(head: str = HEADS[0], extra: int = 0, side: str = "right") -> dict[str, torch.Tensor]:
    """Texts of LENGTHS tokens, padded to 9 + `extra`: [4, length], for multiple choice [2, 2, length]."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.zeros(len(LENGTHS), max(LENGTHS) + extra, dtype=torch.long)
    mask, positions = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        place = slice(0, length) if side == "right" else slice(ids.shape[1] - length, None)
        ids[row, place] = torch.randint(1, 50, (length,), generator=generator)
        mask[row, place] = 1
        positions[row, place] = torch.arange(length)
    batch = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    if head == "WoBertForMultipleChoice":
        batch = {name: value.reshape(2, 2, -1) for name, value in batch.items()}
    return batch


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("head", HEADS)
def test_the_logits_are_those_of_the_mean_of_each_text_alone(head: str, attention: str) -> None:
    model = mean_model(head).double()
    model.set_attn_implementation(attention)
    logits = model(**padded(head)).logits.reshape(len(LENGTHS), -1)
    ids = padded()["input_ids"]
    for row, length in enumerate(LENGTHS):
        states = model.bert(input_ids=ids[row : row + 1, :length]).last_hidden_state
        expected = functional.linear(states.mean(1), model.classifier.weight, model.classifier.bias)
        torch.testing.assert_close(logits[row], expected[0], rtol=0, atol=1e-12)
    assert logits.std(0).min() > 1e-3


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(head: str, side: str) -> None:
    model = mean_model(head).double()
    expected = model(**padded(head)).logits
    torch.testing.assert_close(model(**padded(head, extra=6, side=side)).logits, expected, rtol=0, atol=1e-12)
    unmasked = {name: value for name, value in padded(head, extra=6).items() if name != "attention_mask"}
    assert (model(**unmasked).logits - expected).abs().max() > 1e-3, "the mask does matter"


@pytest.mark.parametrize("form", ["boolean", "added"])
def test_a_mask_for_each_query_means_the_same(form: str) -> None:
    model, batch = mean_model().double(), padded(extra=3)
    expected = model(**batch).logits
    length = batch["input_ids"].shape[1]
    mask = batch["attention_mask"].bool()[:, None, None, :].expand(-1, 1, length, -1)
    if form == "added":
        mask = torch.zeros(mask.shape, dtype=torch.double).masked_fill(~mask, torch.finfo(torch.double).min)
    torch.testing.assert_close(model(**batch | {"attention_mask": mask}).logits, expected, rtol=0, atol=1e-12)


def test_without_a_mask_every_token_counts() -> None:
    model = mean_model().double()
    ids = {"input_ids": padded()["input_ids"][:1]}
    all_real = ids | {"attention_mask": torch.ones_like(ids["input_ids"])}
    torch.testing.assert_close(model(**ids).logits, model(**all_real).logits, rtol=0, atol=1e-12)
    embeds = {"inputs_embeds": model.get_input_embeddings()(ids["input_ids"])}
    torch.testing.assert_close(model(**embeds).logits, model(**ids).logits, rtol=0, atol=1e-12)


def test_the_encoder_itself_gives_the_mean_in_every_call() -> None:
    encoder, batch = mean_model().bert, padded()
    expected = masked_mean(encoder(**batch).last_hidden_state, batch["attention_mask"])
    positions = batch["position_ids"]
    torch.testing.assert_close(encoder(**batch, return_dict=False)[1], expected)
    positional = encoder(batch["input_ids"], batch["attention_mask"], position_ids=positions)
    torch.testing.assert_close(positional.pooler_output, expected)


def test_the_sum_is_made_in_float32_and_leaves_padding_out() -> None:
    """1,000 times 100 is more than float16 holds."""
    states = torch.full((1, 1002, 4), 100.0, dtype=torch.float16)
    states[:, 1000], states[:, 1001] = float("inf"), float("nan")
    mask = (torch.arange(1002) < 1000).long()[None]
    mean = masked_mean(states, mask)
    assert mean.dtype == torch.float16 and torch.equal(mean, torch.full((1, 4), 100.0, dtype=torch.float16))
    assert torch.equal(masked_mean(states, torch.zeros_like(mask)), torch.zeros_like(mean))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    model = mean_model()
    expected = model(**padded()).logits
    logits = copy.deepcopy(model).to(dtype)(**padded()).logits
    assert logits.dtype == dtype
    torch.testing.assert_close(logits.float(), expected, rtol=0.05, atol=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(**padded()).logits.float(), expected, rtol=0.05, atol=0.1)


def test_padding_gets_no_gradient() -> None:
    batch = padded(extra=3)
    del batch["position_ids"]
    model = mean_model().train()
    model(**batch, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
    # Padding is id 0, whose row is frozen anyway; its positions show it.
    positions = model.bert.embeddings.position_embeddings.weight.grad
    assert positions[: max(LENGTHS)].abs().min() > 0 and not positions[max(LENGTHS) :].any()


def test_it_is_saved_and_has_no_weights(tmp_path: Path) -> None:
    model = mean_model(classifier_dropout=0.0)
    names = set(mean_model().state_dict())
    cls = kexue_hf.WoBertForSequenceClassification(
        WoBertConfig(**{**model.config.to_dict(), "classifier_pooling": "cls"})
    )
    assert names == set(cls.state_dict())
    model.save_pretrained(tmp_path)
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(again(**padded()).logits, model(**padded()).logits)
