"""Probabilities of matches compared with single passes of single pairs; truncation, streams, errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    FNetConfig,
    FNetForSequenceClassification,
)

from kexue_hf import ClnMatcherModel, convert, match_texts
from kexue_hf.pipelines.text_matching import ONLY_TASK
from kexue_hf.pipelines.text_pairs import TextPair, encode_pairs, pair_frame_of
from tests.pipelines.matchers import NAMES, PAIRS, SIZES, alone, make, randomize, tokenizer_in

SHORT = PAIRS[:5]


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory):
    return make("matcher", tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory):
    return make("bert", tmp_path_factory.mktemp("vocabulary"))


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert [list(one) for one in found] == [list(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 40, 100, 8192], ids="of-{}-tokens".format)
def test_batches_do_not_change_probabilities(matcher, batch_tokens: int) -> None:
    expected = [{name: alone(*matcher, pair, task) for task, name in enumerate(NAMES)} for pair in SHORT]
    assert all(max(one.values()) - min(one.values()) > 1e-2 for one in expected)
    assert_same(list(match_texts(*matcher, SHORT, batch_tokens=batch_tokens)), expected)


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        ("strict", ["strict"]),
        (2, [NAMES[2]]),
        ([2, "loose"], [NAMES[2], "loose"]),
        (["loose", 0, "loose"], ["loose"]),
        (np.int64(1), ["strict"]),
        (np.array([2, 0]), [NAMES[2], "loose"]),
        (torch.tensor(1), ["strict"]),
        (None, NAMES),
    ],
    ids=str,
)
def test_requested_tasks_are_returned(matcher, tasks, names: list[str]) -> None:
    everything = list(match_texts(*matcher, SHORT))
    assert_same(list(match_texts(*matcher, SHORT, tasks)), [{name: one[name] for name in names} for one in everything])


@pytest.mark.parametrize("batch_tokens", [30, 8192])
def test_a_pairs_own_task_is_the_default(matcher, batch_tokens: int) -> None:
    own = ["strict", None, np.int64(2), "loose", "strict"]
    pairs = [{"text_a": a, "text_b": b, "task": task} for (a, b), task in zip(SHORT, own, strict=True)]
    everything = list(match_texts(*matcher, SHORT))
    wanted = [["strict"], NAMES, [NAMES[2]], ["loose"], ["strict"]]
    expected = [{name: one[name] for name in names} for one, names in zip(everything, wanted, strict=True)]
    assert_same(list(match_texts(*matcher, pairs, batch_tokens=batch_tokens)), expected)
    assert_same(list(match_texts(*matcher, pairs, "loose")), [{"loose": one["loose"]} for one in everything])


def test_texts_have_the_originals_probabilities(tmp_path: Path) -> None:
    """Checks words, segments and all six tasks."""
    golden = Path(__file__).parents[1] / "golden" / "sohu_matcher_keras_h5"
    convert(golden, tmp_path / "matcher")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "matcher")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "matcher")
    texts, outputs = json.loads((golden / "case.json").read_text("utf-8")), np.load(golden / "outputs.npz")
    for batch in ("b0", "b1"):
        wanted = np.stack([outputs[f"{batch}_task{task}_probs"][:, 1] for task in range(6)], axis=1)
        found = [list(one.values()) for one in match_texts(model, tokenizer, texts[f"texts_of_{batch}"])]
        np.testing.assert_allclose(found, wanted, atol=5e-5, rtol=0)


def test_a_pair_classifier_is_a_matcher_with_one_task(bert) -> None:
    expected = [{ONLY_TASK: alone(*bert, pair)} for pair in SHORT]
    assert len({round(one[ONLY_TASK], 4) for one in expected}) == 4
    assert_same(list(match_texts(*bert, SHORT)), expected)
    assert_same(list(match_texts(*bert, SHORT, "match", batch_tokens=30)), expected)


def test_a_folded_matcher_has_its_task(matcher) -> None:
    model, tokenizer = matcher
    expected = list(match_texts(model, tokenizer, PAIRS, "strict"))
    assert_same(list(match_texts(model.fold_task("strict"), tokenizer, PAIRS)), expected)


def test_number_of_passes(matcher, monkeypatch) -> None:
    model, tokenizer = matcher
    given: list[tuple[int, object]] = []
    with monkeypatch.context() as patch:
        forward = model.forward

        def spied(**inputs):
            tasks = inputs["tasks"]
            given.append((len(inputs["input_ids"]), tasks if isinstance(tasks, int) else tasks.tolist()))
            return forward(**inputs)

        patch.setattr(model, "forward", spied)
        list(match_texts(model, tokenizer, SHORT[:1], batch_tokens=100))
        assert given == [(3, [0, 1, 2])]
        given.clear()
        list(match_texts(model, tokenizer, SHORT[1:2] * 12, batch_tokens=100))
        assert given == [(12, 0), (12, 1), (12, 2)]


def by_popping(first: list[int], second: list[int], length: int) -> list[int]:
    """Truncate one token at a time: [CLS] and a [SEP] count for the first text, the last [SEP] for the second."""
    first, second = [2, *first, 3], [*second, 3]
    while len(first) + len(second) > length:
        longer = first if len(first) >= len(second) else second
        longer.pop(-2)
    return first + second


@pytest.mark.parametrize("length", [6, 7, 12, 13])
def test_the_longer_of_two_is_truncated(matcher, length: int) -> None:
    tokenizer = matcher[1]
    frame = pair_frame_of(tokenizer)
    for a in range(1, 14):
        for b in range(1, 14):
            first, second = "今天气不错好很"[: a % 7 + 1] * 2, "好很，今天气不"[: b % 7 + 1] * 2
            (row,) = encode_pairs(tokenizer, [TextPair(first[:a], second[:b])], frame, length)
            bare = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (first[:a], second[:b]))
            assert row.ids == by_popping(*bare, length)
            assert row.segments == [0] * (row.ids.index(3) + 1) + [1] * (len(row.ids) - row.ids.index(3) - 1)


def test_rows_equal_the_tokenizers(matcher) -> None:
    tokenizer = matcher[1]
    rows = encode_pairs(tokenizer, [TextPair(*pair) for pair in SHORT], pair_frame_of(tokenizer))
    for row, pair in zip(rows, SHORT, strict=True):
        encoded = tokenizer(*pair)
        assert (row.ids, row.segments) == (encoded["input_ids"], encoded["token_type_ids"])


def test_long_pairs_are_truncated_to_the_models_length(matcher) -> None:
    long = (PAIRS[5][0], PAIRS[5][1])
    cut = (PAIRS[5][0][:11], PAIRS[5][1])  # 16 positions, three special tokens, two of 天气
    assert_same(list(match_texts(*matcher, [long])), list(match_texts(*matcher, [cut])))
    cut = (PAIRS[5][0][:5], PAIRS[5][1])
    assert_same(list(match_texts(*matcher, [long], max_length=10)), list(match_texts(*matcher, [cut])))


def test_read_ahead_is_bounded(matcher) -> None:
    read = []

    def pairs():
        for number in range(100):
            read.append(number)
            yield PAIRS[number % len(PAIRS)]

    found = match_texts(*matcher, pairs(), "loose", pairs_at_once=4)
    assert not read
    first = next(found)
    assert len(read) == 4
    expected = list(match_texts(*matcher, PAIRS, "loose"))
    assert_same([first, *(next(found) for _ in range(9))], [expected[n % len(PAIRS)] for n in range(10)])
    assert len(read) == 12
    found = match_texts(*matcher, pairs(), "loose", characters_at_once=1)
    read.clear()
    next(found)
    assert len(read) == 1


def test_no_pairs_give_no_results(matcher) -> None:
    assert list(match_texts(*matcher, [])) == []


def test_every_module_keeps_its_mode_between_results_too(matcher) -> None:
    model, tokenizer = matcher
    model.bert.encoder.train()
    model.bert.encoder.layer[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    try:
        stream = match_texts(model, tokenizer, PAIRS, pairs_at_once=2)
        first = next(stream)
        assert {name: module.training for name, module in model.named_modules()} == before
        assert not torch.is_inference_mode_enabled()
        found = [first, *stream]
    finally:
        model.eval()
    assert_same(found, list(match_texts(model, tokenizer, PAIRS)))


def test_a_model_that_sees_padding_never_gets_any(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {name: size for name, size in SIZES.items() if name != "num_attention_heads"}
    model = randomize(FNetForSequenceClassification(FNetConfig(**sizes)).eval())
    tokenizer = tokenizer_in(tmp_path)
    single = [next(match_texts(model, tokenizer, [pair])) for pair in SHORT]
    assert_same(list(match_texts(model, tokenizer, SHORT)), single)


def test_segments_go_to_models_that_distinguish_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**{**SIZES, "type_vocab_size": 1})).eval()
    assert len(list(match_texts(model, tokenizer_in(tmp_path), SHORT))) == len(SHORT)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(matcher, tmp_path: Path, dtype: torch.dtype) -> None:
    model, tokenizer = make("matcher", tmp_path)
    expected = list(match_texts(*matcher, PAIRS))
    for one, other in zip(match_texts(model.to(dtype), tokenizer, PAIRS), expected, strict=True):
        assert one == pytest.approx(other, abs=5e-3 if dtype == torch.float16 else 5e-2)
    with torch.no_grad():
        model.classifier.weight.fill_(torch.finfo(dtype).max)
    with pytest.raises(ValueError, match=f"the probabilities are not finite in {str(dtype)[6:]}: "):
        list(match_texts(model, tokenizer, PAIRS))


def test_probabilities_near_one_differ_in_half_precision(tmp_path: Path) -> None:
    model, tokenizer = make("matcher", tmp_path)
    model.to(torch.bfloat16)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, 7.0]))
    # bfloat16 has no number between 0.996 and 1.
    assert list(next(match_texts(model, tokenizer, SHORT, 0)).values()) == pytest.approx([0.99909], abs=1e-5)


def test_a_matcher_with_peft_adapters_has_its_tasks(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, tokenizer = make("matcher", tmp_path)
    expected = list(match_texts(model, tokenizer, SHORT))
    # New adapters change nothing.
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"]))
    assert_same(list(match_texts(adapted, tokenizer, SHORT)), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": "lose"}, "unknown task 'lose'; this model has 'loose', 'strict', '短长匹配A类'"),
        ({"tasks": 3}, "task id must be from 0 to 2 for this model, got 3"),
        ({"tasks": [0, -1]}, "task id must be from 0 to 2 for this model, got -1"),
        ({"tasks": [True]}, "the name or the id of a task, got True"),
        ({"tasks": True}, "the name or the id of a task, got True"),
        ({"tasks": 1.5}, "the name or the id of a task, got 1.5"),
        ({"tasks": [np.float64(1)]}, "the name or the id of a task, got "),
        ({"tasks": []}, "at least one task, got none; this model has 'loose'"),
        ({"pairs": {"text_a": "a", "text_b": "b"}}, "got a dict: put it into a list"),
        ({"pairs": "ab"}, "got a str: put it into a list"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1, got 0"),
        ({"pairs_at_once": 0}, "pairs_at_once must be at least 1"),
        ({"max_length": 17}, "max_length must be from 6 to 16 for this model, got 17"),
        ({"max_length": 5}, "max_length must be from 6 to 16"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(map(str, [*value, *value.values()])),
)
def test_invalid_arguments_are_refused_before_anything_is_read(matcher, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_texts(*matcher, **({"pairs": SHORT} | arguments))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("a", ""), "pair 1: text_b is empty; a pair needs two texts"),
        ((" \n", "a"), "pair 1: text_a is empty"),
        (("a", "\u200b\ufeff"), "pair 1: text_b is empty"),
        (("a", None), "pair 1: text_b must be a string, got NoneType"),
        (("a", "\ud800"), "pair 1: text_b contains an unpaired surrogate"),
        (("a",), r"pair 1: a pair must be two texts or a dictionary with text_a and text_b, got \('a',\)"),
        ("ab", "pair 1: a pair must be two texts"),
        (
            {"text_a": "a", "label": 1},
            "pair 1: expected a pair with text_a and text_b, got text_a, label without 'text_b'",
        ),
        ({"text_a": "a", "text_b": "b", "task": "x"}, "pair 1: unknown task 'x'; this model has 'loose'"),
    ],
    ids=lambda value: None if isinstance(value, dict | tuple) else value[8:30].replace(" ", "-"),
)
def test_invalid_pairs_are_refused(matcher, pair, message: str) -> None:
    stream = match_texts(*matcher, [SHORT[0], pair], pairs_at_once=1)
    assert set(next(stream)) == set(NAMES)
    with pytest.raises(ValueError, match=message):
        next(stream)


def test_only_matchers_are_accepted(matcher, tmp_path: Path) -> None:
    tokenizer = tokenizer_in(tmp_path)
    three = BertForSequenceClassification(BertConfig(**SIZES, num_labels=3))
    with pytest.raises(ValueError, match="got a BertForSequenceClassification with 3 classes"):
        match_texts(three, tokenizer, SHORT)
    values = BertForSequenceClassification(BertConfig(**SIZES, problem_type="regression"))
    with pytest.raises(ValueError, match="with values or several labels per pair"):
        match_texts(values, tokenizer, SHORT)
    encoder = ClnMatcherModel(matcher[0].config)
    with pytest.raises(ValueError, match=r"expected a text matcher with two classes.*got ClnMatcherModel"):
        list(match_texts(encoder, tokenizer, SHORT))
    with pytest.raises(ValueError, match="knows only special tokens"):
        match_texts(matcher[0], BertTokenizer(), SHORT)
    with pytest.raises(ValueError, match="expected the model's tokenizer, got None"):
        match_texts(matcher[0], None, SHORT)
