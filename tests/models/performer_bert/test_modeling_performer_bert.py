"""What is special to Performer BERT: folders of BERT, `use_performer`, the switch length, causal models.

What all models do: tests/models.
"""

import copy
import logging
import pickle
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, RobertaConfig, RobertaForMaskedLM

import kexue_hf
from kexue_hf import PerformerBertConfig, PerformerBertForMaskedLM, PerformerBertModel, use_performer
from kexue_hf.models.performer_bert import modeling_performer_bert as modeling
from kexue_hf.models.performer_bert.layers_performer_bert import PerformerBertEmbeddings

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32,
}  # fmt: skip
CAUSAL = "PerformerBertForCausalLM"


def tiny_model(head: str = "PerformerBertForMaskedLM", **changes):
    torch.manual_seed(0)
    return getattr(kexue_hf, head)(PerformerBertConfig(**{**SIZES, **changes})).eval()


def peaked(model):
    """Norms as of a trained model, so that the attention is anything but a mean."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query.weight" in name or "key.weight" in name:
                parameter.mul_(20)
    return model


def tiny_bert(cls=BertForMaskedLM, **changes):
    torch.manual_seed(0)
    config = {BertForMaskedLM: BertConfig, kexue_hf.WoBertForPreTraining: kexue_hf.WoBertConfig}.get(cls, BertConfig)
    return peaked(cls(config(**{**SIZES, **changes})).eval())


def tiny_batch(head: str = "", rows: int = 6, length: int = 20) -> dict[str, torch.Tensor]:
    """Random inputs and labels for a head: padding on both sides, some labels ignored."""
    generator = torch.Generator().manual_seed(length)

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    mask = torch.ones(rows, length, dtype=torch.long)
    mask[0, length - 3 :] = 0
    mask[1, :2] = 0
    batch = {
        "input_ids": integers(49, rows, length) + 1,
        "attention_mask": mask,
        "token_type_ids": integers(2, rows, length),
    }
    words = integers(50, rows, length).masked_fill(integers(3, rows, length) > 0, -100)
    labels = {
        "PerformerBertForMaskedLM": {"labels": words},
        "PerformerBertForTokenClassification": {"labels": words.clamp(max=1)},
        "PerformerBertForQuestionAnswering": {
            "start_positions": integers(length, rows),
            "end_positions": integers(length, rows),
        },
        "PerformerBertForSequenceClassification": {"labels": integers(2, rows)},
    }
    return batch | labels.get(head, {})


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("source", ["BertForMaskedLM", "BertForPreTraining", "WoBertForPreTraining"])
def test_a_folder_of_bert_loads_and_is_bert_up_to_the_switch_length(
    source: str, attention: str, tmp_path: Path
) -> None:
    """To the last bit; and above it, what `use_performer` makes of it."""
    cls = getattr(kexue_hf if source.startswith("Wo") else transformers, source)
    bert, batch = tiny_bert(cls), tiny_batch()
    bert.save_pretrained(tmp_path)
    ours, info = PerformerBertForMaskedLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation=attention, attention_switch_length=20
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert ours.config.attention_probs_dropout_prob == 0.0 and ours.config.model_type == "performer_bert"
    assert ours.config.auto_map["AutoModel"] == "modeling_performer_bert.PerformerBertModel"
    bert.set_attn_implementation(attention)
    expected = bert(**batch).to_tuple()[0]
    assert torch.equal(ours.eval()(**batch).logits, expected)
    ours.config.attention_switch_length = 19
    linear = use_performer(bert)(**batch).to_tuple()[0]
    assert (linear - expected).abs().max() > 1e-4
    torch.testing.assert_close(ours(**batch).logits, linear, rtol=0, atol=1e-6)


def test_the_tokenizer_of_a_wobert_is_kept(tmp_path: Path) -> None:
    bert = tiny_bert(kexue_hf.WoBertForPreTraining, vocab_fingerprint="abc", classifier_pooling="mean")
    bert.save_pretrained(tmp_path)
    config = PerformerBertConfig.from_pretrained(tmp_path)
    assert (config.vocab_fingerprint, config.tokenizer_class) == ("abc", "WoBertTokenizer")
    assert config.classifier_pooling == "mean"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: RobertaForMaskedLM(RobertaConfig(**SIZES)), "got a model of type 'roberta'"),
        (lambda: tiny_bert(position_embedding_type="relative_key"), "absolute positions"),
    ],
    ids=["roberta", "relative"],
)
def test_other_models_are_refused(model, message: str, tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        PerformerBertForMaskedLM.from_pretrained(tmp_path)


def test_only_padding_and_only_one_token() -> None:
    model = tiny_model(attention_switch_length=None)
    batch = tiny_batch()
    batch["attention_mask"][2] = 0
    assert model(**batch).logits.isfinite().all()
    assert model(torch.tensor([[5]])).logits.isfinite().all()


def test_positions_beyond_the_table() -> None:
    """Against the formula of the post, u and all, in float64; the table's own rows to the last bit."""
    config = PerformerBertConfig(**SIZES, position_alpha=0.4)
    embeddings = PerformerBertEmbeddings(config)
    table = embeddings.position_embeddings.weight.detach()
    assert torch.equal(embeddings.positions(torch.arange(32)), table)
    exact = table.double()
    u = (exact - 0.4 * exact[0]) / 0.6
    expected = torch.stack([0.4 * u[i] + 0.6 * u[j] for i in range(32) for j in range(32)])
    found = embeddings.positions(torch.arange(32 * 32)[None])[0]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [32, 33, 200])
def test_texts_longer_than_the_table(length: int) -> None:
    """Positions by default are 0, 1, ...; the first 32 tokens are embedded as in a text of 32."""
    model, batch = tiny_model("PerformerBertModel", attention_switch_length=32), tiny_batch(rows=2, length=length)
    del batch["attention_mask"]
    states = model(**batch).last_hidden_state
    again = model(**batch, position_ids=torch.arange(length)[None]).last_hidden_state
    assert torch.equal(states, again) and states.isfinite().all()
    short = {name: ids[:, :32] for name, ids in batch.items()}
    assert torch.equal(model.embeddings(**batch)[:, :32], model.embeddings(**short))
    moved = model(**batch, position_ids=torch.arange(length).flip(0)[None]).last_hidden_state
    assert (moved - states).abs().max() > 1e-3


def test_more_tokens_than_positions() -> None:
    model = tiny_model("PerformerBertModel", max_position_embeddings=4)
    model(torch.ones(1, 16, dtype=torch.long))
    with pytest.raises(ValueError, match="at most 16 tokens"):
        model(torch.ones(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="at most 15"):
        model(torch.ones(1, 1, dtype=torch.long), position_ids=torch.tensor([[16]]))


@pytest.mark.parametrize(
    ("switch", "linear_from"), [(None, 1), (0, 1), (10, 11), ("auto", modeling.CROSSOVERS["cpu"] + 1)], ids=str
)
def test_the_switch_length(switch, linear_from: int) -> None:
    model = tiny_model("PerformerBertModel", attention_switch_length=switch)
    assert model.is_linear(linear_from)
    assert linear_from == 1 or not model.is_linear(linear_from - 1)


def test_the_switch_happens_and_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = peaked(tiny_model("PerformerBertModel"))
    batch = tiny_batch()
    softmax = model(**batch).last_hidden_state
    lines: list[str] = []
    monkeypatch.setitem(modeling.CROSSOVERS, "cpu", 19)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    modeling.logger.addHandler(handler)
    try:
        for _ in range(2):
            linear = model(**batch).last_hidden_state
    finally:
        modeling.logger.removeHandler(handler)
    (line,) = lines
    assert "'auto': linear attention for inputs of more than 19 tokens" in line
    assert (linear - softmax).abs().max() > 1e-4
    model.config.attention_switch_length = None
    assert torch.equal(model(**batch).last_hidden_state, linear)


def test_layers_that_stay_softmax() -> None:
    batch = tiny_batch()
    exact = peaked(tiny_model("PerformerBertModel"))
    mixed = peaked(tiny_model("PerformerBertModel", linear_layers=[1], attention_switch_length=None))
    mixed.load_state_dict(exact.state_dict(), strict=False)
    one, other = (model(**batch, output_hidden_states=True).hidden_states for model in (exact, mixed))
    torch.testing.assert_close(one[1], other[1], rtol=0, atol=1e-6)
    assert (one[2] - other[2]).abs().max() > 1e-4
    assert not any("layer.0" in name and "favor" in name for name in mixed.state_dict())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"attention_mask": torch.ones(6, 1, 20, 20)}, r"\(batch, keys\)"),
        ({"attention_mask": torch.ones(6, 19)}, "the input's shape"),
        ({"past_key_values": object()}, "without a cache"),
        ({"encoder_hidden_states": torch.ones(1)}, "no cross-attention"),
        ({"inputs_embeds": torch.ones(6, 20, 16)}, "either input_ids or inputs_embeds"),
    ],
    ids=["square", "short", "cache", "cross", "both"],
)
def test_bad_inputs(extra: dict, message: str) -> None:
    model = tiny_model("PerformerBertModel", attention_switch_length=None)
    with pytest.raises(ValueError, match=message):
        model(**{**tiny_batch(), **extra})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("feature_map", ["low_order", "favor++"])
def test_loading_copying_and_half_precision(feature_map: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """What is calibrated comes back, and what no file has is made anew, though models are made without storage."""
    model, batch = peaked(tiny_model(feature_map=feature_map, attention_switch_length=None)), tiny_batch()
    kexue_hf.calibrate_performer(model, [batch])
    expected = model(**batch).logits
    model.save_pretrained(tmp_path)
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=dtype).eval()
    if dtype == torch.float32:
        for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other(**batch).logits, expected)
    else:
        logits = loaded(**batch).logits
        assert logits.dtype == dtype and (logits.float() - expected).norm() < 0.05 * expected.norm()


def test_calibration_brings_the_model_closer_to_softmax() -> None:
    model, batch = peaked(tiny_model()), tiny_batch()
    softmax = model(**batch).logits
    model.config.attention_switch_length = None
    before = (model(**batch).logits - softmax).norm()
    assert len(kexue_hf.calibrate_performer(model, [batch])) == 2
    assert (model(**batch).logits - softmax).norm() < before


def test_redraws() -> None:
    model = tiny_model(feature_map="favor+", redraw=2, hidden_dropout_prob=0.0, attention_switch_length=None).train()
    attention = model.bert.encoder.layer[1].attention.self
    first = attention.favor_map.projection.clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batch = tiny_batch("PerformerBertForMaskedLM")
    for step in range(4):
        model(**batch).loss.backward()
        assert torch.equal(attention.favor_map.projection, first) == (step < 2)
        assert int(attention.favor_map.steps) == step
        optimizer.step()


def test_random_features_are_those_of_use_performer(tmp_path: Path) -> None:
    """The same for the same seed, and different in every layer."""
    bert = tiny_bert()
    bert.save_pretrained(tmp_path)
    options = {"feature_map": "favor+", "num_features": 32, "seed": 3}
    ours = PerformerBertForMaskedLM.from_pretrained(tmp_path, attention_switch_length=None, **options).eval()
    batch = tiny_batch()
    torch.testing.assert_close(ours(**batch).logits, use_performer(bert, **options)(**batch).logits, rtol=0, atol=1e-6)
    first, second = (layer.attention.self.favor_map.projection for layer in ours.bert.encoder.layer)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("feature_map", ["low_order", "favor++"])
def test_the_model_itself_fills_its_maps(feature_map: str) -> None:
    """A copy on the Hub has no other code to do it."""
    model = tiny_model(feature_map=feature_map)
    made = model.bert.encoder.layer[0].attention.self.favor_map
    expected = copy.deepcopy(made.state_dict())
    for buffer in made.buffers():
        buffer.fill_(torch.nan)
    model._init_weights(made)
    for name, values in made.state_dict().items():
        torch.testing.assert_close(values, expected[name], rtol=0, atol=0)


def test_use_performer_refuses_it() -> None:
    with pytest.raises(ValueError, match="already has feature maps"):
        use_performer(tiny_model())


def causal(**changes):
    return peaked(tiny_model(CAUSAL, **{"feature_map": "favor+", "num_features": 32, **changes}))


ENDLESS = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}


@pytest.mark.parametrize("feature_map", ["low_order", "favor+"])
def test_a_causal_model_does_not_see_the_future(feature_map: str) -> None:
    """To the last bit, at any length, whatever the switch length."""
    model = causal(feature_map=feature_map, attention_switch_length=1000)
    ids = tiny_batch(length=150)["input_ids"]
    logits = model(ids).logits
    changed = ids.clone()
    changed[:, 140:] = 7
    assert torch.equal(model(changed).logits[:, :140], logits[:, :140])
    assert not torch.equal(model(changed).logits[:, 140:], logits[:, 140:])


@pytest.mark.parametrize("feature_map", ["low_order", "favor++"])
def test_a_state_gives_what_the_whole_text_gives(feature_map: str) -> None:
    """In pieces, with padding on the left of one text, beyond the table of positions; its size stays the same."""
    model = causal(feature_map=feature_map).double()
    ids, mask = tiny_batch(rows=3, length=50)["input_ids"], torch.ones(3, 50, dtype=torch.long)
    mask[1, :5] = 0
    whole = model(ids, attention_mask=mask).logits
    state, found, sizes = None, [], set()
    for start, stop in [(0, 20), (20, 21), (21, 45), (45, 50)]:
        outputs = model(ids[:, start:stop], mask[:, :stop], past_key_values=state, use_cache=True)
        state = outputs.past_key_values
        found.append(outputs.logits)
        sizes.add(sum(tensor.numel() for layer in state.layers for tensor in layer.tensors))
    assert state.get_seq_length() == 50 and len(sizes) == 1
    real = mask.bool()
    torch.testing.assert_close(torch.cat(found, dim=1)[real], whole[real], rtol=0, atol=1e-10)
    alone = model(ids[1:2, 5:]).logits[0]
    torch.testing.assert_close(whole[1, 5:], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}], ids=str)
def test_generation(options: dict) -> None:
    """With and without a state; and a prompt that is padded on the left is continued as it is alone."""
    model = causal()
    ids = tiny_batch(rows=2, length=9)["input_ids"]
    ids[1, :4] = 0
    mask = (ids > 0).long()
    options = {"max_new_tokens": 30, **ENDLESS, **options}
    stateful, whole = (model.generate(ids, attention_mask=mask, use_cache=use, **options) for use in (True, False))
    assert torch.equal(stateful, whole) and stateful.shape[1] == 39
    alone = model.generate(ids[1:, 4:], **options)
    rows = options.get("num_return_sequences", 1)
    assert torch.equal(stateful[rows:, 4:], alone)


def test_a_continued_conversation() -> None:
    model = causal()
    ids = tiny_batch(rows=2, length=9)["input_ids"]
    state = model(ids[:, :6], use_cache=True).past_key_values
    continued = model.generate(ids, past_key_values=state, max_new_tokens=5, **ENDLESS)
    assert torch.equal(continued, model.generate(ids, max_new_tokens=5, **ENDLESS))


def test_a_state_of_repeated_and_chosen_texts() -> None:
    model = causal()
    ids = tiny_batch(rows=2, length=9)["input_ids"]
    state = model(ids, use_cache=True).past_key_values
    state.batch_repeat_interleave(2)
    state.reorder_cache(torch.tensor([3, 0]))
    found = model(torch.tensor([[5], [6]]), past_key_values=state).logits[:, -1]
    for row, (before, token) in enumerate([(1, 5), (0, 6)]):
        whole = model(torch.cat([ids[before], torch.tensor([token])])[None]).logits[0, -1]
        torch.testing.assert_close(found[row], whole, rtol=0, atol=1e-5)


def test_labels_of_a_causal_model_are_shifted() -> None:
    model, batch = causal(), tiny_batch("PerformerBertForMaskedLM")
    outputs = model(**batch)
    expected = torch.nn.functional.cross_entropy(
        outputs.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    )
    torch.testing.assert_close(outputs.loss, expected)
    shifted = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=-100)
    torch.testing.assert_close(model(**{**batch, "labels": None}, shift_labels=shifted).loss, expected)
    kept = model(batch["input_ids"], logits_to_keep=2).logits
    assert torch.equal(kept, model(batch["input_ids"]).logits[:, -2:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, ids: model(ids, past_key_values=transformers.DynamicCache()), "PerformerBertState"),
        (lambda model, ids: model(ids, attention_mask=torch.ones(6, 8)), "of all tokens"),
        (lambda model, ids: model(ids, attention_mask=torch.ones(6, 1, 20, 20)), "of all tokens"),
        (lambda model, ids: model(ids, labels=ids, logits_to_keep=1), "logits_to_keep"),
        (
            lambda model, ids: model(ids, use_cache=True, output_attentions=True),
            "weights need the past keys",
        ),
        (
            lambda model, ids: model.generate(
                ids, attention_mask=(torch.arange(20) < 15).expand(6, -1).long(), max_new_tokens=1, **ENDLESS
            ),
            "padding_side",
        ),
        (lambda model, ids: model(ids, use_cache=True).past_key_values.crop(1), "no token can be removed"),
        (
            lambda model, ids: model(ids[:2], past_key_values=model(ids, use_cache=True).past_key_values),
            "of 6 texts, got 2",
        ),
        (lambda model, ids: causal(linear_layers=[0]), "linear in all layers"),
    ],
    ids=["cache", "mask", "square", "labels", "weights", "right_padding", "crop", "batch", "softmax_layers"],
)
def test_what_a_causal_model_refuses(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(causal(), tiny_batch()["input_ids"])


def test_a_masked_model_becomes_a_causal_one(tmp_path: Path) -> None:
    """The same weights, maps included; calibrated for looking back."""
    tiny_model().save_pretrained(tmp_path)
    model, info = kexue_hf.PerformerBertForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    model = peaked(model.eval())
    batch = tiny_batch()
    assert all(share.max() < 1 for share in kexue_hf.calibrate_performer(model, [batch]).values())


@pytest.mark.parametrize("head", ["PerformerBertForMaskedLM", CAUSAL])
def test_attention_weights_of_linear_attention(head: str) -> None:
    model, batch = peaked(tiny_model(head, attention_switch_length=None)), tiny_batch()
    outputs = model(**batch, output_attentions=True)
    torch.testing.assert_close(outputs.logits, model(**batch).logits, rtol=0, atol=1e-5)
    for weights in outputs.attentions:
        assert weights.shape == (6, 2, 20, 20)
        torch.testing.assert_close(weights[2:].sum(-1), torch.ones(4, 2, 20), rtol=0, atol=1e-5)
        assert not weights[0, ..., 17:].any() and not weights[1, ..., :2].any()
        assert bool(weights.triu(1).any()) == (head != CAUSAL)
    model.set_attn_implementation("eager")
    model.config.output_attentions = True
    assert torch.equal(model(**batch).attentions[0], outputs.attentions[0])


def test_the_encoder_alone(tmp_path: Path) -> None:
    """Out of a head's folder, whose names begin with bert."""
    model = tiny_model()
    model.save_pretrained(tmp_path)
    encoder = PerformerBertModel.from_pretrained(tmp_path).eval()
    assert encoder.pooler is None
    batch = tiny_batch()
    assert torch.equal(encoder(**batch).last_hidden_state, model.bert(**batch).last_hidden_state)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("feature_map", ["low_order", "favor+"])
def test_a_failing_step_leaves_the_state_unchanged(feature_map: str) -> None:
    """Refused before the layers, interrupted between two of them, and after the last."""
    model, ids = causal(feature_map=feature_map), tiny_batch(rows=2, length=9)["input_ids"]
    whole = model(ids).logits[:, -2:]
    state = model(ids[:, :7], use_cache=True).past_key_values

    def interrupt(*_):
        raise Interrupted

    with pytest.raises(ValueError, match="positions of at most"):
        model(ids[:, 7:], past_key_values=state, position_ids=torch.full((2, 2), 10**6))
    for place in (model.bert.encoder.layer[1], model.cls):
        hook = place.register_forward_pre_hook(interrupt)
        with pytest.raises(Interrupted):
            model(ids[:, 7:], past_key_values=state)
        hook.remove()
    assert state.get_seq_length() == 7
    # Read, and not added to.
    read = model(ids[:, 7:], past_key_values=state, use_cache=False)
    assert read.past_key_values is None and state.get_seq_length() == 7
    found = model(ids[:, 7:], past_key_values=state).logits
    assert state.get_seq_length() == 9 and torch.equal(found, read.logits)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)


def test_a_copied_state_is_independent() -> None:
    """As transformers' guides reuse a prompt. Feature maps are shared, and it works while gradients are recorded."""
    model, ids = causal(), tiny_batch(rows=2, length=9)["input_ids"]
    with torch.enable_grad():
        state = model(ids[:, :6], use_cache=True).past_key_values
        again = copy.deepcopy(state)
    assert again.layers[0].feature_map is state.layers[0].feature_map
    first = model(ids[:, 6:], past_key_values=again).logits
    assert (state.get_seq_length(), again.get_seq_length()) == (6, 9)
    assert torch.equal(model(ids[:, 6:], past_key_values=state).logits, first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 1}, "belongs to a model with 2 linear layers, this one has 1"),
        ({"num_hidden_layers": 3}, "belongs to a model with 2 linear layers, this one has 3"),
        ({"seed": 9}, "other feature maps: in layer 0"),
        ({"num_features": 16}, "other feature maps: in layer 0"),
    ],
    ids=str,
)
def test_a_state_of_another_model(changes: dict, message: str) -> None:
    ids = tiny_batch(rows=2, length=9)["input_ids"]
    state = causal()(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match=message):
        causal(**changes)(ids[:, :1], past_key_values=state)
    encoder = PerformerBertModel(causal().config)
    with pytest.raises(ValueError, match="causal models"):
        encoder(ids, state=state)


def test_an_encoder_loaded_from_a_causal_model_is_causal(tmp_path: Path) -> None:
    """Another model of the same configuration is not."""
    model, ids = causal(), tiny_batch()["input_ids"]
    model.save_pretrained(tmp_path)
    encoder = transformers.AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(encoder(ids).last_hidden_state, model.bert(ids).last_hidden_state)
    assert not PerformerBertForMaskedLM(model.config).bert.is_causal
    masked = PerformerBertForMaskedLM.from_pretrained(tmp_path, looks_back=False)
    masked.save_pretrained(tmp_path)
    assert not transformers.AutoModel.from_pretrained(tmp_path).is_causal
