"""Relative attention against a computation with the whole (length, length, dimension) table, which it never makes."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kexue_hf.models.nezha.attention_nezha import (
    additive_mask,
    fused_relative_attention,
    relative_attention,
    sinusoid_table,
)

DIM = 8


def oracle(query, key, value, table, mask=None, scaling=1.0, max_distance=None, in_values=True):
    """The definition, with an explicit tensor of relations. The last two arguments are for breaking it."""
    n = table.shape[0] // 2
    limit = n if max_distance is None else max_distance
    queries, keys = query.shape[-2], key.shape[-2]
    relations = torch.stack(
        [
            torch.stack(
                [table[max(-limit, min(limit, k - (j + keys - queries))) + n] for k in range(keys)],
            )
            for j in range(queries)
        ]
    )
    scores = (torch.einsum("bhqd,bhkd->bhqk", query, key) + torch.einsum("bhqd,qkd->bhqk", query, relations)) * scaling
    if mask is not None:
        scores = scores + additive_mask(mask, scores.dtype)
    probabilities = scores.softmax(-1)
    output = torch.einsum("bhqk,bhkd->bhqd", probabilities, value)
    return output + torch.einsum("bhqk,qkd->bhqd", probabilities, relations) if in_values else output


def tensors(queries: int, keys: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(queries * 1000 + keys)
    return tuple(
        torch.randn(2, 3, length, DIM, dtype=torch.float64, generator=generator, requires_grad=True)
        for length in (queries, keys, keys)
    )


def padding(keys: int) -> torch.Tensor:
    """The second text is shorter; boolean, [batch, 1, 1, keys]."""
    mask = torch.ones(2, 1, 1, keys, dtype=torch.bool)
    mask[1, ..., keys // 2 + 1 :] = False
    return mask


CASES = [(1, 1), (2, 2), (7, 7), (64, 64), (65, 65), (66, 66), (100, 100), (130, 130), (3, 20), (1, 65), (5, 90)]


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize(("queries", "keys"), CASES, ids=lambda size: str(size))
def test_outputs_and_gradients_equal_the_definition(queries: int, keys: int, masked: bool) -> None:
    table = sinusoid_table(64, DIM).double()
    inputs = tensors(queries, keys)
    mask = padding(keys) if masked else None
    weights = torch.randn(2, 3, queries, DIM, dtype=torch.float64)
    expected = oracle(*inputs, table, mask, DIM**-0.5)
    gradients = torch.autograd.grad((expected * weights).sum(), inputs)
    ways = {"eager": lambda *arguments: relative_attention(*arguments)[0]}
    if keys <= 65:
        ways["fused"] = fused_relative_attention
    for name, way in ways.items():
        actual = way(*inputs, table, mask, DIM**-0.5)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6 if name == "fused" else 1e-12, msg=name)
        for one, other in zip(torch.autograd.grad((actual * weights).sum(), inputs), gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6 if name == "fused" else 1e-12, msg=name)


@pytest.mark.parametrize(
    "damage",
    [{"max_distance": 63}, {"in_values": False}, {"scaling": 1.0}],
    ids=["clipped_early", "scores_only", "scale"],
)
def test_the_comparison_can_fail(damage: dict) -> None:
    table = sinusoid_table(64, DIM).double()
    inputs = tensors(100, 100)
    actual, _ = relative_attention(*inputs, table, None, DIM**-0.5)
    damaged = oracle(*inputs, table, **{"scaling": DIM**-0.5, **damage})
    assert (actual - damaged).abs().max() > 1e-4


def test_the_table_is_the_papers() -> None:
    table = sinusoid_table(64, DIM)
    assert table.shape == (129, DIM) and table.dtype == torch.float32
    for row in (0, 1, 63, 128):
        for pair in range(DIM // 2):
            angle = row / 10000 ** (2 * pair / DIM)
            assert table[row, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-7)
            assert table[row, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-7)


def test_the_fused_way_is_exact_where_no_distance_is_clipped() -> None:
    """In float64 the two differ by the rounding of the table to float32; with an exact table by nothing."""
    rows = torch.arange(129, dtype=torch.float64)[:, None]
    angles = rows / 10000 ** (torch.arange(0, DIM, 2, dtype=torch.float64) / DIM)
    table = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
    inputs = tensors(65, 65)
    fused = fused_relative_attention(*inputs, table, padding(65), DIM**-0.5)
    torch.testing.assert_close(fused, oracle(*inputs, table, padding(65), DIM**-0.5), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="up to 65 keys"):
        fused_relative_attention(*tensors(66, 66), table)


@pytest.mark.parametrize(
    "way", [lambda *a: relative_attention(*a)[0], fused_relative_attention], ids=["eager", "fused"]
)
def test_a_row_of_padding_gets_the_mean_of_all(way) -> None:
    table = sinusoid_table(64, DIM).double()
    inputs = tensors(9, 9)
    mask = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    mask[1] = False
    flat = oracle(torch.zeros_like(inputs[0]), *inputs[1:], table)
    output = way(*inputs, table, mask, DIM**-0.5)
    torch.testing.assert_close(output[1], flat[1], rtol=0, atol=1e-6)
    assert output.isfinite().all()


@pytest.mark.parametrize(
    "way", [lambda *a: relative_attention(*a)[0], fused_relative_attention], ids=["eager", "fused"]
)
def test_a_mask_of_a_wider_type_is_not_infinite(way) -> None:
    """float32's lowest number, for a whole row, in float16."""
    table = sinusoid_table(64, DIM).half()
    inputs = [tensor.detach().half() for tensor in tensors(9, 9)]
    mask = padding(9)
    mask[1] = False
    output = way(*inputs, table, additive_mask(mask, torch.float32), DIM**-0.5)
    assert torch.equal(output, way(*inputs, table, mask, DIM**-0.5)) and output.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near(dtype: torch.dtype) -> None:
    table = sinusoid_table(64, DIM)
    inputs = [tensor.detach().to(dtype) for tensor in tensors(40, 40)]
    expected = oracle(*(tensor.float() for tensor in inputs), table, padding(40), DIM**-0.5)
    for actual in (
        relative_attention(*inputs, table.to(dtype), padding(40), DIM**-0.5)[0],
        fused_relative_attention(*inputs, table.to(dtype), padding(40), DIM**-0.5),
    ):
        assert actual.dtype == dtype
        assert (actual.float() - expected).abs().max() < (0.01 if dtype == torch.float16 else 0.06)


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                # What lies in memory: an expanded view holds no more than its base.
                self.numel = max(self.numel, value.untyped_storage().nbytes() // value.element_size())
        return result


def test_no_tensor_of_length_length_dimension_is_made() -> None:
    length, dim = 150, 64
    inputs = [torch.randn(2, 2, length, dim, requires_grad=True) for _ in range(3)]
    with Largest() as largest:
        relative_attention(*inputs, sinusoid_table(64, dim))[0].sum().backward()
    assert largest.numel == 2 * 2 * length * length  # scores and probabilities, as in BERT
    with Largest() as largest:
        oracle(*inputs, sinusoid_table(64, dim))
    assert largest.numel >= length * length * dim
