"""Scores compared with single passes over single rows, for unusual input, and in windows."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from transformers import BertConfig, BertForMaskedLM, BertTokenizer

from kexue_hf import TtaConfig, TtaForMaskedLM, TtaTokenizer, WoBertConfig, WoBertForMaskedLM, WoBertTokenizer, convert
from kexue_hf.pipelines.chunks import chunks
from kexue_hf.pipelines.text_scoring import TextScore, score_stream, score_texts
from kexue_hf.pipelines.text_windows import default_max_length, encode_texts, frame_of, windows

SPECIAL = ["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]"]
TOKENS = [*SPECIAL, "今", "天", "气", "不", "错", "好", "，", "a", "##b", "今天", "天气"]
TEXTS = ["今天天气不错", "好", "", "今天，天气ab好", "龘天", " \t ", "天 气"]
LONG = "今天天气不错，好不好" * 4
SIZES = {
    "vocab_size": len(TOKENS),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "initializer_range": 0.4,
}
KINDS = {
    "tta": (TtaConfig, TtaForMaskedLM, TtaTokenizer),
    "bert": (BertConfig, BertForMaskedLM, BertTokenizer),
    "wobert": (WoBertConfig, WoBertForMaskedLM, WoBertTokenizer),
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return make(request.param, tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def tta(tmp_path_factory: pytest.TempPathFactory):
    return make("tta", tmp_path_factory.mktemp("vocabulary"))


def make(kind: str, folder: Path):
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    config_class, model_class, tokenizer_class = KINDS[kind]
    torch.manual_seed(0)
    return model_class(config_class(**SIZES)).eval(), tokenizer_class(str(folder / "vocab.txt"))


@torch.no_grad()
def alone(model, tokenizer, text: str) -> list[float]:
    """Return the score of each token of a text that fits, special tokens included, one masked row at a time."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    found = []
    for column, token in enumerate(ids[0].tolist()):
        masked = ids.clone()
        masked[0, column] = tokenizer.mask_token_id
        found.append(float(model(input_ids=masked).logits[0, column].log_softmax(-1)[token]))
    return found


def test_each_score_equals_that_of_a_single_masked_row(pair) -> None:
    model, tokenizer = pair
    for text, score in zip(TEXTS, score_texts(model, tokenizer, TEXTS), strict=True):
        assert score.text == text
        assert score.log_probs == pytest.approx(alone(model, tokenizer, text)[1:-1], abs=1e-5)
        assert score.log_prob == pytest.approx(sum(score.log_probs))
        assert score.method == ("one_pass" if isinstance(model, TtaForMaskedLM) else "masking")
    with_specials = score_texts(model, tokenizer, TEXTS, include_specials=True)
    for text, score in zip(TEXTS, with_specials, strict=True):
        assert score.log_probs == pytest.approx(alone(model, tokenizer, text), abs=1e-5)
        assert score.tokens == tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        assert score.offsets[0] is None and score.offsets[-1] is None and score.windows == 1


def test_the_originals_scores_are_reproduced(tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "golden" / "tta_tf_ckpt"
    convert(golden, tmp_path / "tta")
    model = TtaForMaskedLM.from_pretrained(tmp_path / "tta").eval()
    tokenizer = TtaTokenizer.from_pretrained(tmp_path / "tta")
    texts = json.loads((golden / "case.json").read_text("utf-8"))["texts_of_b0"]
    scores = score_texts(model, tokenizer, texts, include_specials=True)
    outputs = np.load(golden / "outputs.npz")
    assert [score.log_prob for score in scores] == pytest.approx(outputs["b0_sentence_scores"].tolist(), abs=5e-4)
    for score, expected in zip(scores, outputs["b0_token_scores"], strict=True):
        assert score.log_probs == pytest.approx(expected[: len(score.tokens)].tolist(), abs=5e-5)


def test_one_pass_and_masking_agree(tta) -> None:
    one_pass, masking = (score_texts(*tta, [*TEXTS, LONG], method=method) for method in ("one_pass", "masking"))
    for first, second in zip(one_pass, masking, strict=True):
        assert first.log_probs == pytest.approx(second.log_probs, abs=1e-5)
        assert first.windows == second.windows


def test_offsets_and_unknown_flags(pair) -> None:
    score = score_texts(*pair, ["今 龘ab"])[0]
    pieces = ["今 龘ab"[start:end] for start, end in score.offsets]
    assert pieces == ["今", "龘", "a", "b"]
    assert score.unknown == [False, True, False, False]
    row = score.to_dict(tokens=True)
    assert row["num_unknown"] == 1 and row["num_tokens"] == 4
    assert row["tokens"][1] == {
        "token": "[UNK]",
        "start": 2,
        "end": 3,
        "log_prob": score.log_probs[1],
        "unknown": True,
    }
    assert "tokens" not in score.to_dict()


@pytest.mark.parametrize("text", ["", " ", "\n\t　"], ids=["empty", "space", "other_space"])
def test_texts_without_tokens(pair, text: str) -> None:
    score = score_texts(*pair, [text])[0]
    assert (score.log_prob, score.mean, score.perplexity, score.windows, score.tokens) == (0, None, None, 0, [])


def test_a_single_token_is_predicted_from_the_special_tokens(tta) -> None:
    model, tokenizer = tta
    first, second = (score_texts(model, tokenizer, [text])[0] for text in ("好", "错"))
    with torch.no_grad():
        states = model(**tokenizer("好", return_tensors="pt")).logits[0, 1].log_softmax(-1)
    assert first.log_probs == pytest.approx([float(states[tokenizer.convert_tokens_to_ids("好")])], abs=1e-5)
    # Equal contexts, so these are entries of one distribution.
    assert second.log_probs == pytest.approx([float(states[tokenizer.convert_tokens_to_ids("错")])], abs=1e-5)


def test_perplexity_is_exp_of_the_negative_mean() -> None:
    score = TextScore("ab", ["a", "b"], None, [-1.0, -3.0], [False, False], 1, "masking")
    assert (score.log_prob, score.mean, score.perplexity) == (-4, -2, pytest.approx(math.exp(2)))
    assert score.to_dict(tokens=True)["tokens"][0]["start"] is None
    assert TextScore("a", ["a"], None, [-1000.0], [False], 1, "masking").perplexity == math.inf


def test_a_long_text_is_scored_in_windows_with_each_token_once(pair) -> None:
    model, tokenizer = pair
    score = score_texts(model, tokenizer, [LONG])[0]
    encoded = encode_texts(tokenizer, [LONG])[0]
    assert score.windows > 1 and score.tokens == encoded.tokens and len(score.log_probs) == len(encoded.ids)
    frame = frame_of(tokenizer)
    expected = []
    for window in windows(len(encoded.ids), 14):
        row = torch.tensor([[*frame.before, *encoded.ids[window.start : window.end], *frame.after]])
        for place in range(window.first, window.last):
            masked = row.clone()
            masked[0, place - window.start + 1] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = model(input_ids=masked).logits[0, place - window.start + 1]
            expected.append(float(logits.log_softmax(-1)[encoded.ids[place]]))
    assert score.log_probs == pytest.approx(expected, abs=1e-5)
    with_specials = score_texts(model, tokenizer, [LONG], include_specials=True)[0]
    assert len(with_specials.log_probs) == len(encoded.ids) + 2
    assert with_specials.log_probs[1:-1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("length", "room", "overlap"), [(0, 4, None), (4, 4, None), (5, 4, None), (40, 7, 3), (9, 1, 0)]
)
def test_windows_give_every_token_its_best_context(length: int, room: int, overlap: int | None) -> None:
    found = list(windows(length, room, overlap))
    assert [window.first for window in found] == [0, *(window.last for window in found[:-1])]
    assert found[-1].last == length and all(window.end - window.start <= room for window in found)
    for before, after in itertools.pairwise(found):
        assert before.end - after.start >= (room // 2 if overlap is None else overlap) and after.start > before.start

    def context(window, place: int) -> float:
        left = math.inf if window.start == 0 else place - window.start
        right = math.inf if window.end == length else window.end - 1 - place
        return min(left, right)

    for window in found:
        for place in range(window.first, window.last):
            best = max(context(other, place) for other in found if other.start <= place < other.end)
            assert context(window, place) == best


def test_order_and_batches_do_not_change_scores(pair) -> None:
    texts = [*TEXTS, LONG, *reversed(TEXTS)]
    singly = [score_texts(*pair, [text])[0] for text in texts]
    for options in ({"batch_tokens": 1}, {"batch_tokens": 20}, {}):
        for one, together in zip(singly, score_texts(*pair, texts, **options), strict=True):
            assert together.log_probs == pytest.approx(one.log_probs, abs=1e-5)
            assert (together.text, together.windows) == (one.text, one.windows)


def test_a_stream_is_read_ahead_by_a_bounded_number_of_texts(tta) -> None:
    read = []

    def texts():
        for number in itertools.count():
            read.append(number)
            yield TEXTS[number % len(TEXTS)]

    stream = score_stream(*tta, texts(), texts_at_once=5)
    first = [next(stream).text for _ in range(7)]
    assert first == TEXTS and len(read) == 10


def test_the_first_chunks_are_small() -> None:
    """A continued stream has the chunks of an uninterrupted one."""
    sizes = [len(chunk) for chunk in chunks(["a"] * 700, 200, 1000)]
    assert sizes == [16, 16, 32, 64, 128, 200, 200, 44]
    assert [len(chunk) for chunk in chunks(["a"] * 572, 200, 1000, done=128)] == sizes[4:]
    assert [len(chunk) for chunk in chunks(["a"] * 20, 5, 1000)] == [5, 5, 5, 5]


def test_chunks_are_bounded_by_characters_too() -> None:
    assert list(chunks(iter(["a" * 9, "b", "", "c", "d"]), 3, 5)) == [["a" * 9], ["b", "", "c"], ["d"]]
    assert list(chunks([], 3, 5)) == []


@pytest.mark.parametrize("kind", ["Roberta", "XLMRoberta", "MPNet", "Esm", "Longformer"])
@pytest.mark.parametrize("ending", ["Model", "ForMaskedLM"])
def test_offset_positions_are_counted(kind: str, ending: str) -> None:
    class Unbounded:
        model_max_length = int(1e30)

    sizes = {**SIZES, "max_position_embeddings": 18, "pad_token_id": 1}
    sizes |= {"attention_window": 4} if kind == "Longformer" else {}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    longest = default_max_length(getattr(transformers, f"{kind}{ending}")(config), Unbounded())
    assert longest == 16


def test_the_default_length() -> None:
    assert default_max_length(object(), type("Unbounded", (), {"model_max_length": int(1e30)})) == 512


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["今天", None], {}, "text 1 must be a string, got NoneType"),
        (["\ud800"], {}, "contains an unpaired surrogate"),
        (["今"], {"max_length": 99}, "max_length must be from 3 to 16"),
        (["今"], {"max_length": 2}, "max_length must be from 3 to 16"),
        (["今"], {"overlap": 14}, "overlap must be from 0 to 13 for windows of 14 tokens, got 14"),
        (["今"], {"batch_tokens": 0}, "batch_tokens must be at least 1"),
        (["今"], {"method": "no"}, "method must be one of"),
    ],
    ids=["none", "surrogate", "too_long", "too_short", "overlap", "batch", "method"],
)
def test_invalid_arguments_are_refused(tta, texts, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_texts(*tta, texts, **options)
