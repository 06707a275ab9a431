"""The kernels of linear attention: the oracle's numbers, whatever the chunks, masks, types and orders of arrival."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from kexue_hf.models.performer_bert import attention_performer_bert
from kexue_hf.models.performer_bert.attention_performer_bert import (
    LinearAttentionState,
    _certainly_finite,
    _chunk_sizes,
    _Preparation,
    linear_attention,
)
from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    FEATURE_MAPS,
    LowOrderMap,
    RandomFeatures,
    create_feature_map,
)
from kexue_hf.performer.exact_attention import naive_attention
from tests.models.performer_bert.maps import MAPS, filled, states
from tests.old_torch import needs_tracing

WAYS = pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
ALL_MAPS = pytest.mark.parametrize("name", MAPS)
DEFAULTS = pytest.mark.parametrize("name", FEATURE_MAPS)


@pytest.fixture(autouse=True)
def _few_rows_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two causal chunks of 16 positions together, four of 7: texts of tests are to have several such pieces."""
    monkeypatch.setattr(attention_performer_bert, "CAUSAL_ROWS", 128)


@pytest.mark.parametrize(
    ("length", "chunk", "heads", "expected"),
    [
        (23, 7, 4, [21, 2]),
        (64, 7, 4, [28, 28, 7, 1]),
        (64, 16, 4, [32, 32]),
        (64, 16, 1000, [16, 16, 16, 16]),
        (5, 16, 4, [5]),
        (40, 16, 0, [32, 8]),
        (0, 16, 4, []),
    ],
)
def test_causal_chunks_are_taken_together_where_they_are_small(
    length: int, chunk: int, heads: int, expected: list[int]
) -> None:
    assert _chunk_sizes(length, chunk, heads) == expected


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@ALL_MAPS
@WAYS
@pytest.mark.parametrize("padded", [False, True], ids=["all real", "padded"])
def test_the_kernel_is_the_oracle_and_so_are_its_gradients(
    name: str, causal: bool, padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two chunks, one, and a part of one.
    monkeypatch.setattr(attention_performer_bert, "CAUSAL_ROWS", 2 * 7 * 4)
    feature_map = filled(name)
    inputs = [tensor.requires_grad_() for tensor in states(23)]
    mask = None
    if padded:
        mask = torch.rand(2, 23, generator=torch.Generator().manual_seed(1)) > 0.4
        # Rows that may attend to nothing yet, and a chunk of padding.
        mask[0, :7] = False
    learned = [parameter for parameter in feature_map.parameters() if parameter.requires_grad]
    found = linear_attention(*inputs, feature_map, key_mask=mask, causal=causal, scaling=0.3, chunk=7)
    expected = naive_attention(*inputs, feature_map, mask, causal=causal, scaling=0.3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = torch.autograd.grad(found, inputs + learned, direction)
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected, inputs + learned, direction), strict=True):
        # Parameters are of float32, and so are their gradients.
        tolerance = 1e-10 if gradient.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(gradient, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("heads", [1, 2], ids=["shared by heads", "by head"])
@WAYS
def test_constants_of_low_orders_have_the_gradients_of_the_oracle(causal: bool, heads: int) -> None:
    feature_map = filled("low_order", heads=heads).double()
    constants = [buffer.requires_grad_() for buffer in feature_map.buffers()]
    inputs, mask = states(23), torch.rand(2, 23, generator=torch.Generator().manual_seed(1)) > 0.4
    direction = torch.randn(2, 2, 23, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    attentions = (linear_attention(*inputs, feature_map, key_mask=mask, causal=causal, chunk=7),)
    attentions += (naive_attention(*inputs, feature_map, mask, causal=causal),)
    found, wanted = (torch.autograd.grad(output, constants, direction) for output in attentions)
    assert len(found) == 8
    for gradient, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def test_a_compiler_leaves_causal_attention_as_it_is() -> None:
    feature_map = create_feature_map("low_order", 6, 24)
    inputs = [tensor.float() for tensor in states(40)]
    seen: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        seen.append(graph)
        return graph

    def model(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        return linear_attention(query * 2, key, value, feature_map, causal=True, chunk=4) + 1

    found = torch.compile(model, backend=keep)(*inputs)
    torch.testing.assert_close(found, model(*inputs), rtol=0, atol=0)
    # What is before and after attention; not its chunks, one by one.
    assert [sum(node.op.startswith("call") for node in graph.graph.nodes) for graph in seen] == [1, 1]


@DEFAULTS
def test_attention_both_ways_is_one_graph_of_any_batch_and_length(name: str) -> None:
    feature_map = filled(name)
    seen: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: list) -> torch.fx.GraphModule:
        seen.append(graph)
        return graph

    def model(*inputs: torch.Tensor) -> torch.Tensor:
        return linear_attention(*inputs[:3], feature_map, key_mask=inputs[3], chunk=4)

    compiled = torch.compile(model, backend=keep, fullgraph=True, dynamic=True)
    for length in (40, 23, 600):
        inputs = [*(tensor.requires_grad_() for tensor in states(length)), torch.arange(length).expand(2, -1) < 19]
        expected, found = model(*inputs), compiled(*inputs)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        above = torch.linspace(-1, 1, expected.numel(), dtype=expected.dtype).view_as(expected)
        for one, other in zip(
            torch.autograd.grad(found, inputs[:3], above),
            torch.autograd.grad(expected, inputs[:3], above),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert len(seen) == 1


@DEFAULTS
@WAYS
def test_transposed_states_as_models_have_them(name: str, causal: bool) -> None:
    feature_map = filled(name)
    inputs = [tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in states(23)]
    assert not inputs[0].is_contiguous()
    found = linear_attention(*inputs, feature_map, causal=causal, chunk=7)
    torch.testing.assert_close(found, linear_attention(*states(23), feature_map, causal=causal, chunk=7))


@WAYS
def test_the_gradients_of_long_texts_are_not_made_once_a_chunk(causal: bool) -> None:
    # Each slice of a tensor has a gradient of the size of the whole: with it training takes quadratic time.
    inputs = [tensor.requires_grad_() for tensor in states(64)]
    output = linear_attention(*inputs, filled("low_order"), causal=causal, chunk=4)
    nodes, todo = set(), [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            todo += [parent for parent, _ in node.next_functions]
    sliced = [node._saved_self_sym_sizes for node in nodes if type(node).__name__ == "SliceBackward0"]
    assert not any(64 in sizes for sizes in sliced)


@DEFAULTS
@WAYS
def test_gradients_are_those_of_finite_differences(name: str, causal: bool) -> None:
    feature_map = filled(name, dim=3, features=8)
    inputs = [tensor.requires_grad_() for tensor in states(5, batch=1, dim=3)]
    mask = torch.tensor([[True, False, True, True, True]])

    def attention(*tensors: torch.Tensor) -> torch.Tensor:
        # The stabilisers are constants to the gradient; without epsilon they cancel altogether.
        return linear_attention(*tensors, feature_map, key_mask=mask, causal=causal, epsilon=0.0, chunk=2)

    assert torch.autograd.gradcheck(attention, inputs, fast_mode=True)


@DEFAULTS
@WAYS
def test_exponents_beyond_the_range_of_the_type(name: str, causal: bool) -> None:
    feature_map = create_feature_map(name, 6, 24)
    # Keys weigh up to e^300 and down to e^-300.
    feature_map.query_mean.fill_(40.0)
    query, key, value = states(23, std=2.0)
    expected = naive_attention(query, key, value, feature_map, causal=causal)
    found = linear_attention(query.float(), key.float(), value.float(), feature_map, causal=causal, chunk=7)
    assert relative(found, expected) < 0.01


@DEFAULTS
def test_as_many_keys_as_one_likes(name: str) -> None:
    feature_map = filled(name)
    inputs = states(5, keys=19)
    torch.testing.assert_close(
        linear_attention(*inputs, feature_map, chunk=8), naive_attention(*inputs, feature_map), rtol=1e-10, atol=1e-10
    )


@DEFAULTS
@WAYS
def test_chunks_do_not_matter(name: str, causal: bool) -> None:
    feature_map = filled(name)
    inputs = states(33)
    whole = linear_attention(*inputs, feature_map, causal=causal, chunk=1000)
    for chunk in (1, 11, 32, 33):
        torch.testing.assert_close(linear_attention(*inputs, feature_map, causal=causal, chunk=chunk), whole)


@DEFAULTS
@WAYS
def test_length_one_is_the_value(name: str, causal: bool) -> None:
    query, key, value = states(1, std=3.0)
    torch.testing.assert_close(linear_attention(query, key, value, filled(name), causal=causal), value)


@DEFAULTS
@WAYS
def test_nothing_to_attend_to_gives_zeros(name: str, causal: bool) -> None:
    feature_map = filled(name)
    inputs = [tensor.requires_grad_() for tensor in states(9)]
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1] = False
    output = linear_attention(*inputs, feature_map, key_mask=mask, causal=causal, chunk=4)
    assert not output[1].any() and output[0].all()
    for gradient in torch.autograd.grad(output.sum(), inputs):
        assert gradient.isfinite().all() and not gradient[1].any()


@DEFAULTS
@WAYS
def test_empty_lengths(name: str, causal: bool) -> None:
    query, key, value = (tensor[:, :, :0] for tensor in states(1))
    feature_map = filled(name)
    assert linear_attention(query, key, value, feature_map, causal=causal).shape == (2, 2, 0, 7)
    if not causal:
        assert not linear_attention(states(4)[0], key, value, feature_map).any()


# What is here and what comes: nothing that an ordinary sequence would contain, too.
FUTURES = {"others": 1.0, "large": 1e12, "huge": 1e18, "infinite": float("inf"), "not a number": float("nan")}


@ALL_MAPS
@pytest.mark.parametrize("future", FUTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_causal_output_does_not_know_the_future(name: str, future: str, dtype: torch.dtype) -> None:
    feature_map = filled(name)
    inputs = [tensor.to(dtype) for tensor in states(40)]
    changed = [tensor.to(dtype) * FUTURES[future] for tensor in states(40, seed=1)]
    whole = linear_attention(*inputs, feature_map, causal=True, chunk=16)
    for seen in (1, 15, 16, 21, 39):
        mixed = [torch.cat([a[:, :, :seen], b[:, :, seen:]], dim=2) for a, b in zip(inputs, changed, strict=True)]
        found = linear_attention(*mixed, feature_map, causal=True, chunk=16)
        assert torch.equal(found[:, :, :seen], whole[:, :, :seen])


@DEFAULTS
def test_causal_output_does_not_know_the_mask_of_the_future(name: str) -> None:
    feature_map, inputs = filled(name), [tensor.float() for tensor in states(40)]
    mask = torch.ones(2, 40, dtype=torch.bool)
    whole = linear_attention(*inputs, feature_map, key_mask=mask, causal=True, chunk=16)
    mask[:, 21::3] = False
    found = linear_attention(*inputs, feature_map, key_mask=mask, causal=True, chunk=16)
    assert torch.equal(found[:, :, :21], whole[:, :, :21]) and not torch.equal(found, whole)


@pytest.mark.parametrize("name", ["favor+, not centred", "favor++", "learned, not normalised"])
def test_causal_keys_that_weigh_next_to_nothing_are_weighed_all_the_same(name: str) -> None:
    """|k|^2 / 2 is above 10,000 for all of them: nothing is left of their features but by their own maximum."""
    feature_map = filled(name)
    query, key, value = states(20, std=0.3)
    key = key + 300.0
    found = linear_attention(query, key, value, feature_map, causal=True, chunk=8)
    expected = naive_attention(query, key, value, feature_map, causal=True)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_what_is_finite_is_known_on_a_cpu() -> None:
    """And what might not be, by a margin for the coefficients of products, is not taken for it."""
    prepare = _Preparation(LowOrderMap(6, 20), torch.float32, 1.0)
    inputs = [tensor.float() for tensor in states(9)]
    assert _certainly_finite(prepare(*inputs, None, causal=True))
    for which, size in ((0, 1e16), (1, 1e16), (2, torch.nan)):
        changed = [*inputs]
        changed[which] = changed[which] * size
        assert not _certainly_finite(prepare(*changed, None, causal=True))


class Cumulated(TorchDispatchMode):
    """The types that cumulative sums are taken of."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket is torch.ops.aten.cumsum:
            self.types.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["low_order", "favor+"])
def test_no_cumulative_sum_of_floats(name: str) -> None:
    """On CUDA there is none in deterministic mode."""
    inputs = [tensor.float() for tensor in states(9)]
    inputs[2][0, 0, 3] = torch.inf
    with Cumulated() as seen:
        found = linear_attention(*inputs, filled(name), causal=True)
    assert seen.types and not any(kind.is_floating_point for kind in seen.types)
    assert found[0, 0, 3:].isnan().all() and found[0, 0, :3].isfinite().all()


@pytest.mark.parametrize(
    ("name", "causal"), [("low_order", True), ("learned", False)], ids=["low_order, causal", "learned, both ways"]
)
@needs_tracing
def test_attention_of_one_length_exports(name: str, causal: bool) -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.feature_map = create_feature_map(name, 6, 12)

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return linear_attention(*inputs[:3], self.feature_map, key_mask=inputs[3], causal=causal, chunk=8)

    layer, mask = Layer(), torch.arange(12).expand(2, -1) < 9
    program = torch.export.export(layer, (*(tensor.float() for tensor in states(12)), mask)).module()
    others = [tensor.float() for tensor in states(12, seed=1)]
    # Not of the numbers that it was exported with: infinite values, too.
    others[2][0, 0, 10] = torch.inf
    torch.testing.assert_close(program(*others, ~mask), layer(*others, ~mask), equal_nan=True)


@DEFAULTS
@WAYS
def test_queries_of_padding_reach_no_other_row(name: str, causal: bool) -> None:
    feature_map, (query, key, value) = filled(name), states(6)
    mask = torch.tensor([[True] * 6, [False] * 6])
    whole = linear_attention(query, key, value, feature_map, key_mask=mask, causal=causal)
    query[1, :, 2] = torch.nan
    found = linear_attention(query, key, value, feature_map, key_mask=mask, causal=causal)
    assert torch.equal(found[0], whole[0])
    assert not found[1, :, [0, 1, 3, 4, 5]].any()


@DEFAULTS
@WAYS
def test_attention_without_storage_has_a_shape(name: str, causal: bool) -> None:
    with torch.device("meta"):
        feature_map = create_feature_map(name, 6, 20)
    output = linear_attention(*(tensor.to("meta") for tensor in states(9)), feature_map, causal=causal, chunk=4)
    assert output.is_meta and output.shape == (2, 2, 9, 7)


def test_products_that_overflow_stay_in_the_future() -> None:
    # Each number and its square are in the range of float32, the squares of their products are not.
    query, key, value = (tensor.float() for tensor in states(24))
    feature_map = filled("low_order")
    query = query * 1e4
    whole = linear_attention(query, key, value, feature_map, causal=True, chunk=16)
    assert whole.isfinite().all()
    key[:, :, 13:] *= 1e17
    found = linear_attention(query, key, value, feature_map, causal=True, chunk=16)
    assert torch.equal(found[:, :, :13], whole[:, :, :13])


@DEFAULTS
def test_causal_gradients_do_not_know_the_future(name: str) -> None:
    inputs = [tensor.requires_grad_() for tensor in states(20)]
    output = linear_attention(*inputs, filled(name), causal=True, chunk=8)
    for gradient in torch.autograd.grad(output[:, :, :11].square().sum(), inputs):
        assert not gradient[:, :, 11:].any() and gradient[:, :, 1:11].all()


@ALL_MAPS
def test_tokens_one_after_the_other(name: str) -> None:
    feature_map = filled(name)
    inputs = states(30, std=2.0)
    mask = torch.ones(2, 30, dtype=torch.bool)
    mask[1, :13] = False  # padding on the left
    whole = linear_attention(*inputs, feature_map, key_mask=mask, causal=True)
    state = LinearAttentionState(feature_map, chunk=7)
    outputs = [state.step(*(tensor[:, :, :11] for tensor in inputs), mask[:, :11])]
    sizes = [tensor.shape for tensor in state.tensors]
    for i in range(11, 30):
        outputs.append(state.step(*(tensor[:, :, i : i + 1] for tensor in inputs), mask[:, i : i + 1]))
    torch.testing.assert_close(torch.cat(outputs, dim=2), whole, rtol=1e-10, atol=1e-10)
    assert [tensor.shape for tensor in state.tensors] == sizes


@DEFAULTS
def test_beams_may_be_reordered(name: str) -> None:
    feature_map = filled(name)
    inputs = states(12)
    rows = torch.tensor([1, 1, 0])
    state = LinearAttentionState(feature_map)
    state.step(*(tensor[:, :, :9] for tensor in inputs))
    state.reorder(rows)
    state.detach()
    chosen = [tensor[rows] for tensor in inputs]
    found = state.step(*(tensor[:, :, 9:] for tensor in chosen))
    torch.testing.assert_close(found, linear_attention(*chosen, feature_map, causal=True)[:, :, 9:])


@DEFAULTS
@WAYS
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(name: str, causal: bool, side: str) -> None:
    feature_map = create_feature_map(name, 6, 24)
    query, key, value = (tensor.float() for tensor in states(50, std=1.5))
    mask = torch.ones(2, 50, dtype=torch.bool)
    real = slice(19, 50) if side == "left" else slice(0, 31)
    mask[1] = False
    mask[1, real] = True
    # Garbage where nobody may look.
    for tensor, garbage in ((key, torch.nan), (value, torch.inf), (query, torch.nan)):
        tensor[1, :, ~mask[1]] = garbage
    found = linear_attention(query, key, value, feature_map, key_mask=mask, causal=causal, chunk=16)
    for row, part in enumerate((slice(0, 50), real)):
        alone = [tensor[row : row + 1, :, part] for tensor in (query, key, value)]
        expected = linear_attention(*alone, feature_map, causal=causal, chunk=16)
        torch.testing.assert_close(found[row : row + 1, :, part], expected, rtol=1e-6, atol=1e-6)


def features_of(feature_map: RandomFeatures, query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """q . w, k . w (both scaled) and |k|^2 / 2."""
    scale = query.shape[-1] ** -0.25
    directions = feature_map.projection.double()
    return query @ directions.T * scale, key @ directions.T * scale, (key * scale).square().sum(-1, keepdim=True) / 2


def test_padded_keys_in_the_normaliser_would_be_seen() -> None:
    # What performer-pytorch does: values are masked, keys are not.
    feature_map = RandomFeatures(16, 64, centred=False)
    query, key, value = states(60, dim=16, batch=1)
    mask = torch.arange(60)[None] < 30
    asked, kept, half = features_of(feature_map, query, key)
    asked, kept = (asked - asked.amax(-1, keepdim=True)).exp(), (kept - half - (kept - half).amax()).exp()
    leaking = asked @ (kept.mT @ (value * mask[:, None, :, None])) / (asked @ kept.sum(-2)[..., None])
    unpadded = linear_attention(query, key[:, :, :30], value[:, :, :30], feature_map)
    assert relative(leaking, unpadded) > 0.2
    assert relative(linear_attention(query, key, value, feature_map, key_mask=mask), unpadded) < 1e-10


def test_a_stabiliser_that_is_taken_too_early_would_be_seen() -> None:
    # What performer-pytorch does: the maximum is taken before |k|^2 / 2 is subtracted, and epsilon is 1e-4.
    feature_map = RandomFeatures(64, 256, centred=False)
    query, key, value = states(192, dim=64, batch=1, heads=1)
    asked, kept, half = features_of(feature_map, query, key)
    half_query = (query * 64**-0.25).square().sum(-1, keepdim=True) / 2
    asked = (asked - half_query - asked.amax(-1, keepdim=True)).exp() + 1e-4
    kept = (kept - half - kept.amax((-1, -2), keepdim=True)).exp() + 1e-4
    blind = asked @ (kept.mT @ value) / (asked @ kept.sum(-2)[..., None])
    mean = value.mean(-2, keepdim=True).expand_as(value)
    without = naive_attention(query, key, value, feature_map, epsilon=0.0)
    assert relative(blind, mean) < 0.3 and relative(blind, without) > 0.5
    ours = linear_attention(query, key, value, feature_map)
    assert relative(ours, without) < 0.02 and relative(ours, mean) > 1.0


@DEFAULTS
@WAYS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("std", [1.0, 4.0])
def test_half_precision_costs_what_casting_costs(name: str, causal: bool, dtype: torch.dtype, std: float) -> None:
    feature_map = create_feature_map(name, 32, 96)
    inputs = states(300, std=std, batch=1, dim=32)
    exact = linear_attention(*inputs, feature_map, causal=causal)
    cast = [tensor.to(dtype) for tensor in inputs]
    unavoidable = linear_attention(*(tensor.double() for tensor in cast), feature_map, causal=causal).to(dtype)
    found = linear_attention(*cast, feature_map, causal=causal)
    assert found.dtype == dtype
    assert relative(found, exact) <= 3 * relative(unavoidable, exact)


@DEFAULTS
@WAYS
def test_gradients_of_half_precision_have_its_type(name: str, causal: bool) -> None:
    inputs = [tensor.bfloat16().requires_grad_() for tensor in states(20)]
    wanted = [tensor.detach().double().requires_grad_() for tensor in inputs]
    feature_map = create_feature_map(name, 6, 24)
    found = torch.autograd.grad(linear_attention(*inputs, feature_map, causal=causal).sum(), inputs)
    expected = torch.autograd.grad(linear_attention(*wanted, feature_map, causal=causal).sum(), wanted)
    for gradient, exact in zip(found, expected, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert relative(gradient, exact) < 0.01


@DEFAULTS
@WAYS
def test_autocast_does_not_reach_inside(name: str, causal: bool) -> None:
    feature_map = create_feature_map(name, 6, 24)
    inputs = [tensor.float() for tensor in states(20)]
    with torch.autocast("cpu", torch.bfloat16):
        found = linear_attention(*inputs, feature_map, causal=causal)
    assert torch.equal(found, linear_attention(*inputs, feature_map, causal=causal))


@ALL_MAPS
@WAYS
@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=["NaN", "inf"])
def test_what_is_not_finite_stays_where_it_belongs(name: str, causal: bool, bad: float) -> None:
    feature_map = filled(name)
    clean = states(20)
    whole = linear_attention(*clean, feature_map, causal=causal, chunk=8)
    reached = torch.zeros(2, 2, 20, dtype=torch.bool)
    for which in range(3):
        inputs = [tensor.clone() for tensor in clean]
        inputs[which][0, 1, 5, 2] = bad
        found = linear_attention(*inputs, feature_map, causal=causal, chunk=8)
        reached[:] = False
        reached[0, 1, 5 if which == 0 else slice(5 if causal else 0, 20)] = True
        torch.testing.assert_close(found[~reached], whole[~reached])
        if which < 2:
            assert found[reached].isnan().all()
        if which == 2:
            assert not found[reached][:, 2].isfinite().any()
            torch.testing.assert_close(found[reached][:, 3:], whole[reached][:, 3:])


@DEFAULTS
@WAYS
def test_nothing_of_the_size_of_all_features_is_kept_for_the_backward_pass(name: str, causal: bool) -> None:
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().size()
        return tensor

    inputs = [tensor.float().requires_grad_() for tensor in states(1024, batch=1, heads=1, dim=24)]
    feature_map = create_feature_map(name, 24, 324)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = linear_attention(*inputs, feature_map, causal=causal, chunk=128)
    features = 1024 * 324 * 4
    assert 0 < sum(kept.values()) < 0.6 * features
    output.sum().backward()


def test_low_orders_are_nearer_to_softmax_than_the_mean_and_than_random_features() -> None:
    # Independent entries; the benchmark has the table of all maps.
    for std in (0.25, 0.5, 0.7, 1.0, 1.5):
        query, key, value = states(1024, std=std, batch=1, heads=1, dim=64)
        exact = scaled_dot_product_attention(query, key, value)
        error = {
            name: relative(linear_attention(query, key, value, create_feature_map(name, 64, 256)), exact)
            for name in ("low_order", "favor+")
        }
        assert error["low_order"] < relative(value.mean(-2, keepdim=True).expand_as(value), exact)
        if std <= 0.5:
            assert error["low_order"] <= error["favor+"] / 4


Q, K, V = (tensor.float() for tensor in states(4))
MASK = torch.ones(2, 4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((Q[0], K, V), {}, "query must be a floating tensor"),
        ((Q, K.long(), V), {}, "key must be a floating tensor"),
        ((Q, K[:, :1], V), {}, "must agree in batch and heads"),
        ((Q, K, V[:, :, :2]), {}, "key and value in length"),
        ((Q[..., :5], K[..., :5], V), {}, "head_dim of 6, got queries of 5"),
        ((Q, K, V), {"key_mask": MASK[:, None, None]}, r"pass key_mask \[batch, keys\]"),
        ((Q, K, V), {"key_mask": MASK[:, :3]}, r"boolean of shape \[2, 4\], got torch.bool of shape \[2, 3\]"),
        ((Q, K, V), {"key_mask": MASK.long()}, "must be boolean"),
        ((Q, K[:, :, :3], V[:, :, :3]), {"causal": True}, "as many queries as keys, got 4 and 3"),
        ((Q, K, V), {"scaling": 0.0}, "scaling must be a positive number"),
        ((Q, K, V), {"scaling": float("inf")}, "scaling must be a positive number, got inf"),
        ((Q, K, V), {"chunk": 0}, "chunk must be at least 1"),
        ((Q, K, V), {"epsilon": -1e-9}, "epsilon must be a finite number of at least 0, got -1e-09"),
        (
            (Q, K, V),
            {"epsilon": float("nan"), "causal": True},
            "must be a finite number of at least 0, got nan",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused_in_one_line(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        linear_attention(*arguments, LowOrderMap(6, 20), **options)
    assert "\n" not in str(error.value)


def test_a_map_for_other_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="for 3 heads, got 2"):
        linear_attention(Q, K, V, LowOrderMap(6, 20, num_heads=3))


@DEFAULTS
def test_a_step_of_another_batch_is_refused(name: str) -> None:
    state = LinearAttentionState(create_feature_map(name, 6, 20))
    state.step(Q, K, V)
    with pytest.raises(ValueError, match="batch, heads and value dim"):
        state.step(Q[:1], K[:1], V[:1])
