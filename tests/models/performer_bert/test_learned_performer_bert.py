"""The learned map: its gradients, where it begins, and that it is saved and loaded with the model it hangs on.

That it is its oracle's equal, padding, causality and what is not finite are in test_attention_performer_bert.py, where
it is one map among the others. Run this file alone: pytest tests/models/performer_bert/test_learned_performer_bert.py
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, BertConfig, BertModel

from kexue_hf import PerformerBertConfig, PerformerBertModel, calibrate_performer, use_performer
from kexue_hf.models.performer_bert.attention_performer_bert import linear_attention
from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    FEATURE_MAPS,
    LearnedMap,
    centroids,
    create_feature_map,
)
from kexue_hf.performer.exact_attention import naive_attention
from tests.models.performer_bert.maps import filled, states

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
IDS = torch.arange(1, 19).view(2, 9)


def bert() -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(**SIZES)).eval()


def changed(model: torch.nn.Module) -> torch.nn.Module:
    """With maps that are nobody's start."""
    torch.manual_seed(1)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, LearnedMap):
                for parameter in part.parameters():
                    parameter.normal_()
    return model


@pytest.mark.parametrize("causal", [False, True], ids=["both ways", "causal"])
def test_gradients_of_the_parameters_are_the_oracles(causal: bool) -> None:
    feature_map = filled("learned")
    assert isinstance(feature_map, LearnedMap)
    changed(feature_map)
    real = torch.ones(2, 17, dtype=torch.bool)
    real[1, 11:] = False
    gradients = []
    for attention in (linear_attention, naive_attention):
        inputs = states(17)
        output = attention(*inputs, feature_map.double(), key_mask=real, causal=causal)
        gradients.append(torch.autograd.grad(output[..., 0].square().sum(), list(feature_map.parameters())))
    assert len(gradients[0]) == 4
    for found, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_constant_in_all_keys_of_a_feature_map_that_is_normalised_changes_nothing() -> None:
    query, key, value = states(9)
    feature_map = create_feature_map("learned", 6, 20, 2).double()
    expected = linear_attention(query, key, value, feature_map)
    with torch.no_grad():
        feature_map.key_bias += 3.0
    torch.testing.assert_close(linear_attention(query, key, value, feature_map), expected)


def test_what_is_saved_loads_to_the_same_numbers(tmp_path: Path) -> None:
    model = changed(use_performer(bert(), "learned", num_features=12))
    assert sum("favor_map.query_directions" in name for name, _ in model.named_parameters()) == 2
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert loaded.config.performer["feature_map"] == "learned"
    assert torch.equal(loaded(IDS).last_hidden_state, model(IDS).last_hidden_state)


def test_performer_bert_with_learned_maps_saves_and_loads_with_its_code(tmp_path: Path) -> None:
    settings = {"feature_map": "learned", "num_features": 12, "attention_switch_length": 0}
    model = changed(PerformerBertModel(PerformerBertConfig(**SIZES, **settings)).eval())
    model.save_pretrained(tmp_path)
    assert (tmp_path / "feature_maps_performer_bert.py").exists()
    for options in ({}, {"trust_remote_code": True}):
        loaded = AutoModel.from_pretrained(tmp_path, **options)
        assert torch.equal(loaded(IDS).last_hidden_state, model(IDS).last_hidden_state)


def test_a_folder_without_maps_gives_new_ones(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    loaded = PerformerBertModel.from_pretrained(tmp_path, feature_map="learned", num_features=12, seed=3)
    for number, feature_map in enumerate(loaded.encoder.feature_maps()):
        expected = create_feature_map("learned", 8, 12, 2, seed=3 * 1_009 + number)
        for name, parameter in feature_map.named_parameters():
            assert torch.equal(parameter, dict(expected.named_parameters())[name]), name


def test_centroids_are_those_of_the_clusters() -> None:
    places = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    noise = torch.randn(1, 3, 40, 2, generator=torch.Generator().manual_seed(0)) * 0.1
    points = (places[None, :, None] + noise).flatten(1, 2)
    found = centroids(points, 3)[0]
    expected = (places[:, None] + noise[0]).mean(1)
    torch.testing.assert_close(found, expected)


def test_centroids_differ_where_points_are_few() -> None:
    found = centroids(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), 8)[0]
    assert len(found.unique(dim=0)) == 8


def test_calibration_begins_at_the_keys() -> None:
    """With as many features as keys, far from each other, each key has a feature of its own: softmax is exact."""
    model = use_performer(bert(), "learned", num_features=12)
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.self.key.weight.mul_(400)
    expected = use_performer(model, "learned", num_features=9, layers=[0])
    batch = {"input_ids": IDS[:1]}
    for layer in model.encoder.layer:
        layer.attention.self.favor_softmax = True
    wanted = model(**batch).last_hidden_state
    calibrate_performer(model, [batch])
    del model.encoder.layer[0].attention.self.favor_softmax
    torch.testing.assert_close(expected(**batch).last_hidden_state, wanted, rtol=0, atol=1e-2)


def test_centroids_of_another_shape_are_refused() -> None:
    feature_map = create_feature_map("learned", 6, 20, 2)
    with pytest.raises(ValueError, match=r"centroids must be of shape \[2, 20, 6\], got \[2, 19, 6\]"):
        feature_map.start_from(torch.zeros(2, 19, 6))


def test_redraws_are_refused() -> None:
    with pytest.raises(ValueError, match="redraw is for random features"):
        use_performer(bert(), "learned", redraw=10)
    with pytest.raises(ValueError, match="redraw must be"):
        PerformerBertConfig(feature_map="learned", redraw=10)


def test_the_name_is_known() -> None:
    assert "learned" in FEATURE_MAPS
