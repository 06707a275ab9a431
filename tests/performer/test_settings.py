"""What `use_performer` leaves in configurations: models of several parts, loading as something else, what is refused.

Oracles: the model that was saved, and the softmax model. Run this file alone:
pytest tests/performer/test_settings.py
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModel, BertConfig, BertModel

from kexue_hf import calibrate_performer, remove_performer, use_performer
from kexue_hf.performer.attention_modules import attention_modules

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
BERT = {**SIZES, "max_position_embeddings": 64}
IDS = torch.randint(3, 50, (2, 20), generator=torch.Generator().manual_seed(1))
PIXELS = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def peaked(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("q_proj.w", "k_proj.w", "query.w", "key.w")):
                parameter.mul_(20)
    return model.eval()


def tiny_bert():
    torch.manual_seed(0)
    return peaked(BertModel(BertConfig(**BERT)))


def tiny_clip():
    torch.manual_seed(0)
    vision = {**SIZES, "image_size": 8, "patch_size": 4}
    del vision["vocab_size"]
    config = transformers.CLIPConfig(text_config=BERT, vision_config=vision, projection_dim=8)
    return peaked(transformers.CLIPModel(config))


def tiny_encoder_decoder():
    torch.manual_seed(0)
    configs = BertConfig(**BERT), BertConfig(**BERT, is_decoder=True, add_cross_attention=True)
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*configs)
    return peaked(transformers.EncoderDecoderModel(config))


def tiny_bart():
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.BartConfig(
        vocab_size=50, d_model=16, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=64, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=None, **sizes,
    )  # fmt: skip
    return peaked(transformers.BartModel(config))


COMPOSITES = {
    "clip": (tiny_clip, lambda model: model(input_ids=IDS, pixel_values=PIXELS).logits_per_image),
    "encoder_decoder": (tiny_encoder_decoder, lambda model: model(input_ids=IDS, decoder_input_ids=IDS[:, :9]).logits),
    "bart": (tiny_bart, lambda model: model(input_ids=IDS, decoder_input_ids=IDS[:, :9]).last_hidden_state),
}
PARTS = {
    "clip": (lambda model: model.text_model, lambda model: model(IDS).last_hidden_state),
    "encoder_decoder": (lambda model: model.decoder, lambda model: model(IDS).logits),
    "bart": (lambda model: model.decoder, lambda model: model(IDS).last_hidden_state),
}


def reloaded(model, folder: Path, **options):
    model.save_pretrained(folder)
    loaded, info = type(model).from_pretrained(folder, output_loading_info=True, **options)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return loaded.eval()


@pytest.mark.parametrize("layers", [None, [-1]], ids=["all", "last"])
@pytest.mark.parametrize("name", COMPOSITES)
def test_models_of_several_parts(name: str, layers, tmp_path: Path) -> None:
    """The whole, and a part that is saved alone, though the whole's numbers of layers are not its own."""
    make, call = COMPOSITES[name]
    model = make()
    softmax = call(model)
    use_performer(model, "favor+", 32, seed=3, layers=layers)
    expected = call(model)
    assert not torch.equal(expected, softmax)
    loaded = reloaded(model, tmp_path / "whole")
    assert torch.equal(call(loaded), expected)
    find, call_part = PARTS[name]
    part = find(model)
    alone = reloaded(part, tmp_path / "part")
    assert torch.equal(call_part(alone), call_part(part))
    maps = [[repr(m) for m in one.modules() if hasattr(m, "projection")] for one in (part, alone, find(loaded))]
    # With the seeds that they had, which the next draws depend on.
    assert maps[0] == maps[1] == maps[2]
    # In the file, not in the model: its own numbers.
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["performer"] == model.config.performer


def test_an_implementation_that_is_asked_for(tmp_path: Path) -> None:
    model = tiny_bert()
    softmax = model(IDS).last_hidden_state
    linear = use_performer(model)(IDS).last_hidden_state
    model.save_pretrained(tmp_path)
    for asked, expected in {"sdpa": softmax, "eager": softmax, "favor": linear, None: linear}.items():
        options = {} if asked is None else {"attn_implementation": asked}
        loaded = AutoModel.from_pretrained(tmp_path, **options).eval()
        assert loaded.config._attn_implementation == (asked or "favor")
        torch.testing.assert_close(loaded(IDS).last_hidden_state, expected, rtol=0, atol=1e-6)
        # The maps are there all the same.
        loaded.set_attn_implementation("favor")
        assert torch.equal(loaded(IDS).last_hidden_state, linear)
    clip = use_performer(tiny_clip())
    clip.save_pretrained(tmp_path)
    loaded = transformers.CLIPModel.from_pretrained(tmp_path, attn_implementation={"text_config": "sdpa"})
    found = [part.config._attn_implementation for part in (loaded.text_model, loaded.vision_model)]
    assert found == ["sdpa", "favor"]


def test_a_model_that_is_saved_while_it_is_softmax(tmp_path: Path) -> None:
    model = tiny_bert()
    softmax, linear = model(IDS).last_hidden_state, use_performer(model)(IDS).last_hidden_state
    model.set_attn_implementation("sdpa")
    loaded = reloaded(model, tmp_path)
    assert torch.equal(loaded(IDS).last_hidden_state, softmax)
    # And back.
    loaded.set_attn_implementation("favor")
    again = reloaded(loaded, tmp_path)
    assert torch.equal(again(IDS).last_hidden_state, linear)
    # Another model of a configuration leaves the first as it is.
    model.set_attn_implementation("sdpa")
    BertModel(model.config)
    assert torch.equal(model(IDS).last_hidden_state, softmax)


@pytest.mark.parametrize("name", COMPOSITES)
def test_removing_gives_the_softmax_model_back(name: str, tmp_path: Path) -> None:
    make, call = COMPOSITES[name]
    model = make()
    softmax, names = call(model), set(model.state_dict())
    assert remove_performer(use_performer(model, layers=[0])) is model
    assert torch.equal(call(model), softmax) and set(model.state_dict()) == names
    model.save_pretrained(tmp_path)
    assert "performer" not in (tmp_path / "config.json").read_text()
    assert torch.equal(call(remove_performer(model)), softmax)


def test_a_part_that_shares_its_configuration() -> None:
    model = tiny_bart()
    before = COMPOSITES["bart"][1](model)
    for part in (model.encoder, model.decoder, tiny_bart().decoder):
        with pytest.raises(
            ValueError, match=f"{type(part).__name__} is a part .* on the whole, with layers="
        ) as caught:
            use_performer(part)
        assert "\n" not in str(caught.value) and not hasattr(part.config, "performer")
    assert torch.equal(COMPOSITES["bart"][1](model), before)
    use_performer(model, layers=[1, 2])
    use_performer(copy.deepcopy(model))


def test_encoders_and_decoders_alone() -> None:
    """With a configuration of their own, or within a model that has nothing else."""
    bart = tiny_bart().config
    whisper = transformers.WhisperConfig(
        **{key: value for key, value in bart.to_dict().items() if "layers" in key or "heads" in key or "ffn" in key},
        d_model=16, vocab_size=50, max_source_positions=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        num_mel_bins=4, classifier_proj_size=8, decoder_start_token_id=1,
    )  # fmt: skip
    assert whisper.is_encoder_decoder
    decoder, encoder = transformers.BartForCausalLM(bart), transformers.WhisperForAudioClassification(whisper)
    for model in (decoder, encoder):
        use_performer(model)
        assert [name for name in model.state_dict() if "favor_map" in name]


@pytest.mark.parametrize("found", [{}, {"nb_features": 256, "kernel": "relu"}, True, "low_order"], ids=str)
def test_what_others_call_performer_is_left_alone(found, tmp_path: Path) -> None:
    model = BertModel(BertConfig(**BERT, performer=found))
    assert not any("favor" in name for name in model.state_dict())
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["performer"] == found


WRONG = {
    "feature_map": ("favour", "feature map must be one of"),
    "num_features": ("8", "num_features must be a whole number"),
    "norm": ("l2", "norm must be one of"),
    "seed": (1.5, "seed must be a whole number"),
    "redraw": ("x", "redraw must be a whole number"),
    "layers": (3, "layers must be a list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings(name: str) -> None:
    """In a configuration and as arguments."""
    value, message = WRONG[name]
    settings = {"feature_map": "favor+", name: value}
    with pytest.raises(ValueError, match=f"the configuration's 'performer': .*{message}") as caught:
        BertModel(BertConfig(**BERT, performer=settings))
    assert "\n" not in str(caught.value)
    model = tiny_bert()
    with pytest.raises(ValueError, match=message):
        use_performer(model, **settings)
    assert not hasattr(model.config, "performer") and model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("arguments", [{"layers": [True]}, {"num_features": 7.0}, {"redraw": 2.5}], ids=str)
def test_what_is_no_number(arguments: dict) -> None:
    with pytest.raises(ValueError, match="whole number"):
        use_performer(tiny_bert(), "favor+", **arguments)


def test_numbers_of_numpy(tmp_path: Path) -> None:
    model = use_performer(tiny_bert(), num_features=np.int64(32), layers=np.arange(1))
    assert torch.equal(reloaded(model, tmp_path)(IDS).last_hidden_state, model(IDS).last_hidden_state)
    assert model.config.performer["layers"] == [0]


def tiny(cls, config_class, **changes):
    return lambda: cls(config_class(**{**BERT, **changes}))


T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
REFUSED = {
    "t5": (tiny(transformers.T5EncoderModel, transformers.T5Config, **T5), "relative positions"),
    "modernbert": (
        tiny(
            transformers.ModernBertModel, transformers.ModernBertConfig, cls_token_id=1, sep_token_id=2,
            global_attn_every_n_layers=2,
        ),
        "sliding window",
    ),
    "mistral": (tiny(transformers.MistralModel, transformers.MistralConfig, num_key_value_heads=1), "window"),
    "gemma2": (
        tiny(
            transformers.Gemma2Model, transformers.Gemma2Config, num_key_value_heads=1, head_dim=8,
            layer_types=["full_attention"] * 2,
        ),
        "softcapping",
    ),
    "performer_bert": (lambda: transformers.AutoModel.from_config(
        transformers.AutoConfig.for_model("performer_bert", **BERT)), "already has feature maps"),
    "no_model_of_transformers": (lambda: torch.nn.Linear(2, 2), r"auto_model"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_before_anything_is_changed(name: str) -> None:
    make, message = REFUSED[name]
    model = make()
    names, before = set(model.state_dict()), getattr(getattr(model, "config", None), "_attn_implementation", None)
    with pytest.raises(ValueError, match=message):
        # Windows: layers that would stay softmax have the same implementation.
        use_performer(model, layers=[0])
    assert set(model.state_dict()) == names
    if hasattr(model, "config"):
        assert model.config._attn_implementation == before and not hasattr(model.config, "performer")


def test_queries_larger_than_head_dim() -> None:
    """Where head_dim is the size of the part with positions."""
    torch.manual_seed(0)
    config = transformers.DeepseekV3Config(
        **BERT, num_key_value_heads=2, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=8,
        v_head_dim=8, first_k_dense_replace=2,
    )  # fmt: skip
    model = transformers.DeepseekV3Model(config).eval()
    before = model(IDS, use_cache=False).last_hidden_state
    after = use_performer(model)(IDS, use_cache=False).last_hidden_state
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_calibration_of_a_model_that_is_set_to_softmax() -> None:
    model = use_performer(tiny_bert())
    model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match=r"set to 'sdpa', its feature maps are not in use"):
        calibrate_performer(model, [{"input_ids": IDS}])


def test_calibration_takes_what_is_no_tensor_and_leaves_modes_alone() -> None:
    model = use_performer(tiny_bert()).train()
    model.embeddings.eval()
    modes = [module.training for module in model.modules()]
    calibrate_performer(model, [{"input_ids": IDS, "output_hidden_states": True}])
    assert [module.training for module in model.modules()] == modes


def test_a_dry_run_leaves_nothing_behind() -> None:
    """Without maps of its own a model has one that is made when it is first called."""
    config = BertConfig(**{**BERT, "hidden_size": 12})
    model = BertModel._from_config(config, attn_implementation="favor").eval()
    with FakeTensorMode():
        BertModel._from_config(copy.deepcopy(config), attn_implementation="favor").eval()(torch.ones(1, 4).long())
    found = model(IDS).last_hidden_state
    assert type(found) is torch.Tensor and found.isfinite().all()
    with FakeTensorMode():
        BertModel._from_config(copy.deepcopy(config), attn_implementation="favor").eval()(torch.ones(1, 4).long())
    assert len(attention_modules(model)) == 2
