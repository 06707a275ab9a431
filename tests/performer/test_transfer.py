"""Attention transfer and distillation on networks of a few thousand parameters.

Run this file alone: pytest tests/performer/test_transfer.py
"""

import copy
import math
import sys
import types

import pytest
import torch
from transformers import AutoModel, BertConfig, BertForMaskedLM, BertModel, BertTokenizer

import kexue_hf
from kexue_hf import distil_performer, transfer_attention, use_performer
from kexue_hf.errors import InputError
from kexue_hf.models.performer_bert.feature_maps_performer_bert import LearnedMap
from kexue_hf.performer.distillation import text_losses
from kexue_hf.performer.recovery_figures import (
    HeldOut,
    as_softmax,
    masked_word_loss,
    pairs_of,
    pooled_vectors,
    rank_agreement,
)
from kexue_hf.performer.transfer import Clock

WORDS = [f"w{i}" for i in range(45)]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizer:
    return BertTokenizer(
        vocab={word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 20, (40,), generator=generator).tolist()
    return [" ".join(WORDS[i] for i in torch.randint(0, 45, (n,), generator=generator).tolist()) for n in lengths]


def encoder(kind: type = BertModel, sharper: float = 60.0, **settings) -> torch.nn.Module:
    """Create an encoder with peaked attention."""
    torch.manual_seed(0)
    model = kind(BertConfig(**SIZES)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query.weight" in name or "key.weight" in name:
                parameter.mul_(sharper)
            if "value.weight" in name:
                parameter.mul_(20)
    return use_performer(model, "learned", **{"num_features": 8, **settings})


@pytest.fixture(scope="module")
def transferred(tokenizer, texts):
    """Measures errors on training texts, because random words teach nothing about others."""
    model = encoder()
    before = copy.deepcopy(model.state_dict())
    model.train()
    model.pooler.requires_grad_(False)
    return (
        model,
        before,
        transfer_attention(
            model,
            texts,
            tokenizer,
            held_out=texts[:4],
            steps=30,
            batch_size=4,
            evaluate_every=10,
            rival=None,
            quiet=True,
        ),
    )


def test_errors_fall_layer_by_layer(transferred) -> None:
    _, _, result = transferred
    assert result.layers == [f"encoder.layer.{i}.attention.self" for i in range(2)]
    assert result.steps == 30 and [step for step, _ in result.curve] == [0, 10, 20, 30]
    assert result.curve[0][1] == result.before and result.curve[-1][1] == result.after
    for before, after in zip(result.before, result.after, strict=True):
        assert after < 0.97 * before


def test_only_the_maps_change(transferred) -> None:
    model, before, _ = transferred
    for name, tensor in model.state_dict().items():
        same = torch.equal(tensor, before[name])
        assert same != ("favor_map" in name and not name.endswith("_mean")), name
    assert model.training
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    assert all(parameter.grad is None for parameter in model.parameters())


def test_errors_equal_those_of_the_layers_outputs(transferred, tokenizer, texts) -> None:
    """Compares with the first layer's attention on the first four texts."""
    model, _, result = transferred
    batch = tokenizer(texts[:4], padding=True, return_tensors="pt")
    outputs = []
    layer = model.encoder.layer[0].attention.self
    handle = layer.register_forward_hook(lambda module, inputs, output: outputs.append(output[0]))
    with torch.no_grad():
        model.eval()(**batch)
        with as_softmax():
            model(**batch)
    handle.remove()
    found, wanted = (output[batch["attention_mask"].bool()] for output in outputs)
    assert result.after[0] == pytest.approx(float((found - wanted).norm() / wanted.norm()), rel=1e-4)


def test_the_same_seed_gives_the_same_numbers(transferred, tokenizer, texts) -> None:
    options = {"steps": 2, "batch_size": 4, "rival": None, "quiet": True}
    runs = []
    for seed in (0, 0, 1):
        model = encoder()
        transfer_attention(model, texts, tokenizer, seed=seed, **options)
        runs.append(model.encoder.layer[1].attention.self.favor_map.query_directions)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_an_iterator_of_batches_is_read_once(tokenizer, texts) -> None:
    batches = [tokenizer(texts[i : i + 4], padding=True, return_tensors="pt") for i in range(0, 20, 4)]
    model = encoder(layers=[1])
    result = transfer_attention(model, iter(batches), steps=30, quiet=True)
    # The first of five is held out.
    assert result.steps == 4 and result.layers == ["encoder.layer.1.attention.self"]
    assert result.after[0] < result.before[0]


def test_padding_is_not_trained_on(tokenizer, texts) -> None:
    """Batches with more padding, and a row of padding, give the same maps."""
    batches = [tokenizer(texts[i : i + 4], padding=True, return_tensors="pt") for i in range(0, 12, 4)]
    padded = [{name: torch.nn.functional.pad(states, (0, 5)) for name, states in batch.items()} for batch in batches]
    found = []
    for some in (batches, padded):
        model = encoder().double()
        transfer_attention(model, some, steps=3, rival=None, quiet=True)
        found.append(model.encoder.layer[0].attention.self.favor_map.key_directions)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-8)


def test_a_flat_layer_gets_low_orders_and_is_saved_with_them(tokenizer, texts, tmp_path) -> None:
    """A head_dim of 8 and 45 features: low orders are exact to the second."""
    model = encoder(num_features=45)
    with torch.no_grad():
        model.encoder.layer[1].attention.self.query.weight.div_(600)
    # Few enough texts for the peaked layer to memorise them.
    result = transfer_attention(model, texts[:8], tokenizer, steps=20, batch_size=4, quiet=True)
    assert result.kinds == ["learned", "low_order"] and result.after[1] < 0.02
    assert model.config.performer["feature_map"] == result.kinds
    model.save_pretrained(tmp_path)
    batch = tokenizer(texts[:2], padding=True, return_tensors="pt")
    loaded = AutoModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).last_hidden_state, model(**batch).last_hidden_state)
    # With a single layer that has a map, the other layer keeps softmax.
    model = encoder(layers=[1])
    transfer_attention(model, texts, tokenizer, steps=1, rival="favor+", quiet=True)
    assert model.encoder.layer[0].attention.self.favor_softmax


def test_performer_bert_is_trained_below_its_switch_length(tokenizer, texts) -> None:
    torch.manual_seed(0)
    config = kexue_hf.PerformerBertConfig(**SIZES, feature_map="learned", num_features=8, attention_switch_length=512)
    model = kexue_hf.PerformerBertModel(config).eval()
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.self.query.weight.mul_(60)
            layer.attention.self.key.weight.mul_(60)
    result = transfer_attention(model, texts[:4], tokenizer, steps=20, batch_size=4, quiet=True)
    assert all(after < before for before, after in zip(result.before, result.after, strict=True))
    assert config.attention_switch_length == 512


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"max_length": 513}, "max_length must be at most 512 for this model, got 513"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number, got nan"),
        ({"minutes": 0}, "minutes must be a positive number, got 0"),
        ({"rival": "best"}, "rival must be one of"),
        ({"texts": "w1 w2"}, "expected several texts, got a single string"),
        ({"texts": []}, "needs at least one text, got none"),
        ({"texts": [3]}, "a text must be a string, got int"),
        ({"texts": ["w1"], "tokenizer": None}, "a batch must be a mapping of the model's inputs, got str"),
    ],
    ids=lambda value: str(value),
)
def test_bad_input_is_refused_in_one_line(changes: dict, message: str, tokenizer) -> None:
    arguments = {"texts": ["w1 w2"], "tokenizer": tokenizer, "quiet": True, "steps": 1, **changes}
    model = encoder().train().requires_grad_(False)
    before = snapshot(model)
    with pytest.raises(InputError, match=message) as error:
        transfer_attention(model, **arguments)
    assert "\n" not in str(error.value) and snapshot(model) == before


def test_default_text_length_is_the_models_maximum(tokenizer) -> None:
    """For a model with fewer positions than 256."""
    model = use_performer(BertModel(BertConfig(**SIZES, max_position_embeddings=9)), "learned", num_features=8)
    long = [" ".join(WORDS[start : start + 12]) for start in range(0, 32, 2)]
    assert transfer_attention(model, long, tokenizer, steps=1, batch_size=4, rival=None, quiet=True).steps == 1
    measure = HeldOut(model, tokenizer, long[:4])
    _, curve = distil_performer(model, long, tokenizer, steps=1, rank=0, batch_size=4, evaluate=measure, quiet=True)
    assert curve and measure.max_length == 9


def test_a_matcher_is_trained_for_one_task(tokenizer) -> None:
    matcher = kexue_hf.ClnMatcherModel(kexue_hf.ClnMatcherConfig(**SIZES, task_names=["a", "b"]))
    use_performer(matcher, "learned", num_features=8)
    for train in (transfer_attention, distil_performer):
        with pytest.raises(InputError, match=r"2 tasks.*model.fold_task\('a'\)"):
            train(matcher, ["w1 w2"], tokenizer, quiet=True)


def snapshot(model: torch.nn.Module) -> tuple:
    """Return modes, trained parameters, numbers, and the configuration."""
    modes = {name: module.training for name, module in model.named_modules()}
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    numbers = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    return modes, trained, numbers, copy.deepcopy(model.config.to_dict())


def test_modes_of_parts_stay_and_non_tensors_are_passed_on(tokenizer, texts) -> None:
    model = encoder().train()
    model.encoder.layer[0].eval()
    before = snapshot(model)
    batch = {**tokenizer(texts[:4], padding=True, return_tensors="pt"), "return_dict": True}
    transfer_attention(model, [batch], steps=1, rival=None, quiet=True)
    assert snapshot(model)[0] == before[0]


@pytest.mark.parametrize("once", [False, True], ids=["list", "iterator"])
def test_held_out_texts_are_not_calibrated_on(once: bool, tokenizer, texts, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = [tokenizer(texts[i : i + 2], padding=True, return_tensors="pt") for i in range(0, 8, 2)]
    seen = []

    def calibrate(model, given, *args, **kwargs):
        seen.extend(id(batch) for batch in given)
        return kexue_hf.calibrate_performer(model, given, *args, **kwargs)

    monkeypatch.setattr("kexue_hf.performer.transfer.calibrate_performer", calibrate)
    for given, held_out in ((batches, None), (batches[1:], batches[:1])):
        seen.clear()
        transfer_attention(
            encoder(num_features=45), iter(given) if once else given, held_out=held_out, steps=1, quiet=True
        )
        # Once for the start, once for the rival.
        assert seen == [id(batch) for batch in batches[1:]] * 2


def test_too_little_text_for_the_rival_keeps_the_trained_maps(tokenizer) -> None:
    """Low orders need at least twice head_dim tokens."""
    model = encoder()
    assert transfer_attention(model, ["w1 w2"], tokenizer, steps=1, quiet=True).kinds == ["learned"] * 2
    assert all(isinstance(layer.attention.self.favor_map, LearnedMap) for layer in model.encoder.layer)


def test_models_without_learned_maps_are_refused(tokenizer) -> None:
    for model in (BertModel(BertConfig(**SIZES)), use_performer(BertModel(BertConfig(**SIZES)), "favor+")):
        with pytest.raises(InputError, match="has no learned feature maps"):
            transfer_attention(model, ["w1"], tokenizer)
    with pytest.raises(InputError, match=r"trained in float32, these are torch\.bfloat16"):
        transfer_attention(encoder().bfloat16(), ["w1"], tokenizer)


def distilled(model, texts, tokenizer, **options):
    pytest.importorskip("peft") if options.get("rank", 1) else None
    settings = {"steps": 6, "batch_size": 4, "evaluate_every": 3, "quiet": True, "learning_rate": 1e-3, **options}
    return distil_performer(model, texts, tokenizer, **settings)


def test_distillation_improves_the_model_and_merges_its_adapters(tokenizer, texts) -> None:
    model = encoder()
    measure = HeldOut(model, tokenizer, texts[:8])
    names, before = set(model.state_dict()), measure(model)
    weight = model.encoder.layer[0].attention.self.value.weight.clone()
    model, curve = distilled(model, texts[8:], tokenizer, rank=2, steps=12, evaluate=measure, learning_rate=1e-2)
    after = measure(model)
    losses = [point["loss"] for point in curve if "loss" in point]
    assert after["cosine"] > before["cosine"] and losses[-1] < losses[0]
    assert set(model.state_dict()) == names and type(model) is BertModel
    assert not torch.equal(model.encoder.layer[0].attention.self.value.weight, weight)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [point["step"] for point in curve if "cosine" in point] == [3, 6, 9, 12]


def test_accumulated_batches_equal_one_large_batch(tokenizer, texts) -> None:
    runs = []
    for size, accumulate in ((4, 1), (2, 2)):
        model, curve = distilled(
            encoder().double(), texts, tokenizer, rank=0, batch_size=size, accumulate=accumulate, steps=3
        )
        runs.append((model.encoder.layer[0].attention.self.favor_map.key_directions, curve))
    assert [point["loss"] for point in runs[0][1]] == pytest.approx([point["loss"] for point in runs[1][1]], rel=1e-5)
    torch.testing.assert_close(runs[0][0], runs[1][0], rtol=0, atol=1e-6)


def test_rank_zero_trains_only_maps_and_none_everything(tokenizer, texts) -> None:
    for rank in (0, None):
        model = encoder()
        before = copy.deepcopy(model.state_dict())
        model, _ = distilled(model, texts, tokenizer, rank=rank, steps=1)
        moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        assert any("favor_map" in name for name in moved)
        assert any("favor_map" not in name for name in moved) == (rank is None)


def test_masked_words_are_part_of_the_loss_with_a_masked_word_head(tokenizer, texts) -> None:
    model = encoder(BertForMaskedLM)
    batch = tokenizer(texts[:2], padding=True, return_tensors="pt")
    labels = torch.where(batch["attention_mask"].bool(), batch["input_ids"], -100)
    output = model(**batch, output_hidden_states=True)
    losses = text_losses(output, output, batch["attention_mask"], labels)
    expected = [
        torch.nn.functional.cross_entropy(logits, row, ignore_index=-100)
        for logits, row in zip(output.logits, labels, strict=True)
    ]
    torch.testing.assert_close(losses, torch.stack(expected) * 0.1, rtol=1e-4, atol=1e-6)
    before = masked_word_loss(model, tokenizer, texts)
    model, _ = distilled(model, texts, tokenizer, rank=None, steps=12, learning_rate=1e-2)
    assert masked_word_loss(model, tokenizer, texts) < before


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"minutes": 0}, InputError, "minutes must be a positive number, got 0"),
        ({"learning_rate": math.nan}, InputError, "learning_rate must be a positive number, got nan"),
        ({"max_length": 0}, InputError, "max_length must be at least 1, got 0"),
        ({"max_length": 513}, InputError, "max_length must be at most 512 for this model, got 513"),
        ({"texts": "w1 w2"}, InputError, "expected several texts, got a single string"),
        ({"evaluate": lambda _: 1 / 0, "evaluate_every": 1}, ZeroDivisionError, "division by zero"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_model_is_left_without_adapters(changes: dict, error: type, message: str, tokenizer) -> None:
    model = encoder().train()
    model.pooler.requires_grad_(False)
    modes, trained, numbers, config = snapshot(model)
    with pytest.raises(error, match=message):
        distilled(model, **{"texts": ["w1 w2"], "tokenizer": tokenizer, "rank": 2, "steps": 1, **changes})
    after = snapshot(model)
    assert (after[0], after[1], after[2].keys(), after[3]) == (modes, trained, numbers.keys(), config)


def test_nothing_to_train_is_refused_before_any_change(tokenizer) -> None:
    model = use_performer(BertModel(BertConfig(**SIZES)), "favor+", 8)
    with pytest.raises(InputError, match="nothing to train"):
        distilled(model, ["w1"], tokenizer, rank=0)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_several_processes_use_the_time_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise one would stop, and the others wait for it."""
    told = []

    def broadcast(values: list, src: int) -> None:
        told.append(src)
        values[0] = 30.0

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    clock = Clock(100, minutes=1, together=True)
    assert clock.share(0) == 0 and not told
    assert clock.share(1) == 0.5 and clock.share(80) == 0.8 and told == [0, 0]
    assert Clock(100, minutes=1).share(1) == 0.01 and told == [0, 0]


def test_rates_grow_linearly_and_decay_as_a_cosine() -> None:
    clock = Clock(100)
    assert [clock.rate(step) for step in (0, 50, 100)] == pytest.approx([0.1, 0.5, 0.0])


def test_the_loss_equals_its_definition() -> None:
    """Two layers whose errors are 1/4 and 1 of their squares; means at right angles; any padding."""
    real = torch.tensor([[1, 1, 0]])
    anything = [99.0, 99.0]
    wanted = [torch.tensor([[[2.0, 0.0], [2.0, 0.0], anything]])] * 3
    found = [
        wanted[0] + 7,
        torch.tensor([[[1.0, 0.0], [1.0, 0.0], anything[:1] * 2]]),
        torch.tensor([[[2.0, 2.0], [2.0, -2.0], [0.0, 0.0]]]),
    ]
    sides = [types.SimpleNamespace(hidden_states=states) for states in (found, wanted)]
    assert float(text_losses(*sides, real, None)) == pytest.approx((0.25 + 1) / 2 + 0, abs=1e-6)
    found[2] = torch.tensor([[[0.0, 2.0], [0.0, 2.0], [0.0, 0.0]]])
    assert float(text_losses(*sides, real, None)) == pytest.approx((0.25 + 2) / 2 + 1, abs=1e-6)


def test_performer_bert_is_distilled_below_its_switch_length(tokenizer, texts) -> None:
    config = kexue_hf.PerformerBertConfig(**SIZES, feature_map="learned", num_features=8, attention_switch_length=512)
    model = kexue_hf.PerformerBertModel(config)
    before = model.encoder.layer[0].attention.self.favor_map.key_directions.clone()
    model, _ = distilled(model, texts, tokenizer, rank=0, steps=1)
    assert not torch.equal(model.encoder.layer[0].attention.self.favor_map.key_directions, before)
    assert model.config.attention_switch_length == 512


def test_adapters_without_peft_are_a_clear_error(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'kexue-hf\[recovery\]'"):
        distil_performer(encoder(), ["w1"], tokenizer, steps=1)


def test_rank_agreement_is_spearmans_correlation() -> None:
    wanted = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    pairs = pairs_of(wanted)
    assert (pairs[:, 0] < pairs[:, 1]).all() and len(pairs.unique(dim=0)) == len(pairs)
    assert rank_agreement(wanted * 3, wanted, pairs) == pytest.approx(1.0)
    assert abs(rank_agreement(torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), wanted, pairs)) < 0.7


def test_rank_agreement_uses_ranks_and_not_values() -> None:
    """Angles between neighbours of 10, 20 and 40 degrees, and of 1, 4 and 75: the same order."""
    pairs = torch.tensor([[0, 1], [1, 2], [2, 3]])
    sides = [torch.deg2rad(torch.tensor(angles)) for angles in ([0.0, 10, 30, 70], [0.0, 1, 5, 80])]
    found, wanted = (torch.stack([angles.cos(), angles.sin()], -1) for angles in sides)
    assert rank_agreement(found, wanted, pairs) == pytest.approx(1.0)


def test_padding_does_not_change_pooled_vectors(tokenizer, texts) -> None:
    model = encoder()
    together = pooled_vectors(model, tokenizer, texts[:6])
    alone = torch.cat([pooled_vectors(model, tokenizer, [text]) for text in texts[:6]])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_figures_of_the_softmax_model_are_perfect(tokenizer, texts) -> None:
    model = encoder(BertForMaskedLM)
    measure = HeldOut(model, tokenizer, texts[:8], masked=True)
    with as_softmax():
        figures = measure(model)
    assert figures["cosine"] == pytest.approx(1.0, abs=1e-6)
    assert figures["masked_word_loss"] == measure.softmax_loss
    assert measure(model)["masked_word_loss"] != measure.softmax_loss
    assert isinstance(model.bert.encoder.layer[0].attention.self.favor_map, LearnedMap)
