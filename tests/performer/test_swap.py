"""Linear attention in transformers' models: `attn_implementation="favor"`, `use_performer`, `calibrate_performer`.

Oracles: the naive linear attention, the model itself without padding, without a cache, or as softmax. Run this file
alone: pytest tests/performer/test_swap.py
"""

import copy
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import kexue_hf
from kexue_hf import calibrate_performer, use_performer
from kexue_hf.models.performer_bert.favor_performer_bert import favor_attention, favor_mask
from kexue_hf.models.performer_bert.feature_maps_performer_bert import create_feature_map
from kexue_hf.performer import calibrate_model
from kexue_hf.performer.attention_modules import attention_modules
from kexue_hf.performer.exact_attention import (
    allowed_pairs,
    naive_attention,
    naive_weights,
    softmax_weights,
)
from tests.fresh_process import run_elsewhere
from tests.models.test_keywords import tiny_model as of_any_class

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
BERT = {**SIZES, "intermediate_size": 24, "max_position_embeddings": 64}
NO_DROPOUT = {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
LLAMA = {**SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}


def tiny_bert(attention: str = "favor", cls=BertForMaskedLM, **changes):
    torch.manual_seed(0)
    model = cls._from_config(BertConfig(**{**BERT, **changes}), attn_implementation=attention).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Norms as of a trained model, so that the attention is anything but a mean.
            if "query.weight" in name or "key.weight" in name:
                parameter.mul_(20)
    return model


def tiny_llama(attention: str = "favor", **changes):
    torch.manual_seed(0)
    return LlamaForCausalLM._from_config(LlamaConfig(**{**LLAMA, **changes}), attn_implementation=attention).eval()


def ids(rows: int = 2, length: int = 20) -> torch.Tensor:
    return torch.randint(1, 50, (rows, length), generator=torch.Generator().manual_seed(1))


def padded() -> dict[str, torch.Tensor]:
    """Padding on the right of the first row, on the left of the second."""
    mask = torch.ones(3, 20, dtype=torch.long)
    mask[0, 15:] = 0
    mask[1, :4] = 0
    return {"input_ids": ids(3), "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


class Layer(torch.nn.Module):
    is_causal = False


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["low_order", "favor+"])
def test_the_attention_is_the_oracles(name: str, causal: bool) -> None:
    """Two queries share a head of keys; as many queries as keys, and fewer, as with a cache."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, heads, 9, 6, dtype=torch.float64) for heads in (4, 2, 2))
    real = torch.ones(2, 9, dtype=torch.bool)
    real[0, 6:] = False
    layer = Layer()
    layer.is_causal, layer.favor_map = causal, create_feature_map(name, 6, 32)
    expected = naive_attention(
        query, key.repeat_interleave(2, 1), value.repeat_interleave(2, 1), layer.favor_map, key_mask=real,
        scaling=0.3, causal=causal,
    ).transpose(1, 2)  # fmt: skip
    output, weights = favor_attention(layer, query, key, value, real, scaling=0.3)
    assert weights is None
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
    last, _ = favor_attention(layer, query[:, :, 7:], key, value, real, scaling=0.3)
    torch.testing.assert_close(last, expected[:, 7:], rtol=0, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["low_order", "favor+", "softmax"])
def test_weights_that_are_asked_for(name: str, causal: bool) -> None:
    """Those of the oracle, whatever stands in padded values; the output is made of them."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 9, 6, dtype=torch.float64) for _ in range(3))
    real = torch.ones(2, 9, dtype=torch.bool)
    real[0, 6:] = False
    value[0, :, 6:] = torch.nan
    layer = Layer()
    layer.is_causal = causal
    if name == "softmax":
        layer.favor_softmax = True
        expected = softmax_weights(query, key, allowed_pairs(query, key, real, causal), 0.3)
    else:
        layer.favor_map = create_feature_map(name, 6, 32)
        allowed = allowed_pairs(query, key, real, causal)
        expected = naive_weights(query, key, layer.favor_map, allowed, 0.3, causal)
    output, weights = favor_attention(layer, query, key, value, real, scaling=0.3, output_attentions=True)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-10)
    plain, _ = favor_attention(layer, query, key, value.nan_to_num(0.0), real, scaling=0.3)
    torch.testing.assert_close(output, plain, rtol=0, atol=1e-10)


def test_without_a_map_it_is_the_default_one() -> None:
    query = torch.randn(2, 4, 9, 6, dtype=torch.float64)
    expected = naive_attention(query, query, query, create_feature_map("low_order", 6, 256))
    torch.testing.assert_close(favor_attention(Layer(), query, query, query, None)[0], expected.transpose(1, 2))


@pytest.mark.parametrize("own_map", [False, True])
def test_padding_changes_nothing(own_map: bool) -> None:
    model = tiny_bert()
    if own_map:
        use_performer(model, "favor+")
    batch = padded()
    together = model(**batch).logits
    for row, mask in enumerate(batch["attention_mask"].bool()):
        alone = model(input_ids=batch["input_ids"][row, mask][None]).logits[0]
        torch.testing.assert_close(together[row, mask], alone, rtol=0, atol=1e-6)


ENCODERS = {
    "roberta": lambda: transformers.RobertaConfig(**BERT, pad_token_id=0),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=64
    ),
    "electra": lambda: transformers.ElectraConfig(**BERT, embedding_size=8),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**BERT, pad_token_id=0),
    "wobert": lambda: kexue_hf.WoBertConfig(**BERT),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_many_encoders(name: str) -> None:
    """Near to softmax, since the weights are small; and not softmax."""
    torch.manual_seed(0)
    config = ENCODERS[name]()
    model = AutoModel.from_config(config, attn_implementation="sdpa").eval()
    batch = {key: value for key, value in padded().items() if key != "position_ids"}
    real = batch["attention_mask"].bool()
    softmax = model(**batch).last_hidden_state[real]
    model.set_attn_implementation("favor")
    plain = model(**batch).last_hidden_state[real]
    assert 0 < (plain - softmax).abs().max() < 1e-3
    use_performer(model)
    attached = model(**batch).last_hidden_state[real]
    torch.testing.assert_close(attached, plain, rtol=0, atol=1e-6)
    assert all(module.favor_map.num_heads == 2 for module in attention_modules(model).values())


def test_a_vision_transformer() -> None:
    sizes = {**SIZES, "intermediate_size": 24, "image_size": 8, "patch_size": 2}
    del sizes["vocab_size"]
    model = AutoModel.from_config(transformers.ViTConfig(**sizes), attn_implementation="sdpa").eval()
    pixels = torch.randn(2, 3, 8, 8)
    softmax = model(pixels).last_hidden_state
    linear = use_performer(model)(pixels).last_hidden_state
    assert 0 < (linear - softmax).abs().max() < 1e-3


@pytest.mark.parametrize("own_map", [False, True])
def test_a_causal_model_with_fewer_heads_of_keys(own_map: bool) -> None:
    """The future changes nothing, to the last bit; a cache changes nothing; left padding changes nothing."""
    model = tiny_llama()
    if own_map:
        use_performer(model, "favor+", layers=[0, 2])
    tokens = ids()
    logits = model(tokens).logits
    changed = tokens.clone()
    changed[:, 12:] = 3
    assert torch.equal(model(changed).logits[:, :12], logits[:, :12])
    assert not torch.equal(model(changed).logits[:, 12:], logits[:, 12:])
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    cached, whole = (model.generate(tokens, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, whole)
    left = torch.cat([torch.zeros(2, 3, dtype=torch.long), tokens], dim=1)
    mask = (left > 0).long()
    assert torch.equal(model.generate(left, attention_mask=mask, **options)[:, 23:], whole[:, 20:])


def refused_models() -> dict:
    """What is to be called, and a part of the error."""
    batch = {"input_ids": ids()}
    square = torch.ones(2, 1, 20, 20)
    bert = tiny_bert
    mistral = transformers.MistralConfig(**LLAMA, sliding_window=4, attn_implementation="favor")
    t5 = transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, attn_implementation="favor"
    )
    deberta = transformers.DebertaConfig(**BERT, attn_implementation="favor")
    packed = torch.arange(20).remainder(10)[None].expand(2, -1)
    return {
        "square_mask": (lambda: bert()(**batch, attention_mask=square), r"\(batch, keys\)"),
        "square_boolean_mask": (lambda: bert()(**batch, attention_mask=square.bool()), r"\(batch, keys\)"),
        "dropout": (lambda: bert().train()(**batch), "no weights to drop, got dropout 0.1"),
        "window": (lambda: AutoModel.from_config(mistral).eval()(**batch), "sliding window"),
        "relative_bias": (lambda: transformers.T5EncoderModel(t5).eval()(**batch), "position_bias"),
        "own_attention": (lambda: AutoModel.from_config(deberta), "cannot be swapped"),
        "packed_texts": (lambda: tiny_llama()(**batch, position_ids=packed, use_cache=False), "packed texts"),
        "static_cache": (
            lambda: tiny_llama().generate(**batch, max_new_tokens=2, cache_implementation="static"),
            "dynamic cache",
        ),
    }


@pytest.mark.parametrize("case", refused_models())
def test_what_is_refused(case: str) -> None:
    call, message = refused_models()[case]
    with pytest.raises(ValueError, match=message) as caught, torch.no_grad():
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature_map": "favour"}, "feature map must be one of"),
        ({"num_features": 0}, "num_features must be at least 1"),
        ({"feature_map": "favor+", "norm": "l2"}, "norm must be one of"),
        ({"redraw": 10}, "redraw is for random features"),
        ({"feature_map": "favor+", "redraw": 0}, "redraw must be"),
        ({"layers": [3]}, "3 attention layers"),
        ({"layers": []}, "3 attention layers"),
    ],
)
def test_wrong_settings_leave_the_model_as_it_was(settings: dict, message: str) -> None:
    model = tiny_bert("sdpa")
    with pytest.raises(ValueError, match=message):
        use_performer(model, **settings)
    assert model.config._attn_implementation == "sdpa" and not hasattr(model.config, "performer")
    assert not any("favor" in name for name in model.state_dict())


def test_a_model_without_attention_to_swap() -> None:
    model = AutoModel.from_config(transformers.DebertaConfig(**BERT))
    with pytest.raises(ValueError, match="no attention that can be swapped"):
        use_performer(model)


SETTINGS = {
    "default": {},
    "favor+": {"feature_map": "favor+", "num_features": 40, "norm": "stratified", "seed": 3, "redraw": 2},
    "favor++, two layers": {"feature_map": "favor++", "layers": [0, -1]},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_saving_and_loading_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    """Into the same head, another one and the encoder alone; as a copy, and out of a pickle."""
    model, batch = tiny_bert("sdpa"), padded()
    softmax = model(**batch).logits
    assert use_performer(model, **SETTINGS[name]) is model
    calibrate_performer(model, [batch])
    expected, states = model(**batch).logits, model.bert(**batch).last_hidden_state
    assert not torch.equal(expected, softmax)
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert loaded.config.performer == model.config.performer
    encoder = AutoModel.from_pretrained(tmp_path)
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other.eval()(**batch).logits, expected)
    assert torch.equal(encoder.eval()(**batch).last_hidden_state, states)
    # What was linear can be softmax again.
    loaded.set_attn_implementation("sdpa")
    torch.testing.assert_close(loaded(**batch).logits, softmax, rtol=0, atol=1e-6)


def test_layers_that_are_left_out_stay_softmax() -> None:
    model, batch = tiny_bert("sdpa"), padded()
    states = model(**batch, output_hidden_states=True).hidden_states
    use_performer(model, "favor+", layers=[-1])
    found = model(**batch, output_hidden_states=True).hidden_states
    for layer in (1, 2):
        torch.testing.assert_close(found[layer], states[layer], rtol=0, atol=1e-6)
    assert (found[3] - states[3]).abs().max() > 1e-3
    assert model.config.performer["layers"] == [2]
    llama, tokens = tiny_llama("sdpa"), ids()
    before = llama(tokens, output_hidden_states=True).hidden_states[2]
    use_performer(llama, layers=[2])
    torch.testing.assert_close(llama(tokens, output_hidden_states=True).hidden_states[2], before, rtol=0, atol=1e-6)


def test_a_file_without_maps_is_given_new_ones(tmp_path: Path) -> None:
    """Made without storage: what no file fills would be whatever memory holds."""
    model = tiny_bert("sdpa")
    model.save_pretrained(tmp_path)
    settings = use_performer(copy.deepcopy(model), "favor++", redraw=4).config.performer
    config = BertConfig.from_pretrained(tmp_path)
    config.performer = settings
    loaded = BertForMaskedLM.from_pretrained(tmp_path, config=config)
    expected = use_performer(model, "favor++", redraw=4)
    assert torch.equal(loaded.eval()(**padded()).logits, expected(**padded()).logits)
    assert loaded.bert.encoder.layer[0].attention.self.favor_map.steps == 0


@pytest.mark.parametrize("name", ["favor++", "low_order", "learned"])
def test_a_file_with_a_part_of_a_map_keeps_it(name: str, tmp_path: Path) -> None:
    """The rest is new; and a model that is put into another one keeps all that it has."""
    model = use_performer(tiny_bert("sdpa", cls=BertModel), name)
    new = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if "favor_map" in key:
                value.add_(0.5)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    dropped = [key for key in saved if key.endswith(("favor_map.key_mean", "query_projection", "query_directions"))]
    save_file(
        {key: saved[key] for key in saved.keys() - set(dropped)}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    loaded, info = BertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert dropped and sorted(info["missing_keys"]) == sorted(dropped)
    expected = {**saved, **{key: new[key] for key in dropped}}
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    transformers.EncoderDecoderModel(encoder=loaded, decoder=tiny_bert("sdpa", BertLMHeadModel, is_decoder=True))
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    model, batch = use_performer(tiny_bert("sdpa")), padded()
    expected = model(**batch).logits
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=dtype).eval()
    for other in (loaded, model.to(dtype)):
        logits = other(**batch).logits
        assert logits.dtype == dtype
        assert (logits.float() - expected).norm() < 0.05 * expected.norm()


def training_step(model, optimizer, passes: int = 1) -> None:
    for _ in range(passes):
        model(input_ids=ids(), labels=ids()).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def draws(model) -> torch.Tensor:
    return torch.stack([module.favor_map.projection.clone() for module in attention_modules(model).values()])


@pytest.mark.parametrize("frozen", [False, True], ids=["all_weights", "head_only"])
def test_redraws_count_optimizer_steps(frozen: bool, tmp_path: Path) -> None:
    """Not passes, not evaluations; and after loading it goes on as if nothing had happened."""
    model = use_performer(tiny_bert("sdpa", **NO_DROPOUT), "favor+", 8, seed=5, redraw=2).train()
    if frozen:
        model.bert.requires_grad_(False)
    first = draws(model)
    assert len({tuple(layer.flatten().tolist()) for layer in first}) == 3
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(2):
        training_step(model, optimizer, passes=3)
        model(input_ids=ids())
    # Two steps have been made, and the second has drawn.
    second = draws(model)
    assert not torch.equal(first, second)
    model.eval()
    for _ in range(3):
        model(input_ids=ids())
    model.train()
    training_step(model, optimizer, passes=2)
    assert torch.equal(draws(model), second)
    model(input_ids=ids())
    model.save_pretrained(tmp_path)
    again = BertForMaskedLM.from_pretrained(tmp_path).train()
    assert torch.equal(draws(again), second)
    found = []
    for other in (model, again, copy.deepcopy(model)):
        if frozen:
            other.bert.requires_grad_(False)
        optimizer = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], lr=1e-3)
        for _ in range(2):
            other(input_ids=ids())
            training_step(other, optimizer)
        found.append(draws(other))
        # Three before and two here.
        assert {int(module.favor_map.steps) for module in attention_modules(other).values()} == {5}
    assert not torch.equal(found[0], second)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_using_it_again_replaces_calibrated_maps() -> None:
    model, batch = use_performer(tiny_bert("sdpa")), padded()
    new = model(**batch).logits
    calibrate_performer(model, [batch])
    assert not torch.equal(model(**batch).logits, new)
    assert torch.equal(use_performer(model)(**batch).logits, new)


def test_a_mask_with_room_for_keys_to_come_is_refused() -> None:
    with pytest.raises(ValueError, match="dynamic cache"):
        favor_mask(1, 2, 8, q_offset=2)
    assert favor_mask(1, 2, 8, q_offset=6) is None


def test_no_redraws_in_evaluation() -> None:
    model = use_performer(tiny_bert("sdpa", **NO_DROPOUT), "favor+", 8, redraw=1)
    first = draws(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(3):
        training_step(model, optimizer)
    assert torch.equal(draws(model), first)


def test_training_by_a_linear_model_learns() -> None:
    model = use_performer(tiny_bert("sdpa"), "favor+", redraw=3).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        loss = model(input_ids=ids(), labels=ids()).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["low_order", "favor++"])
def test_calibration_brings_the_model_nearer(name: str) -> None:
    model, batch = tiny_bert("sdpa"), padded()
    real = batch["attention_mask"].bool()
    softmax = model(**batch).logits[real]
    use_performer(model, name)
    before = (model(**batch).logits[real] - softmax).norm()
    results = calibrate_performer(model, [batch])
    assert len(results) == 3 and all(numbers.shape == (2,) for numbers in results.values())
    assert (model(**batch).logits[real] - softmax).norm() < before
    causal = use_performer(tiny_llama("sdpa"), name)
    assert len(calibrate_performer(causal, [{"input_ids": ids()}])) == 3


def test_calibration_on_texts() -> None:
    class Tokenizer:
        def __call__(self, texts, max_length, **options):
            assert options == {"padding": True, "truncation": True, "return_tensors": "pt"}
            return {"input_ids": torch.tensor([[ord(letter) % 50 for letter in text][:max_length] for text in texts])}

    one, other = (use_performer(tiny_bert("sdpa")) for _ in range(2))
    calibrate_performer(one, ["abcdef", "bcdxyz", "yyyayy", "aqmzpf"], Tokenizer(), max_length=5, batch_size=2)
    encoded = Tokenizer()(
        ["abcdef", "bcdxyz", "yyyayy", "aqmzpf"], 5, padding=True, truncation=True, return_tensors="pt"
    )
    calibrate_performer(other, [encoded])
    batch = padded()
    torch.testing.assert_close(one(**batch).logits, other(**batch).logits, rtol=0, atol=1e-5)


def test_of_many_texts_calibration_holds_some_from_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[list[int]] = []
    inner = calibrate_model.calibrate

    def calibrate(feature_map, samples, **options):
        held.append([query.shape[2] for query, _, _ in samples])
        return inner(feature_map, samples, **options)

    monkeypatch.setattr(calibrate_model, "calibrate", calibrate)
    monkeypatch.setattr(calibrate_model, "MAX_POSITIONS", 100)
    model = use_performer(tiny_bert("sdpa"))
    seen = []
    hook = model.register_forward_pre_hook(lambda *_: seen.append(1))
    # Told from each other by their lengths.
    calibrate_performer(model, ({"input_ids": torch.arange(10 + n)[None] % 50} for n in range(20)))
    hook.remove()
    assert held == [[10, 14, 18, 22, 26]] * 3
    assert len(seen) == 12
    held.clear()
    calibrate_performer(model, [{"input_ids": torch.arange(40)[None] % 50}] * 2)
    monkeypatch.setattr(calibrate_model, "MAX_POSITIONS", 30)
    calibrate_performer(model, [{"input_ids": torch.arange(40)[None] % 50}] * 2)
    assert held == [[40, 40]] * 3 + [[40]] * 3


def test_too_little_text_to_calibrate_on_is_refused() -> None:
    model = use_performer(tiny_bert("sdpa"))
    head_dim = next(iter(attention_modules(model).values())).favor_map.head_dim
    message = f"at least {2 * head_dim} queries and keys .* got 4 and 4"
    with pytest.raises(ValueError, match=message):
        calibrate_performer(model, [{"input_ids": torch.arange(4)[None]}])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibrate_performer(tiny_bert(), [padded()]), "no feature maps"),
        (lambda: calibrate_performer(use_performer(tiny_bert()), []), "has seen none"),
        (lambda: calibrate_performer(use_performer(tiny_bert()), ["text"]), "mapping"),
    ],
    ids=["no_maps", "no_texts", "no_tokenizer"],
)
def test_calibration_on_nothing(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# Ours comes after transformers' models; in this process it came first.
FRESH = """
import sys, torch
from transformers import AutoModel, BertModel
import kexue_hf
model = AutoModel.from_pretrained(sys.argv[1], attn_implementation="favor")
mask = torch.tensor([[1, 1, 1, 0]])
states = model.eval()(input_ids=torch.tensor([[1, 2, 3, 4]]), attention_mask=mask).last_hidden_state[:, :3]
print(states.double().sum().item())
"""


def test_importing_the_package_is_enough(tmp_path: Path) -> None:
    model = tiny_bert(cls=BertModel)
    model.save_pretrained(tmp_path)
    printed = run_elsewhere(FRESH, tmp_path, tmp_path)
    expected = model(input_ids=torch.tensor([[1, 2, 3]])).last_hidden_state.double().sum().item()
    assert float(printed.splitlines()[-1]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["TtaModel", "TtaForMaskedLM", "TtaForTokenClassification", "WoBertForCausalLM"])
def test_masks_of_pairs_are_refused_before_anything_is_changed(name: str) -> None:
    model = of_any_class(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    expected = model(torch.tensor([[7, 8, 9]]))[0]
    with pytest.raises(ValueError, match=f"{name} masks some of them"):
        kexue_hf.use_performer(model)
    assert list(model.state_dict()) == list(before) and not hasattr(model.config, "performer")
    assert torch.equal(model(torch.tensor([[7, 8, 9]]))[0], expected)


def test_a_tta_without_its_diagonal_is_an_encoder_as_others_are() -> None:
    model = of_any_class("TtaForTokenClassification")
    model.config.mask_diagonal = False
    kexue_hf.use_performer(model)
    assert model(torch.tensor([[7, 8, 9]])).logits.isfinite().all()
