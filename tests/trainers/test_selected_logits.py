"""Logits at masked positions only give the loss and gradients of the unmodified model."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM

from kexue_hf import WoBertConfig, WoBertForMaskedLM
from kexue_hf.trainers.selected_logits import compute_masked_logits_only

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (3, 9), generator=generator)
    labels = ids.where(torch.rand(ids.shape, generator=generator) < 0.3, -100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.fixture(params=[(WoBertForMaskedLM, WoBertConfig), (BertForMaskedLM, BertConfig)], ids=["wobert", "bert"])
def model(request):
    torch.manual_seed(0)
    model_class, config_class = request.param
    return model_class(config_class(**SIZES)).train()


def loss_and_gradients(model: nn.Module, **arguments: object) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    output = model(**batch(), **arguments)
    output.loss.backward()
    return output.loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_loss_and_gradients_are_equal(model):
    arguments = {"num_items_in_batch": 20} if isinstance(model, WoBertForMaskedLM) else {}
    loss, gradients = loss_and_gradients(model, **arguments)
    compute_masked_logits_only(model)
    few_loss, few_gradients = loss_and_gradients(model, **arguments)
    torch.testing.assert_close(few_loss, loss)
    torch.testing.assert_close(few_gradients, gradients)
    assert model(**batch()).logits.shape == (1, int((batch()["labels"] != -100).sum()), 50)


def test_evaluation_and_unlabelled_input_are_untouched(model):
    compute_masked_logits_only(model)
    unlabelled = {name: tensor for name, tensor in batch().items() if name != "labels"}
    assert model(**unlabelled).logits.shape == (3, 9, 50)
    model.eval()
    assert model(**batch()).logits.shape == (3, 9, 50)


def test_a_batch_without_labels_to_predict_has_a_zero_gradient(model):
    compute_masked_logits_only(model)
    nothing = {**batch(), "labels": torch.full((3, 9), -100)}
    if isinstance(model, WoBertForMaskedLM):
        loss = model(**nothing, num_items_in_batch=torch.tensor(4)).loss
        loss.backward()
        assert loss == 0


def test_removable(model):
    for handle in compute_masked_logits_only(model):
        handle.remove()
    assert model(**batch()).logits.shape == (3, 9, 50)


def test_models_without_a_base_model_are_refused():
    with pytest.raises(ValueError, match="expected a model with a base model"):
        compute_masked_logits_only(nn.Linear(2, 2))
