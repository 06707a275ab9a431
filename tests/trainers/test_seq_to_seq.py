"""Joining source and target for a UniLM, and computing logits only at the target's positions."""

from types import SimpleNamespace

import pytest
import torch
from transformers import Trainer, TrainingArguments

from kexue_hf import WoBertConfig, WoBertForCausalLM
from kexue_hf.trainers.collators import IGNORED, UniLmCollator
from kexue_hf.trainers.selected_logits import compute_target_logits_only

PAD, CLS, SEP = 0, 2, 3
TOKENIZER = SimpleNamespace(pad_token_id=PAD, cls_token_id=CLS, sep_token_id=SEP)


def feature(source: list[int], target: list[int]) -> dict[str, list[int]]:
    return {"input_ids": [CLS, *source, SEP], "labels": [CLS, *target, SEP]}


def test_a_row_is_source_and_target() -> None:
    batch = UniLmCollator(TOKENIZER)([feature([10, 11, 12], [20, 21]), feature([13], [22])])
    assert {name: value.dtype for name, value in batch.items()} == dict.fromkeys(batch, torch.int64)
    assert batch["input_ids"].tolist() == [[CLS, 10, 11, 12, SEP, 20, 21, SEP], [CLS, 13, SEP, 22, SEP, PAD, PAD, PAD]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 8, [1] * 5 + [0] * 3]
    assert batch["labels"].tolist() == [[IGNORED] * 5 + [20, 21, SEP], [IGNORED] * 3 + [22, SEP] + [IGNORED] * 3]


def test_special_tokens_are_optional() -> None:
    collator = UniLmCollator(TOKENIZER)
    bare = collator([{"input_ids": [10, 11], "labels": [20]}])
    for name, value in collator([feature([10, 11], [20])]).items():
        assert torch.equal(value, bare[name]), name


@pytest.mark.parametrize("target", range(1, 7))
def test_the_source_is_cut_and_not_the_target(target: int) -> None:
    batch = UniLmCollator(TOKENIZER, max_length=10)([feature(list(range(10, 30)), list(range(40, 40 + target)))])
    expected = [CLS, *range(10, 10 + 7 - target), SEP, *range(40, 40 + target), SEP]
    assert batch["input_ids"][0].tolist() == expected and len(expected) == 10


def test_a_truncated_target_has_no_sep() -> None:
    collator = UniLmCollator(TOKENIZER, max_length=10, max_target_length=2)
    labels = collator([feature([10], [20, 21, 22]), feature([10], [20, 21])])["labels"]
    assert labels.tolist() == [[IGNORED] * 3 + [20, 21, IGNORED], [IGNORED] * 3 + [20, 21, SEP]]


def test_the_length_is_rounded_up() -> None:
    assert UniLmCollator(TOKENIZER, pad_to_multiple_of=8)([feature([10] * 5, [20] * 3)])["labels"].shape == (1, 16)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"row 1 of the batch: expected a target of at most 6 tokens.*got 7; cut it"):
        UniLmCollator(TOKENIZER, max_length=10)([feature([10], [20]), feature([10], [20] * 7)])
    with pytest.raises(ValueError, match=r"got one without \['pad'\]"):
        UniLmCollator(SimpleNamespace(pad_token_id=None, cls_token_id=CLS, sep_token_id=SEP))
    with pytest.raises(ValueError, match="got max_target_length=7, max_length=10"):
        UniLmCollator(TOKENIZER, max_length=10, max_target_length=7)


def tiny_model() -> WoBertForCausalLM:
    torch.manual_seed(0)
    return WoBertForCausalLM(
        WoBertConfig(
            vocab_size=60,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.2,
        )
    ).train()


FEATURES = [feature([10, 11, 12], [20, 21]), feature([13, 14], [22]), feature([15], [23, 24, 25]), feature([16], [26])]


def loss_and_gradients(model: WoBertForCausalLM, **arguments) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    output = model(**UniLmCollator(TOKENIZER)(FEATURES), **arguments)
    output.loss.backward()
    return output, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("arguments", [{}, {"num_items_in_batch": 31}], ids=["mean", "sum over all"])
def test_loss_and_gradients_are_equal_at_target_positions(arguments: dict) -> None:
    model = tiny_model()
    expected, gradients = loss_and_gradients(model, **arguments)
    handles = compute_target_logits_only(model)
    found, found_gradients = loss_and_gradients(model, **arguments)
    assert found.logits.shape == (1, 11, 60) and expected.logits.shape == (4, 8, 60)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found_gradients, gradients)
    model.eval()
    assert model(**UniLmCollator(TOKENIZER)(FEATURES)).logits.shape == (4, 8, 60)
    for handle in handles:
        handle.remove()
    assert model.train()(**UniLmCollator(TOKENIZER)(FEATURES)).logits.shape == (4, 8, 60)
    with pytest.raises(ValueError, match="got Linear"):
        compute_target_logits_only(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("hooks", [False, True], ids=["plain", "target positions only"])
def test_accumulation_trains_the_same_weights(tmp_path, hooks: bool) -> None:
    """Targets have 1 to 3 words, so a mean of the micro-batches' means would weight them wrongly."""
    trained = []
    for size in (4, 1):
        model = tiny_model()
        if hooks:
            compute_target_logits_only(model)
        arguments = TrainingArguments(
            tmp_path / str(size),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=4 // size,
            max_steps=2,
            optim="sgd",
            learning_rate=0.5,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        Trainer(model, arguments, train_dataset=FEATURES, data_collator=UniLmCollator(TOKENIZER)).train()
        trained.append(model.state_dict())
    for name, value in trained[0].items():
        torch.testing.assert_close(value, trained[1][name], rtol=1e-4, atol=1e-5, msg=name)
