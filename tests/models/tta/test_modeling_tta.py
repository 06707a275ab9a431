"""What is special to T-TA: tokens that attend to nothing, the query stream, BERT's folders, refused attention.

Against the original code, and what all models do: tests/models. That no token sees itself: test_no_leak_tta.py.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, BertConfig, BertForPreTraining

import kexue_hf
from kexue_hf import TtaConfig, TtaForMaskedLM, WoBertConfig, WoBertForMaskedLM
from tests.models.tiny_models import gradients

LENGTH = 7
# All, some, one and no real tokens.
MASK = torch.tensor([[1] * 7, [1, 1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [0] * 7])
IDS = torch.randint(7, 40, (4, LENGTH), generator=torch.Generator().manual_seed(3))


def config_of(**options: Any) -> TtaConfig:
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    rest = {"intermediate_size": 24, "max_position_embeddings": 9, "initializer_range": 0.5}
    return TtaConfig(**{**sizes, **rest, **options})


def tiny(name: str = "TtaForMaskedLM", **options: Any) -> Any:
    torch.manual_seed(0)
    return getattr(kexue_hf, name)(config_of(**options)).eval()


@pytest.mark.parametrize("options", [{}, {"query_source": "position"}, {"mask_diagonal": False}], ids=str)
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "padded"])
def test_eager_and_sdpa_agree(options: dict, mask: torch.Tensor | None) -> None:
    """Outputs and gradients; also for texts of one token and of none."""
    found = []
    for way in ("eager", "sdpa"):
        model = tiny("TtaModel", attn_implementation=way, initializer_range=0.1, **options).double()
        states = model(IDS, mask).last_hidden_state
        found.append((states, gradients(model, states)))
    torch.testing.assert_close(*found, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("way", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_token_without_keys_attends_to_nothing(way: str, dtype: torch.dtype) -> None:
    """Attention gives zeros for the only token of a text and for a row of padding, whatever the values are."""
    model = tiny("TtaModel", attn_implementation=way).to(dtype)
    found: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(model.encoder.layer):
        layer.attention.self.register_forward_hook(lambda module, _, output, n=number: found.update({n: output[0]}))
    states = model(IDS, MASK).last_hidden_state
    assert torch.isfinite(states).all()
    for output in found.values():
        assert (output[2, 0] == 0).all() and (output[3] == 0).all()
        assert (output[0] != 0).any(-1).all() and (output[2, 1:] != 0).any(-1).all()
    found.clear()
    model(IDS[:, :1])
    assert len(found) == 3 and all((output == 0).all() for output in found.values())


@pytest.mark.parametrize("mask", [None, MASK, MASK[:, None, None, :].bool().expand(4, 2, LENGTH, LENGTH)])
@pytest.mark.parametrize("length", [1, LENGTH])
def test_every_query_has_a_key(mask: torch.Tensor | None, length: int) -> None:
    """Kernels differ on a query without keys (zeros or NaN), so none ever gets one."""
    mask = mask if mask is None else mask[..., :length, :length] if mask.dim() == 4 else mask[:, :length]
    allowed, alone = tiny("TtaModel")._masks(mask, torch.zeros(4, length, 16))
    assert allowed.any(-1).all()
    lonely = torch.tensor([length == 1, length == 1, True, True])
    assert alone is None or torch.equal(alone.flatten(1).any(1), lonely if mask is not None else lonely[:1])


def test_attentions_are_the_probabilities_that_are_used() -> None:
    attentions = tiny(attn_implementation="eager")(IDS, MASK, output_attentions=True).attentions
    assert len(attentions) == 3
    for probabilities in attentions:
        assert probabilities.shape == (4, 2, LENGTH, LENGTH)
        assert (probabilities.diagonal(dim1=-2, dim2=-1) == 0).all()
        sums = probabilities.sum(-1)
        torch.testing.assert_close(sums[:2], torch.ones_like(sums[:2]))
        assert (sums[2, :, 0] == 0).all() and (sums[3] == 0).all()


@pytest.mark.parametrize("mask, rows", [(None, 1), (MASK, 2)], ids=["all", "padded"])
def test_the_first_queries_are_projected_once_per_length(mask: torch.Tensor | None, rows: int) -> None:
    model = tiny("TtaModel")
    shapes: list[tuple] = []
    model.encoder.layer[0].attention.self.query.register_forward_hook(lambda _, x, y: shapes.append(tuple(x[0].shape)))
    states = model(IDS, mask).last_hidden_state
    assert shapes == [(rows, LENGTH, 16)]
    positions = torch.arange(LENGTH).expand(4, -1)
    torch.testing.assert_close(model(IDS, mask, position_ids=positions).last_hidden_state, states, atol=2e-6, rtol=0)
    assert shapes[1:] == [(4, LENGTH, 16)]


def test_with_dropout_the_texts_have_different_queries() -> None:
    model = tiny("TtaModel").train()
    model.embeddings.dropout.p = 0.5
    shapes: list[tuple] = []
    model.encoder.layer[0].attention.self.query.register_forward_hook(lambda _, x, y: shapes.append(tuple(x[0].shape)))
    start = model(IDS, output_hidden_states=True).hidden_states[0]
    assert not torch.equal(start[0], start[1])
    assert shapes == [(4, LENGTH, 16)]


def test_hidden_states_are_the_query_stream() -> None:
    model = tiny("TtaModel")
    outputs = model(IDS, MASK, output_hidden_states=True)
    assert [tuple(states.shape) for states in outputs.hidden_states] == [(4, LENGTH, 16)] * 4
    assert torch.equal(outputs.hidden_states[-1], outputs.last_hidden_state)
    mask, padding = model.embeddings.word_embeddings.weight[4], model.embeddings.word_embeddings.weight[0]
    places = model.embeddings.position_embeddings.weight[:LENGTH]
    expected = torch.where(MASK[..., None] == 1, mask, padding) + places
    torch.testing.assert_close(outputs.hidden_states[0], model.embeddings.LayerNorm(expected), atol=1e-6, rtol=0)
    model = tiny("TtaModel", query_source="position")
    start = model(IDS, MASK, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(start[0], model.embeddings.LayerNorm(model.embeddings.position_embeddings.weight[:7]))


def test_segments_are_optional() -> None:
    segments = torch.arange(LENGTH).ge(3).long().expand(4, -1)
    without, with_them = tiny(), tiny(type_vocab_size=2)
    assert torch.equal(without(IDS, token_type_ids=segments).logits, without(IDS).logits)
    assert not torch.equal(with_them(IDS, token_type_ids=segments).logits, with_them(IDS).logits)
    torch.testing.assert_close(with_them(IDS, token_type_ids=segments * 0).logits, with_them(IDS).logits)


@pytest.mark.parametrize("kind", ["bert", "wobert"])
@pytest.mark.parametrize("query_source", ["mask_embedding", "position"])
def test_starts_from_a_folder_of_bert(kind: str, query_source: str, tmp_path: Path, recwarn: Any) -> None:
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config_class, model_class = {
        "bert": (BertConfig, BertForPreTraining),
        "wobert": (WoBertConfig, WoBertForMaskedLM),
    }[kind]
    theirs = model_class(config_class(**sizes, intermediate_size=24, max_position_embeddings=9))
    theirs.save_pretrained(tmp_path / "theirs")
    chosen = {"query_source": query_source} if query_source == "position" else {"mask_token_id": 5}
    ours, info = TtaForMaskedLM.from_pretrained(tmp_path / "theirs", output_loading_info=True, **chosen)
    assert not info["missing_keys"] and not info["mismatched_keys"] and not info["unexpected_keys"]
    for name, value in ours.named_parameters():
        assert torch.equal(value, theirs.get_parameter(name)), name
    assert ours.config.model_type == "tta" and ours.config.type_vocab_size == 2
    assert ours.config.query_source == query_source
    assert ours.config.mask_token_id == (4 if query_source == "position" else 5)
    ours.save_pretrained(tmp_path / "ours")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")
    assert type(again) is TtaForMaskedLM and again.config.auto_map["AutoModel"] == "modeling_tta.TtaModel"
    assert torch.equal(again.eval()(IDS).logits, ours.eval()(IDS).logits)


def test_a_folder_of_bert_needs_a_mask_token_id(tmp_path: Path) -> None:
    BertConfig(vocab_size=40).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"type 'bert'.*give mask_token_id=tokenizer.mask_token_id"):
        TtaConfig.from_pretrained(tmp_path)
    assert TtaConfig.from_pretrained(tmp_path, mask_token_id=7).mask_token_id == 7


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(4, 1, 7, 7), "got torch.float32"),
        (torch.ones(4, 7, 7).bool(), "boolean"),
        (MASK[:1], r"texts. shape \[4, 7\], .*\[1, 7\]"),
    ],
    ids=["scores", "three_dimensions", "another_batch"],
)
def test_bad_masks(mask: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny()(IDS, mask)


def test_a_mask_token_outside_the_vocabulary() -> None:
    model = tiny(mask_token_id=40)
    with pytest.raises(ValueError, match="mask_token_id is 40, but the vocabulary has 40 tokens"):
        model(IDS)
    model.resize_token_embeddings(41)
    assert model(IDS).logits.shape == (4, LENGTH, 41)


@pytest.mark.parametrize("way", ["flash_attention_2", "flash_attention_3"])
def test_flash_attention_is_refused_while_the_diagonal_is_masked(way: str) -> None:
    with pytest.raises(ValueError, match=r"the diagonal would not be masked.*attn_implementation='sdpa'"):
        tiny(attn_implementation=way)
    model = tiny()
    with pytest.raises(ValueError, match="the diagonal would not be masked"):
        model.set_attn_implementation(way)
    assert model.config._attn_implementation == "sdpa"
    # Without the diagonal it is only missing here.
    with pytest.raises((ImportError, ValueError)) as caught:
        tiny(attn_implementation=way, mask_diagonal=False)
    assert "see itself" not in str(caught.value) and "does not support" not in str(caught.value)


@pytest.mark.parametrize("way", ["flash_attention_2", "flex_attention", "unknown"])
def test_an_implementation_that_is_set_later_is_refused(way: str) -> None:
    model = tiny()
    model.config._attn_implementation_internal = way
    with pytest.raises(ValueError, match=f"masks the diagonal.*{way}.*choose one of eager and sdpa"):
        model(IDS)


def test_predicts_all_tokens_at_once() -> None:
    assert tiny().predicts_all_tokens_at_once and not tiny(mask_diagonal=False).predicts_all_tokens_at_once
    assert not hasattr(tiny("TtaModel"), "predicts_all_tokens_at_once")
