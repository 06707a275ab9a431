"""`kexue_hf.performer_report`: both kinds of attention on the user's texts, a verdict, and an unchanged model.

References: the model itself, with softmax and after `use_performer`; models whose layers are made near or far.
"""

import copy
import dataclasses
import json
import math
import re
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import kexue_hf
from kexue_hf import ClnMatcherConfig, PerformerBertConfig, calibrate_performer, performer_report, use_performer
from kexue_hf.models.performer_bert.feature_maps_performer_bert import create_feature_map
from kexue_hf.performer.report.passages import Passages
from kexue_hf.performer.report.report import CALIBRATED, DO_NOT, FINE, MEAN, RECOVER, OutputReport, _judge, ranges
from kexue_hf.performer.report.speed import AttentionSpeed, SpeedAtLength, _medians, attention_speed, crossover_of
from kexue_hf.performer.report.text import speed_text

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
WORDS = [f"w{number}" for number in range(45)]
GENERATOR = torch.Generator().manual_seed(2)
TEXTS = [" ".join(WORDS[number] for number in torch.randint(45, (100,), generator=GENERATOR)) for _ in range(2)]


def tokenizer_of_words(mask: bool = True) -> PreTrainedTokenizerFast:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*specials, *WORDS])}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"mask_token": "[MASK]"} if mask else {}
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", **names)


def tiny(name: str = "BertForMaskedLM", factors: tuple[float, ...] = (20, 100, 10), **changes):
    """Multiply queries and keys of each layer by its factor (BERT's names): larger means more peaked."""
    torch.manual_seed(0)
    cls = getattr(kexue_hf, name) if name.startswith("Performer") else getattr(transformers, name)
    model = cls(cls.config_class(**{**SIZES, **changes}))
    with torch.no_grad():
        for number, factor in enumerate(factors):
            for parameter_name, parameter in model.named_parameters():
                if f"layer.{number}." in parameter_name and ("query.w" in parameter_name or "key.w" in parameter_name):
                    parameter.mul_(factor)
                if "value.w" in parameter_name or "attention.output.dense.w" in parameter_name:
                    parameter.mul_(30)  # makes the choice of attended keys matter
    return model.eval()


def report(model=None, **options):
    options = {"lengths": None, **options}
    return performer_report(tiny() if model is None else model, TEXTS, tokenizer_of_words(), **options)


@pytest.fixture(scope="module")
def found():
    return report(linear_error=0.33)


def test_near_and_far_layers_are_distinguished(found) -> None:
    assert [layer.verdict == FINE for layer in found.layers] == [True, False, True]
    assert found.suggested_layers == [0, 2]
    near, far = found.layers[0], found.layers[1]
    assert far.logit_std > 5 * near.logit_std and far.query_std > 2 * near.query_std
    assert far.attended < 0.2 < near.attended <= 1
    assert set(near.errors) == {"mean of v", "uncalibrated", "calibrated"}
    assert near.errors["calibrated"] < near.errors["mean of v"]
    assert len(near.head_errors) == 2
    assert found.worst_heads(1)[0][0] == 1
    assert found.outputs["suggested"].cosine > found.outputs["calibrated"].cosine


def test_outputs_equal_those_of_the_swapped_model(found) -> None:
    """Passages, halves, calibration, the error of the states and the loss are computed independently."""
    tokenizer, model = tokenizer_of_words(), tiny()
    cut = Passages(model, tokenizer, TEXTS)
    assert cut.max_length == 32 and [len(row) for row in cut.rows] == [32, 32, 32, 12] * 2
    assert (found.pieces_found, found.pieces_calibrated, found.pieces_measured) == (8, 4, 4)
    calibrating, measuring = (cut.batches(cut.rows[half::2], 8) for half in (0, 1))
    assert found.tokens_measured == int(measuring[0]["attention_mask"].sum())
    with torch.no_grad():
        exact = model.bert(**measuring[0], output_hidden_states=True).hidden_states
        ((batch, labels),) = cut.masked(measuring)
        losses = [float(model(**batch, labels=labels).loss)]
        use_performer(model)
        calibrate_performer(model, calibrating)
        swapped = model.bert(**measuring[0], output_hidden_states=True).hidden_states
        losses.append(float(model(**batch, labels=labels).loss))
    real = measuring[0]["attention_mask"].bool()
    for layer, states, others in zip(found.layers, swapped[1:], exact[1:], strict=True):
        error = (states - others)[real].norm() / others[real].norm()
        assert layer.hidden_errors["calibrated"] == pytest.approx(float(error), rel=1e-4)
    assert found.outputs["calibrated"].hidden_error == found.layers[-1].hidden_errors["calibrated"]
    pooled = [torch.stack([row[own].mean(0) for row, own in zip(states[-1], real, strict=True)])
              for states in (swapped, exact)]  # fmt: skip
    cosines = torch.cosine_similarity(*pooled, dim=-1)
    assert found.outputs["calibrated"].cosine == pytest.approx(float(cosines.mean()), abs=1e-6)
    assert found.outputs["calibrated"].least_cosine == pytest.approx(float(cosines.min()), abs=1e-6)
    between = torch.cosine_similarity(pooled[1][:, None], pooled[1][None], dim=-1)
    assert found.cosine_between == pytest.approx(float((between.sum() - 4) / 12), abs=1e-6)
    assert found.loss_kind == "masked-word"
    assert [found.softmax_loss, found.outputs["calibrated"].loss] == pytest.approx(losses, abs=1e-5)


def test_words_are_masked_in_every_row() -> None:
    tokenizer = tokenizer_of_words()
    cut = Passages(tiny(), tokenizer, TEXTS)
    # Includes rows of one word, most of which would have no masked word by chance.
    batches = cut.batches([*cut.rows, *[[2, number, 3] for number in range(5, 35)]], 3)
    for (batch, labels), original in zip(cut.masked(batches), batches, strict=True):
        hidden = labels != -100
        assert hidden.any(-1).all()
        assert (batch["input_ids"][hidden] == tokenizer.mask_token_id).all()
        assert (labels[hidden] == original["input_ids"][hidden]).all() and (labels[hidden] > 4).all()
        assert (batch["input_ids"][~hidden] == original["input_ids"][~hidden]).all()


def snapshot(model) -> tuple[object, ...]:
    state = {name: (id(tensor), tensor._version) for name, tensor in model.state_dict(keep_vars=True).items()}
    modes = {name: module.training for name, module in model.named_modules()}
    return state, modes, copy.deepcopy(model.config.to_dict()), model.config._attn_implementation, dict(model.__dict__)


@pytest.mark.parametrize("error", [False, True], ids=["done", "failed"])
@pytest.mark.parametrize("kind", ["bert", "swapped", "performer_bert"])
def test_the_model_is_left_as_it_was(kind: str, error: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {
        "bert": lambda: tiny("BertModel"),
        "swapped": lambda: use_performer(tiny("BertModel"), "favor+", 16, redraw=1),
        "performer_bert": lambda: tiny("PerformerBertModel", linear_layers=[0, 2], feature_map="favor++"),
    }[kind]().train()
    model.encoder.layer[0].eval()
    values = copy.deepcopy(model.state_dict())
    before, random = snapshot(model), torch.get_rng_state()
    options = {"feature_map": "low_order", "layers": [0]}
    if error:
        monkeypatch.setattr("kexue_hf.performer.report.report.compare_variants", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            report(model, **options)
    else:
        report(model, **options)
        report(model)
    assert snapshot(model)[:-1] == before[:-1]
    assert snapshot(model)[-1].keys() == before[-1].keys()
    assert all(torch.equal(tensor, values[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_existing_maps_are_reported_unchanged() -> None:
    """Swapped models and performer_bert, calibrated or not, and layers with softmax."""
    for make in (
        lambda: use_performer(tiny("BertModel"), "favor+", 16, layers=[0, 2]),
        lambda: tiny("PerformerBertModel", feature_map="favor+", num_features=16, linear_layers=[0, 2]),
    ):
        found = report(make(), max_length=32)  # a Performer BERT would take longer passages
        assert (found.feature_map, found.num_features, found.judged) == ("favor+", 16, "as saved")
        assert (found.pieces_calibrated, found.pieces_measured) == (0, 8)
        assert [bool(layer.errors) for layer in found.layers] == [True, False, True]
        assert found.layers[1].verdict == "softmax" and found.layers[1].logit_std > 1
        assert [bool(layer.errors) for layer in report(make(), layers=[2]).layers] == [False, False, True]
        with pytest.raises(ValueError, match="0, 2, got 1"):
            report(make(), layers=[1, 2])
        model = make()
        cut = Passages(model, tokenizer_of_words(), TEXTS)
        calibrate_performer(model, cut.batches(cut.rows[:1], 1))
        other = report(model, max_length=32)
        assert other.layers[0].errors["as saved"] != found.layers[0].errors["as saved"]
        assert other.layers[0].errors["mean of v"] == found.layers[0].errors["mean of v"]
        anew = report(model, feature_map="low_order")
        assert (anew.feature_map, anew.num_features, anew.judged) == ("low_order", 16, "calibrated")
        assert [bool(layer.errors) for layer in anew.layers] == [True, True, True]


def test_learned_maps_are_not_reset() -> None:
    model = use_performer(tiny("BertModel"), "learned", 16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "favor_map" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    found, again = report(model), report(model)
    assert (found.feature_map, found.judged) == ("learned", "as saved")
    other = report(tiny("BertModel"), feature_map="learned", num_features=16)
    assert found.layers[0].errors == again.layers[0].errors
    assert found.layers[0].errors["as saved"] > 1.2 * other.layers[0].errors["calibrated"]


def test_only_the_named_layers_are_linear() -> None:
    found = report(layers=[0])
    assert [bool(layer.errors) for layer in found.layers] == [True, False, False]
    assert found.layers[0].verdict == FINE and "suggested" not in found.outputs


@pytest.mark.parametrize(
    ("name", "changes", "loss_kind"),
    [
        ("RobertaForMaskedLM", {"max_position_embeddings": 40, "pad_token_id": 0}, "masked-word"),
        ("DistilBertModel", {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24}, None),
        ("GPT2LMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}, "next-word"),
        ("LlamaForCausalLM", {"num_key_value_heads": 1}, "next-word"),
        ("PerformerBertForCausalLM", {}, "next-word"),
        ("BertForSequenceClassification", {}, None),
    ],
)
def test_any_model(name: str, changes: dict, loss_kind: str | None) -> None:
    taken = {} if name[:4] in ("Dist", "GPT2") else SIZES
    torch.manual_seed(0)
    cls = getattr(kexue_hf if name.startswith("Performer") else transformers, name)
    model = cls(cls.config_class(**{**taken, "vocab_size": 50, **changes}))
    found = report(model, pieces=4, max_length=20)
    assert found.loss_kind == loss_kind
    assert found.causal is (loss_kind == "next-word")
    assert all(layer.errors and layer.hidden_errors for layer in found.layers)
    assert len(found.layers) == model.config.num_hidden_layers
    # Fresh weights have nearly uniform attention, which linear attention approximates well.
    assert found.verdict == FINE and found.suggested_layers == list(range(len(found.layers)))
    if loss_kind == "next-word":
        batch = Passages(model, tokenizer_of_words(), TEXTS, 20)
        # The model's own loss is the mean of one batch.
        rows = [batch.rows[number * len(batch.rows) // 4] for number in range(4)]
        rows = rows if found.judged == "as saved" else rows[1::2]
        (own,) = batch.batches(rows, 4)
        labels = own["input_ids"].masked_fill(own["attention_mask"] == 0, -100)
        with torch.no_grad():
            loss = float(model.eval()(**own, labels=labels).loss)
        assert found.softmax_loss == pytest.approx(loss, abs=1e-3)


@pytest.mark.parametrize(
    ("factors", "verdict"),
    [((10, 10, 10), FINE), ((30, 30, 30), RECOVER), ((200, 200, 200), DO_NOT)],
    ids=["even", "peaked", "hard"],
)
def test_verdict_of_a_model(factors: tuple[float, ...], verdict: str) -> None:
    found = report(tiny("BertModel", factors))
    assert found.verdict == verdict
    assert f"Verdict: {verdict.upper()}. {found.advice[:20]}" in str(found)


@pytest.mark.parametrize(
    ("cosine", "error", "between", "loss", "verdict"),
    [
        (0.995, 0.1, 0.5, 2.0, FINE),
        (0.995, 0.1, 0.5, 2.2, RECOVER),
        (0.995, 0.1, 0.97, 2.0, RECOVER),
        (0.98, 0.1, 0.5, 2.0, RECOVER),
        (0.5, 0.79, 0.5, 2.0, DO_NOT),
        (math.nan, math.nan, 0.5, 2.0, DO_NOT),
    ],
    ids=["fine", "loss", "all-texts-alike", "cosine", "no-better", "not-finite"],
)
def test_verdict_from_outputs(found, cosine, error, between, loss, verdict: str) -> None:
    outputs = {MEAN: OutputReport(0.4, 0.4, 0.8, 3.0), CALIBRATED: OutputReport(cosine, cosine, error, loss)}
    assert _judge([found.layers[0]], outputs, CALIBRATED, between, 2.0, [0])[0] == verdict


def test_plain_values_and_text(found) -> None:
    whole = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert whole["layers"][1]["errors"]["calibrated"] == found.layers[1].errors["calibrated"]
    assert whole["verdict"] == found.verdict and whole["worst_heads"]
    text = str(found)
    for layer in found.layers:
        assert f"{layer.errors['calibrated']:.3f}" in text and f"{layer.logit_std:.2f}" in text
    assert all(len(line) <= 119 for line in text.splitlines())


def test_column_titles_are_separated() -> None:
    """A model with maps has only two columns of errors."""
    (title,) = (line for line in str(report(use_performer(tiny()))).splitlines() if "attends to" in line)
    expected = ["standard deviation", "attends to", "error of the layer alone", "hidden states"]
    assert re.split(" {2,}", title.strip()) == expected


@pytest.mark.parametrize(
    ("device", "dtype", "said"),
    [("cpu", "bfloat16", True), ("cpu", "float32", False), ("NVIDIA", "bfloat16", False)],
    ids=["half-on-a-cpu", "single-on-a-cpu", "half-on-a-gpu"],
)
@pytest.mark.parametrize("softmax", [0.5, 2.0], ids=["slower", "faster"])
def test_slow_half_precision_on_a_cpu_is_mentioned(device, dtype, said: bool, softmax: float) -> None:
    lengths = [SpeedAtLength(512, softmax, 1.0)]
    shown = speed_text(AttentionSpeed(device, 2, dtype, (1, 2, 8), lengths, crossover_of(lengths)))
    last = shown[shown.index("Linear attention is") :]
    assert (f"in {dtype}" in last and "--dtype float32" in last) is said


def test_a_picture(found, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found.draw(tmp_path / "picture.svg")
    # Six panels, one with two scales, and the colour scale of the heads' errors.
    assert 'id="axes_8"' in (tmp_path / "picture.svg").read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["picture.svg"]


def test_speed_is_measured_on_request() -> None:
    found = report(tiny("BertModel"), layers=[0], lengths=[16, 8])
    assert [at.length for at in found.speed.lengths] == [8, 16]
    assert all(at.softmax > 0 and at.linear > 0 for at in found.speed.lengths)
    assert found.speed.shape == (1, 2, 8)
    assert "times faster" in str(found)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([(512, 1, 2), (1024, 2, 4)], None),
        ([(512, 2, 1), (1024, 4, 2)], 512),
        ([(512, 1, 2), (2048, 4, 2)], 1024),
        ([(512, 1, 2), (2048, 4, 2), (4096, None, 3)], 1024),
        ([(512, None, None)], None),
    ],
    ids=["never", "always", "between", "one-left-out", "nothing"],
)
def test_crossover_of_linear_attention(times: list, expected: float | None) -> None:
    found = crossover_of([SpeedAtLength(*time) for time in times])
    assert found == (expected if expected is None else pytest.approx(expected))


def test_contender_that_runs_out_of_memory_later_is_skipped() -> None:
    runs = []

    def fails() -> None:
        runs.append(1)
        if len(runs) > 1:
            raise RuntimeError("CUDA out of memory")

    found = _medians({"one": fails, "other": lambda: None}, torch.device("cpu"))
    assert list(found) == ["other"] and len(runs) == 2


def test_contender_that_takes_too_long_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kexue_hf.performer.report.speed._PATIENCE", 0.0)
    found = attention_speed(create_feature_map("low_order", 4, 8), 2, [4, 8])
    assert found.lengths[0].softmax and found.lengths[1].softmax is None is found.lengths[1].ratio


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pieces": 1}, "at least 2"),
        ({"max_length": 2}, "max_length must be from 3 to 32"),
        ({"max_length": 33}, "max_length must be from 3 to 32"),
        ({"layers": [3]}, "3 attention layers"),
        ({"layers": []}, "attention layers"),
        ({"feature_map": "best"}, "feature_map must be one of"),
        ({"num_features": 0}, "num_features must be"),
        ({"lengths": [0]}, "lengths must be"),
        ({"linear_error": 0.0}, "linear_error must be"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report(**options)


def test_matcher_is_reported_for_one_task() -> None:
    matcher = kexue_hf.ClnMatcherForSequenceClassification(ClnMatcherConfig(**SIZES, task_names=["a", "b"])).eval()
    with pytest.raises(ValueError, match=r"2 tasks \('a', 'b'\).* model.fold_task\('a'\)"):
        report(matcher)
    assert len(report(matcher.fold_task("b"), pieces=6).layers) == 3


def test_models_that_cannot_be_swapped() -> None:
    changes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 50}
    for name, message in {"T5ForConditionalGeneration": "decoder", "T5EncoderModel": "T5"}.items():
        cls = getattr(transformers, name)
        with pytest.raises(ValueError, match=message):
            report(cls(transformers.T5Config(**changes, is_encoder_decoder="Encoder" not in name)))


def test_texts_that_are_too_short() -> None:
    for texts in ([], ["w1 w2 w3"], [" ".join(WORDS[:30])]):
        with pytest.raises(kexue_hf.InputError, match="two pieces"):
            performer_report(tiny(), texts, tokenizer_of_words(), lengths=None)


def test_too_few_tokens_to_calibrate_on() -> None:
    with pytest.raises(
        kexue_hf.InputError, match=r"calibrated on: .* queries and keys .* got 8 and 8: give more text"
    ):
        performer_report(tiny(), TEXTS, tokenizer_of_words(), max_length=8, pieces=2, lengths=None)


def test_performer_bert_reads_beyond_its_table() -> None:
    model = kexue_hf.PerformerBertModel(PerformerBertConfig(**SIZES))
    found = performer_report(model, TEXTS, tokenizer_of_words(), max_length=64, lengths=None)
    assert found.max_length == 64 and found.tokens_measured > 4 * 32
    with pytest.raises(ValueError, match="to 1024"):
        performer_report(model, TEXTS, tokenizer_of_words(), max_length=1025, lengths=None)


def test_without_a_mask_there_is_no_loss() -> None:
    found = performer_report(tiny(), TEXTS, tokenizer_of_words(mask=False), lengths=None)
    assert found.loss_kind is None and found.softmax_loss is None
    assert all(output.loss is None for output in found.outputs.values())
    assert math.isfinite(found.outputs["calibrated"].cosine)


def test_ranges_of_numbers() -> None:
    assert ranges([5, 0, 1, 2]) == "0-2, 5" and ranges([]) == ""


def test_long_model_name_fits_in_the_picture(found, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    dataclasses.replace(found, model="a-model-of-mine-" * 12).draw(tmp_path / "picture.svg")
    width = re.search(r'width="([\d.]+)pt"', (tmp_path / "picture.svg").read_text("utf-8"))
    assert float(width[1]) > 11 * 72  # wider than the panels
