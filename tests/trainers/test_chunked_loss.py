"""The chunked loss compared with the model's own: equal loss and gradients, and no array of all logits."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertForMaskedLM

from kexue_hf import TtaConfig, TtaForMaskedLM, WoBertConfig, WoBertForMaskedLM
from kexue_hf.trainers.chunked_loss import use_chunked_loss

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
KINDS = {
    "tta": (TtaForMaskedLM, TtaConfig),
    "wobert": (WoBertForMaskedLM, WoBertConfig),
    "bert": (BertForMaskedLM, BertConfig),
}


def batch(share: float = 0.9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(7, 50, (3, 9), generator=generator)
    labels = ids.where(torch.rand(ids.shape, generator=generator) < share, -100)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.fixture(params=KINDS)
def model(request):
    torch.manual_seed(0)
    model_class, config_class = KINDS[request.param]
    made = model_class(config_class(**SIZES)).train()
    with torch.no_grad():  # a bias of zeros would hide errors
        made.cls.predictions.bias.normal_()
    return made


def loss_and_gradients(model: nn.Module, bfloat16: bool = False, **more: object) -> tuple[torch.Tensor, list]:
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = model(**batch(), **more).loss
    (3 * loss).backward()
    return loss, [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("chunk", [1, 7, 256])
@pytest.mark.parametrize("items", [None, 40, torch.tensor(40)], ids=["mean", "number", "tensor"])
def test_loss_and_gradients_are_equal(model, chunk, items):
    if items is not None and isinstance(model, BertForMaskedLM):
        pytest.skip("BERT's own loss is divided so by another function")
    more = {} if items is None else {"num_items_in_batch": items}
    loss, gradients = loss_and_gradients(model, **more)
    use_chunked_loss(model, chunk)
    in_chunks, their_gradients = loss_and_gradients(model, **more)
    torch.testing.assert_close(in_chunks, loss)
    torch.testing.assert_close(their_gradients, gradients)
    assert model(**batch()).logits.shape == (1, 0, 50)


def test_bfloat16_equals_float32_up_to_rounding(model):
    loss, gradients = loss_and_gradients(model)
    use_chunked_loss(model, 7)
    rounded, their_gradients = loss_and_gradients(model, bfloat16=True)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, loss, rtol=2e-3, atol=0)
    for found, expected in zip(their_gradients, gradients, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, rtol=0, atol=0.03 * float(expected.abs().max()) + 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_dtype_of_the_weights(model, dtype):
    # 2,000 predictions, 4 at a time: a bfloat16 sum of 500 parts would differ by more than the model's own loss.
    ids = torch.randint(7, 50, (100, 20), generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(model).double()
    exact(input_ids=ids, labels=ids).loss.backward()
    found = {}
    for kind in ("own", "in chunks"):
        one = copy.deepcopy(model).to(dtype)
        if kind == "in chunks":
            use_chunked_loss(one, 4)
        loss = one(input_ids=ids, labels=ids).loss
        loss.backward()
        gradient, expected = (m.cls.predictions.bias.grad.double() for m in (one, exact))
        found[kind] = loss.dtype, float((gradient - expected).norm() / expected.norm())
    assert found["in chunks"][1] <= 1.1 * found["own"][1] + 1e-12
    assert found["in chunks"][0] == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize(
    "road", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_copy_trains_its_own_weights(model, road):
    use_chunked_loss(model)
    copied = road(model)
    with torch.no_grad():
        for weight in copied.parameters():
            weight.mul_(3)
    plain = copy.deepcopy(copied)
    plain._forward_pre_hooks.clear()
    plain._forward_hooks.clear()
    loss, gradients = loss_and_gradients(copied)
    expected, their_gradients = loss_and_gradients(plain)
    assert plain(**batch()).logits.shape != copied(**batch()).logits.shape == (1, 0, 50)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradients, their_gradients)
    assert all(weight.grad is None for weight in model.parameters())


def test_tuples_have_the_loss_first(model):
    expected = model(**batch(), return_dict=False)
    use_chunked_loss(model)
    for found in (model(**batch(), return_dict=False), (model(**batch()).loss, None)):
        torch.testing.assert_close(found[0], expected[0])
    model.config.return_dict = False
    found = model(**batch())
    assert isinstance(found, tuple) and len(found) == len(expected) and torch.allclose(found[0], expected[0])


class Products(TorchDispatchMode):
    """Counts products with a matrix that has as many rows or columns as the vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is torch.ops.aten.mm.default:
            self.number += 50 in (*arguments[0].shape, *arguments[1].shape)
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize(
    ("frozen", "gradients", "products"),
    [((), True, 3), (("decoder",), True, 2), (("transform", "trunk"), True, 2), ((), False, 1)],
    ids=["all", "frozen decoder", "frozen states", "no_grad"],
)
def test_unneeded_gradients_are_not_computed(frozen, gradients, products):
    model = TtaForMaskedLM(TtaConfig(**SIZES, tie_word_embeddings=False)).train()
    parts = {
        "trunk": model.bert,
        "transform": model.cls.predictions.transform,
        "decoder": model.cls.predictions.decoder,
    }
    for name in frozen:
        parts[name].requires_grad_(False)
    use_chunked_loss(model)
    with Products() as counted, torch.set_grad_enabled(gradients):
        loss = model(**batch()).loss
    assert counted.number == products and loss.requires_grad == gradients


class Largest(TorchDispatchMode):
    """Records the largest number of elements in an operation's result."""

    elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_the_logits_are_never_all_in_memory():
    model = TtaForMaskedLM(TtaConfig(**SIZES | {"vocab_size": 3000})).train()
    most = {}
    for name in ("whole", "chunks"):
        with Largest() as largest:
            model(**batch()).loss.backward()
        most[name] = largest.elements
        use_chunked_loss(model, 4)
    assert most == {"whole": 27 * 3000, "chunks": 16 * 3000}  # 16 * 3000 is the embeddings' gradient


def test_evaluation_and_unlabelled_input_are_untouched(model):
    expected = model.eval()(**batch())
    use_chunked_loss(model)
    found = model(**batch())
    torch.testing.assert_close((found.loss, found.logits), (expected.loss, expected.logits))
    unlabelled = {name: tensor for name, tensor in batch().items() if name != "labels"}
    assert model.train()(**unlabelled).logits.shape == (3, 9, 50)


def test_positional_labels_are_left_to_the_model():
    model = TtaForMaskedLM(TtaConfig(**SIZES)).train()
    expected = model(**batch()).loss
    use_chunked_loss(model)
    given = batch()
    found = model(given["input_ids"], given["attention_mask"], None, None, None, given["labels"])
    assert found.loss == expected and found.logits.shape == (3, 9, 50)


@pytest.mark.parametrize("items", [None, torch.tensor(0), torch.tensor(4)], ids=["mean", "0 items", "4 items"])
def test_a_batch_without_labels_to_predict_has_a_zero_gradient(items):
    model = TtaForMaskedLM(TtaConfig(**SIZES)).train()
    use_chunked_loss(model)
    # Without a number to divide by, or with 0, the loss is NaN, like the model's own.
    loss = model(**batch(share=0), num_items_in_batch=items).loss
    loss.backward()
    assert loss == 0 or (not items and loss.isnan())
    assert all((p.grad == 0).all() for p in model.parameters() if p.grad is not None)


def test_removable(model):
    for handle in use_chunked_loss(model):
        handle.remove()
    assert model(**batch()).logits.shape == (3, 9, 50)


def test_models_without_such_a_head_are_refused():
    with pytest.raises(ValueError, match="expected a model with a base model and BERT's masked-word head"):
        use_chunked_loss(nn.Linear(2, 2))
