"""Every trained weight has a gradient, so DDP need not search for unused parameters."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining

from kexue_hf import NezhaConfig, NezhaForMaskedLM, TtaConfig, TtaForMaskedLM, WoBertConfig, WoBertForMaskedLM
from kexue_hf.trainers.pretraining import freeze_unused_bias

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "type_vocab_size": 2,
}
KINDS = [
    (TtaForMaskedLM, TtaConfig),
    (WoBertForMaskedLM, WoBertConfig),
    (NezhaForMaskedLM, NezhaConfig),
    (BertForMaskedLM, BertConfig),
    (BertForPreTraining, BertConfig),
]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize(("model_class", "config_class"), KINDS, ids=lambda value: value.__name__)
def test_trained_weights_have_gradients(model_class, config_class, tied):
    model = model_class(config_class(**SIZES, tie_word_embeddings=tied)).train()
    frozen = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    freeze_unused_bias(model)
    ids = torch.tensor([[7, 8, 9]])
    more = {"next_sentence_label": torch.tensor([1])} if model_class is BertForPreTraining else {}
    model(input_ids=ids, labels=ids, **more).loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []
    now = [name for name, weight in model.named_parameters() if not weight.requires_grad]
    assert now == (frozen if tied else [*frozen, "cls.predictions.bias"])


def test_other_models_are_left_alone():
    model = torch.nn.Linear(2, 2)
    freeze_unused_bias(model)
    assert all(weight.requires_grad for weight in model.parameters())
