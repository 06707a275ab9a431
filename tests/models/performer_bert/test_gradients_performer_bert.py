"""Gradients of linear attention under autocast, create_graph and checkpoints, of changed maps and of frozen inputs.

That they are the oracle's is in test_attention_performer_bert.py. Run this file alone: pytest
tests/models/performer_bert/test_gradients_performer_bert.py
"""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from kexue_hf.models.performer_bert.attention_performer_bert import LinearAttentionState, linear_attention
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FEATURE_MAPS, create_feature_map
from kexue_hf.models.performer_bert.gradients_performer_bert import recomputed
from kexue_hf.performer.exact_attention import naive_attention
from tests.models.performer_bert.maps import filled, states

WAYS = pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
DEFAULTS = pytest.mark.parametrize("name", FEATURE_MAPS)


@DEFAULTS
@WAYS
@pytest.mark.parametrize("which", [0, 1, 2], ids=["query", "key", "value"])
def test_second_derivatives_are_right_or_refused(name: str, causal: bool, which: int) -> None:
    """By `grad`, which does not meet the error that torch's own decorator leaves behind, and by `hvp`."""
    feature_map, inputs = filled(name, dim=3, features=8), list(states(5, batch=1, dim=3))

    def loss(attention, state: torch.Tensor, **options) -> torch.Tensor:
        arguments = [*inputs[:which], state, *inputs[which + 1 :]]
        return attention(*arguments, feature_map, causal=causal, epsilon=0.0, **options).square().sum()

    def ours(state: torch.Tensor) -> torch.Tensor:
        return loss(linear_attention, state, chunk=2)

    direction = torch.ones_like(inputs[which])
    if causal:
        expected = torch.autograd.functional.hvp(lambda state: loss(naive_attention, state), inputs[which], direction)
        found = torch.autograd.functional.hvp(ours, inputs[which], direction)
        torch.testing.assert_close(found[1], expected[1], rtol=1e-10, atol=1e-10)
        return
    with pytest.raises(RuntimeError, match="first derivatives only, got create_graph=True") as error:
        torch.autograd.functional.hvp(ours, inputs[which], direction)
    assert "\n" not in str(error.value)
    state = inputs[which].requires_grad_()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(ours(state), state, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        ours(state).backward(create_graph=True)


def test_a_tensor_that_is_given_twice_has_two_gradients() -> None:
    x = torch.tensor([2.0, 3.0], dtype=torch.float64, requires_grad=True)

    def product(a: torch.Tensor, pair: tuple[torch.Tensor, int]) -> torch.Tensor:
        return a.square() * pair[0] ** pair[1]

    output = recomputed(product, x, (x, 3))
    (first,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(first, 5 * x**4)
    torch.testing.assert_close(second, 20 * x**3)


@DEFAULTS
@WAYS
def test_autocast_around_the_backward_pass_stays_outside(name: str, causal: bool) -> None:
    feature_map = filled(name)
    learned = [parameter for parameter in feature_map.parameters() if parameter.requires_grad]
    found = []
    for inside in (False, True):
        inputs = [tensor.float().requires_grad_() for tensor in states(20)]
        output = linear_attention(*inputs, feature_map, causal=causal, chunk=8)
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            found.append(torch.autograd.grad(output.square().sum(), inputs + learned))
    for gradient, expected in zip(*found, strict=True):
        assert torch.equal(gradient, expected)


@DEFAULTS
@WAYS
def test_a_map_that_changes_before_the_backward_pass_is_noticed_or_of_no_effect(name: str, causal: bool) -> None:
    names = [name for name, _ in (*filled(name).named_buffers(), *filled(name).named_parameters())]
    for changed in names:
        inputs = [tensor.float().requires_grad_() for tensor in states(12)]
        feature_map = filled(name)
        output = linear_attention(*inputs, feature_map, causal=causal, chunk=5).square().sum()
        wanted = torch.autograd.grad(output, inputs, retain_graph=True)
        with torch.no_grad():
            getattr(feature_map, changed).mul_(2).add_(0.5)
        try:
            found = torch.autograd.grad(output, inputs)
        except RuntimeError as error:
            assert "modified by an inplace operation" in str(error)
            assert changed not in ("linear", "quadratic", "saturation")
            continue
        for gradient, expected in zip(found, wanted, strict=True):
            assert torch.equal(gradient, expected), changed


@DEFAULTS
@WAYS
@pytest.mark.parametrize("reentrant", [False, True], ids=["not reentrant", "reentrant"])
def test_attention_inside_a_checkpoint(name: str, causal: bool, reentrant: bool) -> None:
    feature_map = filled(name)
    inputs = [tensor.requires_grad_() for tensor in states(12)]

    def attention(*tensors: torch.Tensor) -> torch.Tensor:
        return linear_attention(*tensors, feature_map, causal=causal, chunk=5).square()

    # `grad` is not for reentrant checkpoints.
    checkpoint(attention, *inputs, use_reentrant=reentrant).sum().backward()
    found = [tensor.grad for tensor in inputs]
    for gradient, expected in zip(found, torch.autograd.grad(attention(*inputs).sum(), inputs), strict=True):
        torch.testing.assert_close(gradient, expected)


@DEFAULTS
def test_gradients_go_through_a_state(name: str) -> None:
    feature_map = filled(name)
    inputs = [tensor.requires_grad_() for tensor in states(15)]
    state = LinearAttentionState(feature_map, chunk=4)
    steps = [
        state.step(*(tensor[:, :, part] for tensor in inputs)) for part in (slice(0, 6), slice(6, 7), slice(7, 15))
    ]
    found = torch.autograd.grad(torch.cat(steps, dim=2).square().sum(), inputs)
    expected = torch.autograd.grad(naive_attention(*inputs, feature_map, causal=True).square().sum(), inputs)
    for gradient, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


@DEFAULTS
@WAYS
def test_each_gradient_alone_is_that_among_all(name: str, causal: bool) -> None:
    """Of inputs, and of a map: what nobody asks for is not computed."""
    feature_map = filled(name).double()
    constants = [*feature_map.buffers(), *feature_map.parameters()]
    inputs, mask = list(states(11)), torch.arange(11).expand(2, -1) < torch.tensor([[11], [7]])
    everything = [tensor.requires_grad_() for tensor in (*inputs, *constants)]

    def loss() -> torch.Tensor:
        return linear_attention(*inputs, feature_map, key_mask=mask, causal=causal, chunk=4).square().sum()

    wanted = torch.autograd.grad(loss(), everything, allow_unused=True)
    for tensor in everything:
        tensor.requires_grad_(False)
    for tensor, expected in zip(everything, wanted, strict=True):
        if expected is not None:
            tensor.requires_grad_()
            found = torch.autograd.grad(loss(), tensor)[0]
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
            tensor.requires_grad_(False)


@pytest.mark.parametrize("name", ["favor+", "favor++"])
@WAYS
@pytest.mark.parametrize(("std", "tolerance"), [(0.25, 1e-4), (0.5, 1e-3), (1.0, 0.05)])
def test_gradients_with_the_epsilon_that_is_used_are_near_finite_differences(
    name: str, causal: bool, std: float, tolerance: float
) -> None:
    feature_map = create_feature_map(name, 16, 64)
    inputs = [tensor.requires_grad_() for tensor in states(24, std=std, dim=16, batch=1, heads=1)]
    above = torch.randn(1, 1, 24, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(5))

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return (linear_attention(*tensors, feature_map, causal=causal) * above).sum()

    for which, gradient in enumerate(torch.autograd.grad(loss(*inputs), inputs)):
        # Along the gradient, and another way.
        other = torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(which))
        for direction in (gradient / gradient.norm(), other / other.norm()):
            with torch.no_grad():
                ends = [
                    loss(*inputs[:which], inputs[which] + sign * 1e-5 * direction, *inputs[which + 1 :])
                    for sign in (1, -1)
                ]
            slope = (ends[0] - ends[1]) / 2e-5
            assert abs(slope - (gradient * direction).sum()) < tolerance * gradient.norm()


@DEFAULTS
@WAYS
def test_what_is_empty_has_gradients(name: str, causal: bool) -> None:
    feature_map = filled(name).requires_grad_()
    for sizes in ((2, 0, 7), (0, 4, 7), (2, 4, 0)):
        batch, length, value_dim = sizes
        query, key = (torch.randn(batch, 2, length, 6, requires_grad=True) for _ in range(2))
        value = torch.randn(batch, 2, length, value_dim, requires_grad=True)
        output = linear_attention(query, key, value, feature_map, causal=causal, chunk=3)
        assert output.shape == (batch, 2, length, value_dim)
        output.sum().backward()
        assert not any(tensor.grad.any() for tensor in (query, key, value) if tensor.grad is not None)
    if not causal:
        output = linear_attention(
            torch.randn(1, 2, 3, 6, requires_grad=True), key[:1, :, :0], value[:1, :, :0], feature_map
        )
        output.sum().backward()


@WAYS
def test_gradients_of_constants_of_an_empty_batch(causal: bool) -> None:
    feature_map = filled("low_order").double()
    constants = [buffer.requires_grad_() for buffer in feature_map.buffers()]
    output = linear_attention(*(tensor[:0] for tensor in states(5)), feature_map, causal=causal)
    assert not any(gradient.any() for gradient in torch.autograd.grad(output.sum(), constants))


@pytest.mark.parametrize("size", [1e3, 1e20], ids=["large", "with an infinite square"])
def test_a_later_key_leaves_the_gradients_of_earlier_queries(size: float) -> None:
    feature_map = create_feature_map("low_order", 8)
    query, key, value = (tensor.float() for tensor in states(13, batch=1, dim=8))

    def gradient(keys: torch.Tensor) -> torch.Tensor:
        asked = query.clone().requires_grad_()
        linear_attention(asked, keys, value, feature_map, causal=True)[:, :, :12].square().sum().backward()
        return asked.grad[:, :, :12]

    changed = key.clone()
    changed[:, :, 12] *= size
    assert torch.equal(gradient(changed), gradient(key))
