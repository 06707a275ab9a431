"""Feature maps: draws that repeat, estimates without bias, the limits in which they are softmax, and calibration."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention
from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    FEATURE_MAPS,
    NORMS,
    LowOrderMap,
    RandomFeatures,
    best_sharpness,
    create_feature_map,
    draw_projection,
    stratified_radii,
)
from kexue_hf.performer import calibrate_map
from kexue_hf.performer.calibrate_map import calibrate
from kexue_hf.performer.exact_attention import (
    allowed_pairs,
    low_order_terms,
    naive_attention,
    naive_weights,
    softmax_weights,
)
from tests.models.performer_bert.maps import MAPS, filled, states

DEFAULTS = pytest.mark.parametrize("name", FEATURE_MAPS)


@pytest.mark.parametrize("norm", NORMS)
def test_directions_are_orthogonal_in_blocks(norm: str) -> None:
    drawn = draw_projection(20, 8, norm, seed=3)
    for block in (drawn[:8], drawn[8:16], drawn[16:]):
        products = block @ block.T
        torch.testing.assert_close(products, products.diagonal().diag(), atol=1e-12, rtol=0)


def test_a_draw_repeats_and_others_differ() -> None:
    drawn = draw_projection(5, 3, seed=7, index=2)
    assert torch.equal(drawn, draw_projection(5, 3, seed=7, index=2))
    for seed, index in ((7, 3), (8, 2)):
        assert not torch.allclose(drawn, draw_projection(5, 3, seed=seed, index=index))
    # What a saved model expects of a seed, on whatever machine it is loaded.
    pinned = torch.tensor([[1.133817129823, -1.623864906677, -0.570062367031]], dtype=torch.float64)
    torch.testing.assert_close(draw_projection(1, 3, seed=0), pinned, atol=1e-9, rtol=0)


def test_a_draw_of_a_negative_seed_or_index_is_refused() -> None:
    for seed, index in ((-1, 0), (0, -1)):
        with pytest.raises(ValueError, match=f"at least 0, got {seed} and {index}"):
            draw_projection(2, 2, seed=seed, index=index)


def test_a_draw_does_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    create_feature_map("favor+", 8, 20)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dim", [1, 2, 64, 256])
def test_stratified_radii_cut_the_distribution_evenly(dim: int) -> None:
    radii = stratified_radii(99, dim)
    below = torch.special.gammainc(torch.tensor(dim / 2, dtype=torch.float64), radii.square() / 2)
    torch.testing.assert_close(below, torch.arange(1, 100, dtype=torch.float64) / 100, atol=1e-10, rtol=0)
    sample = torch.randn(20_000, dim, generator=torch.Generator().manual_seed(0)).norm(dim=1)
    # 4 standard errors of a share.
    assert abs(float((sample <= radii[24]).double().mean()) - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 20_000)
    drawn = draw_projection(99, dim, "stratified")
    torch.testing.assert_close(drawn.norm(dim=1).sort().values, radii)
    # In random order, that the directions of a block are not all short or all long.
    assert (drawn.norm(dim=1).diff() < 0).sum() > 30


def kernel(feature_map: RandomFeatures, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The estimates of exp(x . y) of pairs [n, dim]."""
    weights = feature_map.weights(torch.float64)
    constant = feature_map.log_constant()
    asked, kept = (
        (z @ side[0].T + bias[0] - z.square().sum(-1, keepdim=True) / 2 + constant).exp()
        for z, side, bias in ((x, weights.query, weights.query_bias), (y, weights.key, weights.key_bias))
    )
    return (asked * kept).sum(-1)


@pytest.mark.parametrize("optimal", [False, True], ids=["favor+", "favor++"])
def test_the_kernel_is_estimated_without_bias(optimal: bool) -> None:
    x, y = (tensor[0, 0] * 0.4 for tensor in states(6, dim=4)[:2])
    draws = 600
    estimates = []
    for index in range(draws):
        # Redrawing is what is used in training: more features than one block has.
        if not estimates:
            feature_map = RandomFeatures(4, 10, optimal=optimal)
        feature_map.redraw(index)
        estimates.append(kernel(feature_map, x, y))
    found = torch.stack(estimates)
    errors = found.std(0) / math.sqrt(draws)
    assert ((found.mean(0) - (x * y).sum(-1).exp()).abs() < 4 * errors).all()
    assert (errors < 0.06 * (x * y).sum(-1).exp()).all()


def test_the_sharpness_of_favor_plus_plus_is_the_best_one() -> None:
    dim = 8
    for spread in (0.01, 1.0, 5.0, 40.0):

        def log_second_moment(sharpness: torch.Tensor, spread: float = spread) -> torch.Tensor:
            # Of one feature, by the moments of a normal vector.
            scale, width = 1 - 4 * sharpness, 1 - 8 * sharpness
            return dim * scale.log() - dim / 2 * width.log() + 2 * spread * scale / width

        best = best_sharpness(torch.tensor(spread, dtype=torch.float64), dim)
        others = torch.linspace(-20, 0.12, 20_000, dtype=torch.float64)
        assert best <= 0
        assert log_second_moment(best) <= log_second_moment(others).min() + 1e-9
        assert log_second_moment(best) < log_second_moment(torch.zeros(1, dtype=torch.float64))


def test_the_sharpness_before_calibration_is_that_of_entries_as_they_are_assumed() -> None:
    feature_map = create_feature_map("favor++", 16, 20)
    before = float(feature_map.sharpness)
    query, key, _ = states(2000, std=0.7, dim=16, batch=1, heads=1)
    calibrate(feature_map, [(query, key, None)])
    assert before == pytest.approx(float(feature_map.sharpness), rel=0.05)


def test_random_features_become_softmax_as_they_grow_in_number() -> None:
    query, key, value = states(12, std=0.5, dim=4, batch=1, heads=1)
    exact = softmax_weights(query, key, allowed_pairs(query, key)) @ value
    for optimal in (False, True):
        errors = []
        for features in (16, 16384):
            feature_map = RandomFeatures(4, features, optimal=optimal, seed=1)
            errors.append(float((naive_attention(query, key, value, feature_map) - exact).norm() / exact.norm()))
        assert errors[1] < 0.02 and errors[1] < errors[0] / 8


def test_low_orders_miss_softmax_by_the_third_order() -> None:
    # All products of the second order have room: 1 + 4 + 10.
    feature_map = LowOrderMap(4, 15)
    assert (feature_map.linear_dims, feature_map.quadratic_dims) == (4, 4)
    for std in (0.5, 0.25, 0.125):
        query, key, _ = states(30, std=std, dim=4, batch=1)
        allowed = allowed_pairs(query, key)
        exact = softmax_weights(query, key, allowed)
        centred = key - key.mean(-2, keepdim=True)
        largest = float((query @ centred.mT / 2).abs().max())
        missed = (naive_weights(query, key, feature_map, allowed) - exact).abs().max() * 30
        assert missed < largest**3


@pytest.mark.parametrize(
    ("dim", "features", "expected"),
    [(64, 256, (64, 19)), (64, 65, (64, 0)), (64, 10, (9, 0)), (8, 1000, (8, 8)), (3, 1, (0, 0)), (2, 4, (2, 1))],
)
def test_low_orders_use_the_features_that_there_are(dim: int, features: int, expected: tuple[int, int]) -> None:
    feature_map = LowOrderMap(dim, features)
    linear, quadratic = feature_map.linear_dims, feature_map.quadratic_dims
    assert (linear, quadratic) == expected
    assert 1 + linear + quadratic * (quadratic + 1) // 2 <= features
    query, key, value = states(9, dim=dim)
    for causal in (False, True):
        torch.testing.assert_close(
            linear_attention(query, key, value, feature_map, causal=causal),
            naive_attention(query, key, value, feature_map, causal=causal),
        )


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@pytest.mark.parametrize("name", MAPS)
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-3, 1.0, 10.0, 100.0]), st.sampled_from([0.0, 1.0, 30.0]))
def test_the_normaliser_is_positive(name: str, causal: bool, seed: int, std: float, offset: float) -> None:
    feature_map = filled(name)
    query, key, value = (tensor.float() for tensor in states(12, std=std, seed=seed, batch=1))
    key = key + offset
    # A normaliser near 0 or below it would let single rows explode: no weight is further from 0 than its own terms.
    output = linear_attention(query, key, value, feature_map, causal=causal)
    assert output.isfinite().all()
    ones = linear_attention(query, key, torch.ones_like(value), feature_map, causal=causal)
    bound, rounding = 1.0, 0.0
    if isinstance(feature_map, LowOrderMap):
        terms = low_order_terms(query, key, feature_map, allowed_pairs(query, key, causal=causal))
        bound = 1.0 + 2 * float((terms.weights * (terms.first.abs() + terms.second.abs())).sum(-1).max())
        # Causal keys cannot be centred beforehand: rounding is that of q . k.
        rounding = 1e-6 * float(query.norm(dim=-1).max() * key.norm(dim=-1).max()) if causal else 0.0
    assert output.abs().max() <= value.abs().max() * (bound * 1.01 + rounding)
    assert (ones - 1).abs().max() < 1e-4 * bound + rounding


@DEFAULTS
def test_a_map_saves_and_loads_with_all_its_numbers(name: str) -> None:
    inputs = states(12)
    feature_map = filled(name)
    other = create_feature_map(name, 6, 20, num_heads=2, seed=5)
    other.load_state_dict(feature_map.state_dict())
    assert torch.equal(linear_attention(*inputs, other), linear_attention(*inputs, feature_map))


@DEFAULTS
def test_a_map_made_without_storage_is_filled_by_reset(name: str) -> None:
    with torch.device("meta"):
        empty = create_feature_map(name, 6, 20, num_heads=2, seed=5)
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    empty = empty.to_empty(device="cpu")
    for buffer in empty.buffers():
        buffer.fill_(torch.nan)
    empty.reset()
    expected = create_feature_map(name, 6, 20, num_heads=2, seed=5).state_dict()
    for key, buffer in empty.state_dict().items():
        assert torch.equal(buffer, expected[key]), key


@DEFAULTS
def test_all_of_a_map_is_of_the_type_that_modules_are_made_of(name: str) -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        feature_map = create_feature_map(name, 6, 20)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {tensor.dtype for tensor in feature_map.state_dict().values()} == {torch.bfloat16}


@DEFAULTS
def test_a_map_of_half_precision_still_computes_in_single(name: str) -> None:
    inputs = [tensor.half() for tensor in states(40)]
    # Constants that lose something by being cast.
    feature_map = filled(name).half()
    output = linear_attention(*inputs, feature_map)
    assert torch.equal(output, linear_attention(*inputs, feature_map.float()))
    assert not torch.equal(output, linear_attention(*inputs, filled(name)))


def trained(length: int = 80, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries and keys as trained models have them: far from 0, and of different spread in different directions."""
    query, key, value = states(length, dim=16, seed=seed)
    mixing = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    spread = torch.linspace(1.2, 0.05, 16, dtype=torch.float64)
    query, key = ((states * spread) @ torch.linalg.qr(m)[0] for states, m in zip((query, key), mixing, strict=True))
    return query + mixing[0, :, :1] * 0.7, key + mixing[1, :, :1] * 0.7, value


def missed(feature_map: torch.nn.Module, causal: bool = False) -> float:
    query, key, value = trained(seed=1)
    exact = softmax_weights(query, key, allowed_pairs(query, key, causal=causal)) @ value
    return float((linear_attention(query, key, value, feature_map, causal=causal) - exact).norm() / exact.norm())


@pytest.mark.parametrize("sharper", [1, 4, 20])
def test_large_logits_do_not_carry_low_orders_away(sharper: int) -> None:
    query, key, value = trained()
    query = query * sharper
    exact = softmax_weights(query, key, allowed_pairs(query, key)) @ value
    error = (linear_attention(query, key, value, LowOrderMap(16, 48)) - exact).norm()
    assert error < (value.mean(-2, keepdim=True) - exact).norm()


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
@DEFAULTS
def test_calibration_helps_on_other_texts(name: str, causal: bool) -> None:
    feature_map = create_feature_map(name, 16, 48, num_heads=2)
    before = missed(feature_map, causal)
    calibrate(feature_map, [(*trained()[:2], None)], causal=causal)
    # What is calibrated of a learned map is where its training begins.
    assert missed(feature_map, causal) < before * {"low_order": 0.7, "learned": 0.97}.get(name, 0.95)


def test_calibrated_projections_leave_products_alone_and_sort_them() -> None:
    query, key, _ = trained()
    feature_map = LowOrderMap(16, 48, 2).double()
    calibrate(feature_map, [(query, key, None)])
    both = feature_map.query_projection.mT @ feature_map.key_projection
    torch.testing.assert_close(both, torch.eye(16, dtype=torch.float64).expand(2, -1, -1))
    # The entries of a projected query are uncorrelated; the products of the first ones vary most.
    x = (query - feature_map.query_mean[:, None]) @ feature_map.query_projection.mT
    moments = (x.mT @ x).sum(0)
    largest = moments.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(moments, torch.diag_embed(largest), atol=1e-8 * float(largest.max()), rtol=0)
    assert (largest.diff(dim=-1) <= 0).all()


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_calibration_returns_the_share_that_is_missed(causal: bool) -> None:
    query, key, _ = trained()
    allowed = allowed_pairs(query, key, causal=causal)
    exact = softmax_weights(query, key, allowed)
    even = allowed / allowed.sum(-1, keepdim=True)
    feature_map = LowOrderMap(16, 48, 2).double()
    share = calibrate(feature_map, [(query, key, None)], causal=causal)
    error = (naive_weights(query, key, feature_map, allowed) - exact).square().sum((0, 2, 3))
    torch.testing.assert_close(share, error / (exact - even).square().sum((0, 2, 3)))
    assert (share < 0.3).all()
    # Nothing that it might choose is worse than no attention, however large the logits.
    assert (calibrate(feature_map, [(query * 30, key, None)], causal=causal) <= 1).all()


@DEFAULTS
def test_padding_does_not_enter_calibration(name: str) -> None:
    query, key, _ = trained()
    mask = torch.ones(2, 80, dtype=torch.bool)
    mask[1, 50:] = False
    whole, parts = (create_feature_map(name, 16, 48, num_heads=2) for _ in range(2))
    calibrate(parts, [(query[:1], key[:1], None), (query[1:, :, :50], key[1:, :, :50], None)])
    query[1, :, 50:] = torch.nan
    key[1, :, 50:] = torch.nan
    calibrate(whole, [(query, key, mask)])
    for name, buffer in whole.named_buffers():
        torch.testing.assert_close(buffer, getattr(parts, name))


@pytest.mark.parametrize("kind", [torch.long, torch.int32, torch.uint8], ids=str)
def test_a_mask_of_integers_is_one_of_truth(kind: torch.dtype) -> None:
    query, key, _ = trained()
    mask = torch.ones(2, 80, dtype=torch.bool)
    mask[1, 50:] = False
    one, other = LowOrderMap(16, 48, 2), LowOrderMap(16, 48, 2)
    assert torch.equal(calibrate(one, [(query, key, mask)]), calibrate(other, [(query, key, mask.to(kind))]))
    assert torch.equal(one.key_projection, other.key_projection)


class Sizes(TorchDispatchMode):
    """The largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, (tuple, list)) else [found]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return found


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_rows_in_blocks_calibrate_alike_in_less_memory(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, _ = trained(60)
    samples = [(query[:1], key[:1], None), (query[1:, :, :21] * 2, key[1:, :, :21], None)]
    found = []
    for pairs in (1 << 20, 2 * 60 * 25):
        monkeypatch.setattr(calibrate_map, "PAIRS", pairs)
        feature_map = LowOrderMap(16, 48, 2).double()
        with Sizes() as seen:
            share = calibrate(feature_map, samples, causal=causal)
        found.append([share, *feature_map.buffers()])
        # No more than the pairs of a block, or the queries and keys themselves.
        assert seen.largest == max(min(pairs, 2 * 60 * 60), 2 * (60 + 21) * 16)
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-10)


def test_as_many_positions_as_are_asked_for_do() -> None:
    """On other states of the same kind; fewer are refused, whatever the texts that they are in."""
    query, key, _ = trained()
    feature_map = LowOrderMap(16, 48, num_heads=2)
    before = missed(feature_map)
    calibrate(feature_map, [(query[:, :, :16], key[:, :, :16], None)])
    assert missed(feature_map) < before
    expected = {name: buffer.clone() for name, buffer in feature_map.named_buffers()}
    one, other = query[:1], key[:1]
    alone = (query[0].transpose(0, 1)[:, :, None], key[0].transpose(0, 1)[:, :, None], None)
    for samples, counts in (
        ([(one[:, :, :31], other, None)], "31 and 80"),
        ([(one, other[:, :, :31], None)], "80 and 31"),
        ([(one[:, :, :30], other[:, :, :30], None), (query[:, :, :1], key[:, :, :1], None)], "30 and 30"),
        ([alone], "0 and 0"),
    ):
        with pytest.raises(ValueError, match=rf"at least 32 queries and keys .* got {counts}: give more text"):
            calibrate(feature_map, samples)
    for name, buffer in feature_map.named_buffers():
        assert torch.equal(buffer, expected[name])
    # What is but a mean, or where training begins, needs no more than a position.
    for name in ("favor+", "favor++", "learned"):
        calibrate(create_feature_map(name, 16, 48, 2), [(query[:1, :, :1], key[:1, :, :1], None)])


@pytest.mark.parametrize(
    ("option", "alone"),
    [("SHIFTS", 0.0), ("CURVATURES", 0.0), ("CURVATURES", 0.25), *(("SATURATIONS", x) for x in (0.0, 0.25, 1.0))],
    ids=str,
)
def test_each_choice_of_calibration_is_of_use(option: str, alone: float, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, _ = trained()
    sample = (query * 2, key, None)
    best = calibrate(LowOrderMap(16, 48, 2), [sample])
    monkeypatch.setattr(calibrate_map, option, (alone,))
    without = calibrate(LowOrderMap(16, 48, 2), [sample]) / best
    assert without.min() > 1 - 1e-9 and without.max() > 1.01


def test_directions_that_a_sample_lacks_do_no_harm() -> None:
    query, key, value = trained()
    present = torch.arange(16) < 12
    feature_map = LowOrderMap(16, 48, 2)
    calibrate(feature_map, [(query * present, key * present, None)])
    exact = softmax_weights(query, key, allowed_pairs(query, key)) @ value
    error = (linear_attention(query, key, value, feature_map) - exact).norm()
    assert error < (value.mean(-2, keepdim=True) - exact).norm()


@DEFAULTS
def test_calibration_on_states_without_any_variance(name: str) -> None:
    feature_map = create_feature_map(name, 4, 12, num_heads=2)
    assert calibrate(feature_map, [(torch.zeros(1, 2, 8, 4), torch.zeros(1, 2, 8, 4), None)]).isfinite().all()
    inputs = states(7, dim=4)
    assert linear_attention(*inputs, feature_map).isfinite().all()


def test_bad_samples_are_refused() -> None:
    feature_map = LowOrderMap(4, 12, num_heads=2)
    query = torch.zeros(1, 2, 5, 4)
    with pytest.raises(ValueError, match="at least one sample"):
        calibrate(feature_map, [])
    with pytest.raises(ValueError, match="at least one real position"):
        calibrate(feature_map, [(query, query, torch.zeros(1, 5, dtype=torch.bool))])
    with pytest.raises(ValueError, match="finite queries and keys"):
        calibrate(feature_map, [(query, query + torch.nan, None)])
    for sample, message in (
        ((query[:, :1], query[:, :1], None), "for 2 heads, got samples of 1"),
        ((query, query[..., :3], None), "for a head_dim of 4, got samples of 3"),
        ((query[0], query, None), r"query must be a floating tensor .* of shape \[2, 5, 4\]"),
        ((query, query.long(), None), "key must be a floating tensor .* got torch.int64"),
        ((query, query.expand(2, -1, -1, -1), None), "the same batch size, got 1 and 2"),
        ((query, query, torch.ones(1, 5)), r"mask must be of shape \[1, 5\], .* got torch.float32"),
        ((query, query, torch.ones(1, 4).bool()), r"mask must be of shape \[1, 5\], .* got torch.bool of .* \[1, 4\]"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            calibrate(feature_map, [sample])
        assert "\n" not in str(error.value)
    for scaling in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match="scaling must be a positive number"):
            calibrate(feature_map, [(query, query, None)], scaling=scaling)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"head_dim": 0}, "head_dim must be at least 1, got 0"),
        ({"num_features": 0}, "num_features must be at least 1, got 0"),
        ({"num_heads": -1}, "num_heads must be at least 1, got -1"),
        ({"name": "relu"}, "must be one of low_order, favor\\+, favor\\+\\+, learned, got 'relu'"),
        ({"name": "favor+", "norm": "gauss"}, "norm must be one of chi, sqrt_d, stratified, got 'gauss'"),
        ({"norm": "gauss"}, "norm must be one of"),
    ],
    ids=lambda value: str(value),
)
def test_bad_maps_are_refused_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        create_feature_map(**arguments)
    assert "\n" not in str(error.value)
