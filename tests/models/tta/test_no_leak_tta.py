"""No token sees itself: the gradient of logits[i] with respect to the embedding of token i is exactly 0.

Every other gradient must be there, so that the check cannot pass by cutting too much. Each case is one that a
plausible mistake breaks: the mask in the first layer only, keys from the layer before (as in BERT), a kernel that
takes no mask. The last tests plant these mistakes and see the check fail.
"""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from kexue_hf import TtaConfig, TtaForMaskedLM
from kexue_hf.models.tta.layers_tta import TtaLayer
from tests.old_torch import needs_tracing

LENGTH = 6
PADDED = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]])


def model_of(layers: int = 2, implementation: str = "sdpa", **options: Any) -> TtaForMaskedLM:
    torch.manual_seed(0)
    config = TtaConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.5,
        attn_implementation=implementation,
        **options,
    )
    return TtaForMaskedLM(config)


def influences(model: Callable, length: int = LENGTH, mask: torch.Tensor | None = None) -> torch.Tensor:
    """[batch, length, length]: the largest |d logits[i] / d embedding of token j| over i, j."""
    batch_size = 2 if mask is None else len(mask)
    torch.manual_seed(1)
    embeddings = torch.randn(batch_size, length, 16, requires_grad=True)
    weights = torch.randn(40)
    rows = []
    for i in range(length):
        # Once for each row: a compiled graph may be gone after the first look at it.
        logits = model(inputs_embeds=embeddings, attention_mask=mask).logits @ weights
        rows.append(torch.autograd.grad(logits[:, i].sum(), embeddings)[0].abs().amax(-1))
    return torch.stack(rows, 1)


def check(found: torch.Tensor, mask: torch.Tensor | None = None) -> None:
    """The diagonal and all of padding exactly 0, everything else not."""
    length = found.shape[-1]
    real = torch.ones(found.shape[0], length) if mask is None else mask
    seen = real[:, None, :].bool() & ~torch.eye(length, dtype=torch.bool)
    assert (found[~seen] == 0).all()
    assert (found[seen.expand_as(found)] > 0).all()


@pytest.mark.parametrize("query_source", ["mask_embedding", "position"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("layers", [1, 2, 3, 6, 12])
def test_no_token_sees_itself(layers: int, implementation: str, query_source: str) -> None:
    check(influences(model_of(layers, implementation, query_source=query_source).eval()))


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("layers", [1, 12])
def test_with_padding(layers: int, implementation: str) -> None:
    check(influences(model_of(layers, implementation).eval(), mask=PADDED), PADDED)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_under_gradient_checkpointing(implementation: str, reentrant: bool) -> None:
    model = model_of(3, implementation).train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    if not reentrant:
        check(influences(model, mask=PADDED), PADDED)
        return
    # The reentrant kind knows backward() only, once for each forward.
    found = []
    for i in range(LENGTH):
        torch.manual_seed(1)
        embeddings = torch.randn(len(PADDED), LENGTH, 16, requires_grad=True)
        model(inputs_embeds=embeddings, attention_mask=PADDED).logits[:, i].pow(2).sum().backward()
        found.append(embeddings.grad.abs().amax(-1))
    check(torch.stack(found, 1), PADDED)


@needs_tracing
@pytest.mark.parametrize(("implementation", "padded"), [("eager", False), ("sdpa", True)])
def test_compiled(implementation: str, padded: bool) -> None:
    # aot_eager: all of the compiler but the generation of code, which needs a C++ compiler.
    model = model_of(2, implementation).eval()
    mask = PADDED if padded else None
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = influences(compiled, mask=mask)
    check(found, mask)
    torch.testing.assert_close(found, influences(model, mask=mask), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@needs_tracing
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs a C++ compiler")
def test_compiled_to_machine_code() -> None:
    model = model_of(2).eval()
    check(influences(torch.compile(model, fullgraph=True), mask=PADDED), PADDED)


def test_with_a_mask_of_every_pair() -> None:
    pairs = torch.rand(2, 1, LENGTH, LENGTH, generator=torch.Generator().manual_seed(0)) < 0.7
    found = influences(model_of().eval(), mask=pairs)
    assert (found.diagonal(dim1=1, dim2=2) == 0).all()
    assert ((found > 0) == (pairs[:, 0] & ~torch.eye(LENGTH, dtype=torch.bool))).all()


def test_in_training_with_dropout() -> None:
    torch.manual_seed(2)
    model = model_of(3).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    found = influences(model)
    assert (found.diagonal(dim1=1, dim2=2) == 0).all() and (found > 0).any()


class TestTheCheckCanFail:
    def test_without_the_diagonal_mask(self) -> None:
        with pytest.raises(AssertionError):
            check(influences(model_of(mask_diagonal=False).eval()))

    def test_mask_in_the_first_layer_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = model_of(2).eval()
        forward = TtaLayer.forward

        def unmasked(self: TtaLayer, queries: Any, inputs: Any, mask: Any, *rest: Any) -> torch.Tensor:
            second = self is model.bert.encoder.layer[1]
            return forward(self, queries, inputs, torch.ones_like(mask) if second else mask, *rest)

        monkeypatch.setattr(TtaLayer, "forward", unmasked)
        with pytest.raises(AssertionError):
            check(influences(model))

    def test_keys_and_values_from_the_layer_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = model_of(2).eval()
        forward = TtaLayer.forward

        def as_bert(self: TtaLayer, queries: Any, inputs: Any, *rest: Any) -> torch.Tensor:
            second = self is model.bert.encoder.layer[1]
            return forward(self, queries, queries if second else inputs, *rest)

        monkeypatch.setattr(TtaLayer, "forward", as_bert)
        with pytest.raises(AssertionError):
            check(influences(model))

    def test_queries_that_start_from_the_tokens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model = model_of(2).eval()
        embed = model.bert.embeddings.forward

        def leaking(*arguments: Any) -> tuple:
            queries, inputs, _, _ = embed(*arguments)
            return queries + inputs, inputs, None, None

        monkeypatch.setattr(model.bert.embeddings, "forward", leaking)
        with pytest.raises(AssertionError):
            check(influences(model))
