"""Layers compared with softmax, and the automatic choice of linear layers: `layers="auto"`, `linear_layers="auto"`.

References: statistics by their definitions from the matrix of all pairs; models whose layers are made near or far. Run
this file alone: pytest tests/performer/test_layer_comparison.py
"""

import copy
import logging

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from kexue_hf import PerformerBertConfig, PerformerBertForCausalLM, PerformerBertModel, calibrate_performer
from kexue_hf import use_performer as swap
from kexue_hf.models.performer_bert.feature_maps_performer_bert import create_feature_map
from kexue_hf.models.performer_bert.state_performer_bert import PerformerBertState
from kexue_hf.performer.attention_modules import attention_modules
from kexue_hf.performer.exact_attention import allowed_pairs, naive_attention, softmax_weights
from kexue_hf.performer.layer_comparison import LayerComparison, mean_map, weight_sharing_copy

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32,
}  # fmt: skip
FAR = 1


def one_layer_far(model):
    """Make layer `FAR` attend to single keys, the others to nearly all."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query.weight" in name or "key.weight" in name:
                parameter.mul_(100 if f"layer.{FAR}." in name else 10)
    return model.eval()


def tiny(cls=BertModel, config=BertConfig, **changes):
    torch.manual_seed(0)
    return one_layer_far(cls(config(**{**SIZES, **changes})))


def ours(**changes):
    return tiny(PerformerBertModel, PerformerBertConfig, attention_switch_length=None, **changes)


def batches(count: int = 2, rows: int = 2) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(rows, 24, dtype=torch.long)
    mask[0, 20:] = 0
    made = (torch.randint(1, 50, (rows, 24), generator=generator) for _ in range(count))
    return [{"input_ids": ids, "attention_mask": mask} for ids in made]


@pytest.mark.parametrize("causal", [False, True], ids=["both-ways", "causal"])
def test_statistics_are_those_of_all_pairs(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexue_hf.performer.layer_comparison._PAIRS", 200)  # three rows at a time
    torch.manual_seed(0)
    query, key, value = (3 * torch.randn(2, 3, 9, 6, dtype=torch.float64) + 1 for _ in range(3))
    real = torch.ones(2, 9, dtype=torch.bool)
    real[0, 6:] = False
    value[0, :, 6:] = torch.nan
    feature_map = create_feature_map("favor+", 6, 16)
    seen = LayerComparison({"map": feature_map, "mean": mean_map(feature_map)})
    seen.add(query[:1], key[:1], value[:1], real[:1], 0.3, causal)
    seen.add(query[1:], key[1:], value[1:], None, 0.3, causal)

    rows = real[:, None].expand(2, 3, 9)
    allowed = allowed_pairs(query, key, real, causal).expand(2, 3, 9, 9)
    weights, values = softmax_weights(query, key, allowed, 0.3), value.nan_to_num(0.0)
    exact = weights @ values
    linear = naive_attention(query, key, values, feature_map, real, 0.3, causal)
    even = allowed.double() / allowed.sum(-1, keepdim=True) @ values
    attended = torch.special.entr(weights).sum(-1).exp()
    scores = query @ key.mT * 0.3
    for head in range(3):
        its = rows[:, head]

        def error(output: torch.Tensor, head: int = head, its: torch.Tensor = its) -> float:
            return float((output[:, head][its] - exact[:, head][its]).norm() / exact[:, head][its].norm())

        assert float(seen.error("map", each_head=True)[head]) == pytest.approx(error(linear), rel=1e-4)
        assert float(seen.mean_error(each_head=True)[head]) == pytest.approx(error(even))
        assert float(seen.error("mean", each_head=True)[head]) == pytest.approx(error(even))
        assert float(seen.attended()[head]) == pytest.approx(float(attended[:, head][its].mean()))
        share = (attended[:, head] / allowed[:, head].sum(-1))[its].mean()
        assert float(seen.share()[head]) == pytest.approx(float(share))
        variances = [
            scores[text, head, row][allowed[text, head, row]].var(correction=0) for text, row in its.nonzero().tolist()
        ]
        assert float(seen.logit_deviation()[head]) == pytest.approx(float(torch.stack(variances).mean().sqrt()))
        entries = (query[:, head][its] - query[:, head][its].mean(0)).square().mean()
        expected = (entries * 0.3 * 6**0.5).sqrt()
        assert float(seen.deviation("query")[head]) == pytest.approx(float(expected))
    whole = (linear - exact)[rows].norm() / exact[rows].norm()
    assert float(seen.error("map")) == pytest.approx(float(whole), rel=1e-4)


def test_a_twin_shares_only_the_weights() -> None:
    model = swap(tiny().train())
    copied = weight_sharing_copy(model)
    assert all(a is b for a, b in zip(model.parameters(), copied.parameters(), strict=True))
    assert model.training and not copied.training and copied.config is not model.config
    calibrate_performer(copied, batches())
    fresh = swap(tiny()).encoder.layer[0].attention.self.favor_map
    torch.testing.assert_close(model.encoder.layer[0].attention.self.favor_map.state_dict(), fresh.state_dict())


def test_layers_that_are_far_stay_softmax(tmp_path) -> None:
    model = swap(tiny(), layers="auto", texts=batches(), threshold=0.25)
    assert model.config.performer["layers"] == [0, 2]
    assert [hasattr(module, "favor_map") for module in attention_modules(model).values()] == [True, False, True]
    # The maps are calibrated, unlike new ones.
    assert not (model.encoder.layer[0].attention.self.favor_map.key_mean == 0).all()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again.config.performer == model.config.performer
    torch.testing.assert_close(again(**batches()[0])[0], model(**batches()[0])[0], rtol=0, atol=0)


def test_comparison_uses_other_rows_than_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    from kexue_hf.performer import calibrate_model as model_calibration

    calibrated: list[torch.Tensor] = []
    compared: list[torch.Tensor] = []
    inner, other = model_calibration._calibrate, model_calibration.compare_layers

    def calibrate(model, maps, given, progress):
        calibrated.extend(row for batch in given for row in batch["input_ids"])
        return inner(model, maps, given, progress)

    def compare(model, given, maps):
        compared.extend(row for batch in given for row in batch["input_ids"])
        return other(model, given, maps)

    monkeypatch.setattr(model_calibration, "_calibrate", calibrate)
    monkeypatch.setattr(model_calibration, "compare_layers", compare)
    for rows in (3, 1):
        calibrated.clear()
        compared.clear()
        given = batches(4, rows)
        swap(tiny(), layers="auto", texts=given)
        assert not any((a == b).all() for a in calibrated for b in compared)
        assert len(calibrated) == len(compared) == 2 * rows


@pytest.mark.parametrize("training", [False, True], ids=["evaluating", "training"])
def test_performer_bert_resolves_auto(tmp_path, training: bool) -> None:
    model = ours(linear_layers="auto").train(training)
    assert calibrate_performer(model, batches(), threshold=0.25).keys()
    assert model.training is training
    assert model.config.linear_layers == [0, 2]
    assert [getattr(module, "favor_softmax", False) for module in attention_modules(model).values()] == [
        False, True, False,
    ]  # fmt: skip
    model.save_pretrained(tmp_path)
    again = PerformerBertModel.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**batches()[0])[0], model.eval()(**batches()[0])[0], rtol=0, atol=0)


def test_no_layer_at_all(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("kexue_hf"), "propagate", True)
    model, plain = tiny(), tiny()
    swap(model, layers="auto", texts=batches(), threshold=1e-9)
    assert model.config.performer["layers"] == []
    torch.testing.assert_close(model(**batches()[0])[0], plain(**batches()[0])[0], rtol=0, atol=1e-5)
    own = ours(linear_layers="auto")
    calibrate_performer(own, batches(), threshold=1e-9)
    assert own.config.linear_layers == []


def test_until_it_is_resolved_all_are_linear() -> None:
    model = ours(linear_layers="auto")
    expected = ours(linear_layers=None)(**batches()[0])[0]
    torch.testing.assert_close(model(**batches()[0])[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": "auto"}, "needs texts"),
        ({"texts": batches()}, "no effect without"),
        ({"layers": "some"}, "'auto' or None"),
        ({"layers": "auto", "texts": batches(1, 1)}, "at least two texts"),
        ({"layers": "auto", "texts": "a text"}, "list"),
        ({"layers": "auto", "texts": ["a", "b"]}, "mapping"),
        ({"layers": "auto", "texts": batches(), "threshold": 0}, "threshold"),
    ],
    ids=["no-texts", "no-auto", "a-word", "one-text", "a-string", "no-tokenizer", "threshold"],
)
def test_what_cannot_be_chosen_leaves_the_model_as_it_was(options: dict, message: str) -> None:
    model = tiny()
    before = copy.deepcopy(model.config.to_dict())
    with pytest.raises(ValueError, match=message):
        swap(model, **options)
    assert model.config.to_dict() == before
    assert not any(hasattr(module, "favor_map") for module in model.modules())


def test_a_state_needs_all_layers_linear() -> None:
    for layers in ("auto", [0]):
        with pytest.raises(ValueError, match="linear in all layers"):
            PerformerBertForCausalLM(PerformerBertConfig(**SIZES, linear_layers=layers))
    model = PerformerBertModel(PerformerBertConfig(**SIZES, linear_layers=[0, 2]), is_causal=True)
    state = PerformerBertState(model.encoder.feature_maps(), model.encoder.scaling)
    with pytest.raises(ValueError, match="layers are all linear"):
        model(**batches()[0], state=state)


@pytest.mark.parametrize("layers", ["some", [3]])
def test_linear_layers_that_do_not_exist(layers: object) -> None:
    with pytest.raises(ValueError, match="linear_layers must be of 0 to 2, or 'auto'"):
        PerformerBertConfig(**SIZES, linear_layers=layers)
