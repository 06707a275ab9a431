"""What is special to NEZHA: relative positions and their table, and the files of transformers 4.

Against the original code, and what all models do: tests/models. The attention itself: test_attention_nezha.py.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AutoModel, AutoModelForMaskedLM, AutoTokenizer

import kexue_hf
from kexue_hf.models.nezha.attention_nezha import sinusoid_table
from tests.models.tiny_models import heads, random_batch, tiny_model


def tiny(head: str = "NezhaModel", **changes: Any) -> Any:
    return tiny_model(head, **{"hidden_size": 16, "num_hidden_layers": 2, "max_position_embeddings": 32, **changes})


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_other_attention_is_refused(attention: str) -> None:
    with pytest.raises(ValueError, match=r"does not support|not support"):
        AutoModel.from_config(tiny().config, attn_implementation=attention)


def test_a_registered_attention_function_is_refused() -> None:
    """It would ignore relative positions and give wrong results without an error."""
    AttentionInterface.register("nobodys_attention", lambda *_, **__: None)
    model = tiny()
    model.config._attn_implementation_internal = "nobodys_attention"
    with pytest.raises((ValueError, KeyError), match="nobodys_attention"):
        model(**random_batch(model))


@pytest.mark.parametrize("length", [9, 100])
def test_sdpa_gives_no_probabilities_at_any_length(length: int) -> None:
    model = tiny()
    model.set_attn_implementation("sdpa")
    assert not model(**random_batch(model, length=length), output_attentions=True).attentions


def test_positions_are_relative() -> None:
    """The same text with padding before it gives the same states; and the order of words matters."""
    model = tiny()
    ids = torch.arange(1, 8)[None]
    states = model(input_ids=ids).last_hidden_state
    moved = torch.cat((torch.zeros(1, 5, dtype=torch.long), ids), 1)
    again = model(input_ids=moved, attention_mask=(moved > 0).long()).last_hidden_state[:, 5:]
    torch.testing.assert_close(again, states, rtol=0, atol=1e-6)
    assert (model(input_ids=ids.flip(1)).last_hidden_state.flip(1) - states).abs().max() > 1e-3


def test_longer_than_max_position_embeddings() -> None:
    """The same as a model whose max_position_embeddings is larger."""
    model, longer = tiny(), tiny(max_position_embeddings=256)
    batch = random_batch(model, length=200)
    longer.load_state_dict(model.state_dict())
    assert torch.equal(model(**batch).last_hidden_state, longer(**batch).last_hidden_state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_table_comes_back_after_loading(dtype: torch.dtype, tmp_path: Path) -> None:
    """It is not in the file, and the model is made on the meta device, whose buffers have no values."""
    tiny("NezhaForMaskedLM").save_pretrained(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=dtype)
    table = model.nezha.encoder.relative_positions.table
    assert torch.equal(table.to(dtype), sinusoid_table(64, 8).to(dtype))
    assert model(input_ids=torch.ones(1, 70, dtype=torch.long)).logits.dtype == dtype
    assert not any("relative" in name for name in model.state_dict())


@pytest.mark.parametrize(
    "change",
    [lambda model: model.half().float(), lambda model: model.to("meta").to_empty(device="cpu")],
    ids=["half_and_back", "meta_and_back"],
)
def test_the_table_is_exact_after_every_move(change) -> None:
    model = tiny()
    batch = random_batch(model)
    weights, expected = copy.deepcopy(model.state_dict()), model(**batch).last_hidden_state
    model = change(model)
    model.load_state_dict(weights)
    assert torch.equal(model.encoder.relative_positions.table, sinusoid_table(64, 8))
    assert torch.equal(model(**batch).last_hidden_state, expected)


@pytest.mark.parametrize("head", [name for name in heads() if name.startswith("Nezha")])
def test_heads_equal_woberts(head: str) -> None:
    """Without attention, which alone knows of relative positions, both networks are BERT's."""
    ours = tiny(head, max_position_embeddings=16)
    bert = getattr(kexue_hf, head.replace("Nezha", "WoBert"))(
        kexue_hf.WoBertConfig(**{key: getattr(ours.config, key) for key in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "classifier_dropout",
        )})
    ).eval()  # fmt: skip
    weights = {name.replace("nezha.", "bert.", 1): value for name, value in ours.state_dict().items()}
    for name in weights:
        if "attention.output.dense" in name:
            weights[name] = torch.zeros_like(weights[name])
    bert.load_state_dict(weights, strict=False)
    torch.nn.init.zeros_(bert.bert.embeddings.position_embeddings.weight)
    ours.load_state_dict({name.replace("bert.", "nezha.", 1): value for name, value in weights.items()})
    batch = random_batch(ours, labels=True)
    one, other = ours(**batch), bert(**batch)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name])


def test_a_repository_of_transformers_4_loads(tmp_path: Path) -> None:
    """It has no fields of ours, a pickle file, and a constant table for every layer."""
    model = tiny("NezhaForMaskedLM", vocab_size=11)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for layer in range(2):
        key = f"nezha.encoder.layer.{layer}.attention.self.relative_positions_encoding.positions_encoding"
        weights[key] = torch.zeros(32, 32, 8)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    fields = {key: value for key, value in model.config.to_dict().items() if key in (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "max_position_embeddings", "max_relative_position", "type_vocab_size", "layer_norm_eps", "pad_token_id",
    )}  # fmt: skip
    fields |= {"model_type": "nezha", "architectures": ["NezhaForMaskedLM"], "use_relative_position": True}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "好", "，", "a", "##b"]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    loaded, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is kexue_hf.NezhaForMaskedLM
    assert not info["missing_keys"] and not info["unexpected_keys"]
    batch = {"input_ids": torch.arange(1, 8)[None]}
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer).__name__ == "BertTokenizer"
    assert tokenizer("今天好ab")["input_ids"] == [2, 5, 6, 7, 9, 10, 3]


@pytest.mark.parametrize("head", ["NezhaModel", "NezhaForMaskedLM"])
def test_absolute_positions_are_refused(head: str) -> None:
    model, ids = tiny(head), torch.arange(1, 6)[None]
    with pytest.raises(ValueError, match="NEZHA takes no position_ids: "):
        model(input_ids=ids, position_ids=ids)
    model(input_ids=ids, position_ids=None)


def test_eager_and_sdpa_agree_on_a_text_of_padding_alone() -> None:
    model = tiny()
    batch = random_batch(model)
    batch["attention_mask"][2] = 0
    states = []
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        states.append(model(**batch).last_hidden_state)
    torch.testing.assert_close(*states, rtol=0, atol=2e-6)
