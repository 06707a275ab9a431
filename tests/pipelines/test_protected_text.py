"""What correction leaves alone, what costs more, and the threshold that calibration finds."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kexue_hf import Corrector, WoBertTokenizer, calibrate_correction
from kexue_hf.pipelines.protected_text import WORD_COSTS, Protection
from tests.pipelines.correction_models import Neighbours, make

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ALL = -1e9
RIGHT = ["遇到逆境时，我们必须勇于面对。", "今天天气不错", "上课的时候", "课了"]


@pytest.fixture
def known(tmp_path: Path) -> tuple[Any, Any]:
    _, tokenizer = make("tta", tmp_path)
    return Neighbours(tokenizer, RIGHT * 20).eval(), tokenizer


def places(corrector: Corrector, text: str) -> set[int]:
    return {place for one in corrector.propose([text])[0] for place in range(one.start, one.end)}


def test_protected_words_and_numbers_stay(known) -> None:
    text = "遇到逆竟时"
    assert 3 in places(Corrector(*known, threshold=ALL), text)
    protected = Corrector(*known, threshold=ALL, protect=["逆竟"])
    assert places(protected, text).isdisjoint({2, 3}) and places(protected, text)
    assert protected.correct([text])[0].corrected[2:4] == "逆竟"


@pytest.mark.parametrize(
    ("text", "words", "kept"),
    [
        ("我用支付宝付钱", ["支付宝"], {2, 3, 4}),
        ("宝宝宝", ["宝宝"], {0, 1, 2}),
        ("二〇二六年三月", [], {0, 1, 2, 3}),
        ("三十五个", [], {0, 1, 2}),
        ("一个人", [], set()),
        ("", ["天"], set()),
    ],
)
def test_what_is_never_changed(text: str, words: list[str], kept: set[int]) -> None:
    assert Protection(words).never_changed(text) == kept


def test_the_tokenizers_user_words_are_protected() -> None:
    from kexue_hf import WoBertConfig, WoBertForMaskedLM

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "小", "米", "晓", "手", "机", "首"]
    config = WoBertConfig(
        vocab_size=len(tokens), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = WoBertForMaskedLM(config).eval()
    found = [
        places(Corrector(model, WoBertTokenizer(vocab=tokens, user_words=words), threshold=ALL), "小米手机")
        for words in ([], ["小米"])
    ]
    assert 0 in found[0] and found[1] and found[1].isdisjoint({0, 1})


def test_changes_within_words_cost_more(known) -> None:
    assert Protection().costs("我用支付宝") == [0.0, 0.0, 2.9, 2.9, 2.9]
    assert Protection().costs("天气很好") == [1.9, 1.9, 0.0, 0.0]
    assert Protection(known_words=False).costs("天气") == [0.0, 0.0]
    text = "勇于面对"
    plain, careful = (Corrector(*known, threshold=ALL, known_words=one).propose([text])[0] for one in (False, True))
    costs = Protection().costs(text)
    by_place = {one.start: one for one in plain}
    for one in careful:
        assert one.gain == pytest.approx(by_place[one.start].gain - costs[one.start])


def test_the_costs_are_those_that_were_counted() -> None:
    found = json.loads((RESULTS / "correction_words.json").read_text("utf-8"))["costs"]
    assert {int(length): cost for length, cost in found.items()} == WORD_COSTS


@pytest.mark.parametrize(("words", "message"), [("逆竟", "single string"), ([""], "not empty"), ([3], "not empty")])
def test_bad_words_are_named(known, words: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Corrector(*known, protect=words)


class TestCalibration:
    TEXTS = RIGHT * 40

    def test_a_model_that_knows_the_texts_gets_a_threshold(self, known) -> None:
        found = calibrate_correction(Corrector(*known, threshold=0.0), self.TEXTS, precision=0.6)
        assert found.threshold is not None and found.precision >= 0.6 and found.recall > 0
        # At the threshold, the right texts are hardly changed.
        changed = [
            one.corrected != one.text for one in Corrector(*known, threshold=found.threshold).correct(self.TEXTS)
        ]
        assert sum(changed) / len(changed) == pytest.approx(found.changed)

    def test_a_model_that_knows_nothing_gets_none_and_is_refused(self, tmp_path: Path) -> None:
        model, tokenizer = make("tta", tmp_path)
        ignorant = Neighbours(tokenizer, []).eval()
        ignorant.after.data += torch.linspace(0, 1e-6, ignorant.after.numel()).view_as(ignorant.after)
        found = calibrate_correction(Corrector(ignorant, tokenizer, threshold=0.0), self.TEXTS)
        assert found.threshold is None and found.precision < 0.7
        model.config.correction = found.to_dict()
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        with pytest.raises(ValueError, match="too weak for correction"):
            Corrector(again, tokenizer)
        assert Corrector(again, tokenizer, threshold=3.0).threshold == 3.0

    def test_the_threshold_travels_with_the_model(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        model, tokenizer = make("bert", tmp_path)
        Corrector(model, tokenizer)
        assert "was never calibrated for correction" in caplog.text
        caplog.clear()
        model.config.correction = {"threshold": 4.5}
        model.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()
        assert Corrector(again, tokenizer).threshold == 4.5
        assert "calibrated" not in caplog.text

    @pytest.mark.parametrize(
        ("texts", "options", "message"),
        [
            (RIGHT * 6, {"precision": 1.5}, "precision must be above 0 and below 1"),
            (RIGHT * 6, {"error_rate": 0.0}, "error_rate must be above 0"),
            (["hello"] * 50, {}, "at least 10 texts with Chinese characters"),
        ],
    )
    def test_what_cannot_be_calibrated(self, known, texts: list[str], options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            calibrate_correction(Corrector(*known, threshold=0.0), texts, **options)
