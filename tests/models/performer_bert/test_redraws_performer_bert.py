"""Redraws count optimizer steps, whatever makes them; and models with linear attention under `torch.compile`.

Run this file alone: pytest tests/models/performer_bert/test_redraws_performer_bert.py
"""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments

import kexue_hf
from kexue_hf import PerformerBertConfig, PerformerBertForMaskedLM, use_performer
from kexue_hf.performer.layer_comparison import observed_softmax
from tests.old_torch import OLD_TORCH

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 64, "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
}  # fmt: skip
IDS = torch.randint(1, 50, (2, 12), generator=torch.Generator().manual_seed(1))


def performed(redraw: int = 2):
    torch.manual_seed(0)
    return use_performer(BertForMaskedLM(BertConfig(**SIZES)), "favor+", 8, redraw=redraw).train()


def performer_bert(redraw: int = 2):
    config = PerformerBertConfig(**SIZES, feature_map="favor+", num_features=8, redraw=redraw)
    return PerformerBertForMaskedLM(config).train()


def steps(model) -> set[int]:
    return {int(buffer) for name, buffer in model.named_buffers() if name.endswith("favor_map.steps")}


def draws(model) -> torch.Tensor:
    found = [buffer for name, buffer in model.named_buffers() if name.endswith("favor_map.projection")]
    return torch.stack(found).clone()


def train(model, optimizer, number: int = 1) -> None:
    for _ in range(number):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("make", [performed, performer_bert])
def test_a_trainer_as_it_comes(make, tmp_path: Path) -> None:
    """By default its optimizer is a fused one, which changes weights without their versions."""
    model = make()
    first = draws(model)
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=3, save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    assert OLD_TORCH or "fused" in arguments.optim.value
    row = {"input_ids": IDS[0], "labels": IDS[0]}
    Trainer(model, arguments, train_dataset=[row] * 12).train()
    assert steps(model) == {3} and not torch.equal(draws(model), first)


OPTIMIZERS = {
    "fused": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, fused=True),
    "foreach": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, foreach=True),
    "of_one_weight": lambda parameters: torch.optim.SGD(parameters[-1:], lr=1e-3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_optimizers(name: str) -> None:
    model = performed()
    first = draws(model)
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    train(model, optimizer)
    assert steps(model) == {1} and torch.equal(draws(model), first)
    train(model, optimizer, 4)
    assert steps(model) == {5}
    model.eval()
    train(model, optimizer)
    assert steps(model) == {5}


def test_steps_that_are_none_of_the_models() -> None:
    """Of other weights, of weights that are not trained, and of a scaler that has met an overflow."""
    model, other = performed(), performed()
    train(other, torch.optim.SGD(other.parameters(), lr=1e-3))
    assert (steps(model), steps(other)) == ({0}, {1})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    optimizer.found_inf = torch.ones(())
    optimizer.grad_scale = torch.ones(())
    train(model, optimizer)
    assert steps(model) == {0}
    optimizer.found_inf = torch.zeros(())
    train(model, optimizer)
    assert steps(model) == {1}
    model.requires_grad_(False)
    optimizer.step()
    assert steps(model) == {1}


def test_a_part_that_is_trained_alone() -> None:
    """Each map counts once where its model and the whole take part."""
    for model in (performed(), performer_bert()):
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        model.bert(IDS).last_hidden_state.sum().backward()
        optimizer.step()
        assert steps(model) == {1}
        encoder = model.bert
        del model, optimizer
        optimizer = torch.optim.SGD(encoder.parameters(), lr=1e-3)
        encoder(IDS).last_hidden_state.sum().backward()
        optimizer.step()
        assert steps(encoder) == {2}


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies_count_for_themselves(copied) -> None:
    model = performed()
    train(model, torch.optim.SGD(model.parameters(), lr=1e-3))
    twin = copied(model)
    train(twin, torch.optim.AdamW(twin.parameters(), lr=1e-3, fused=True), 2)
    assert (steps(model), steps(twin)) == ({1}, {3})


def test_steps_that_no_optimizer_of_torch_makes() -> None:
    model = performed()
    wrapped, first = torch.nn.Sequential(model), draws(model)
    kexue_hf.count_performer_step(wrapped)
    kexue_hf.count_performer_step(wrapped)
    assert steps(model) == {2} and not torch.equal(draws(model), first)
    kexue_hf.count_performer_step(wrapped.eval())
    assert steps(model) == {2}
    kexue_hf.count_performer_step(torch.nn.Linear(2, 2))


def test_attaching_again_without_redraws_ends_them() -> None:
    model = performed()
    use_performer(model, "favor+", 8)
    first = draws(model)
    train(model, torch.optim.SGD(model.parameters(), lr=1e-3), 3)
    assert steps(model) == set() and torch.equal(draws(model), first)


@pytest.fixture
def attention():
    """The attention of a layer with a map, as a model calls it; its map can be changed."""
    torch.manual_seed(0)
    layer = use_performer(BertForMaskedLM(BertConfig(**SIZES))).eval().bert.encoder.layer[0].attention.self
    states = torch.randn(1, 40, 16)
    return layer, lambda attend: attend(states)[0]


def test_compiled_attention(attention) -> None:
    """A compiler stops for linear attention alone; while others look at the layers, and afterwards, it is right."""
    layer, call = attention
    seen = []
    compiled = torch.compile(layer, backend="eager")
    with torch.no_grad():
        linear = call(layer)
        torch.testing.assert_close(call(compiled), linear, rtol=0, atol=1e-6)
        with observed_softmax(lambda *shown: seen.append(shown)):
            softmax = call(compiled)
        assert len(seen) == 1 and not torch.equal(softmax, linear)
        torch.testing.assert_close(call(compiled), linear, rtol=0, atol=1e-6)
        # Without a map it is softmax, one graph.
        layer.favor_softmax = True
        torch.testing.assert_close(call(torch.compile(layer, backend="eager", fullgraph=True)), softmax)
