"""Protected text, costs of changes within words, and the calibrated threshold."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kexue_hf import Corrector, WoBertTokenizer, calibrate_correction
from kexue_hf.pipelines.protected_text import WORD_COSTS, Protection
from kexue_hf.pipelines.text_correction import DEFAULT_THRESHOLD, Candidate, Proposal
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
def test_protected_places(text: str, words: list[str], kept: set[int]) -> None:
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


def test_the_costs_match_the_benchmark() -> None:
    found = json.loads((RESULTS / "correction_words.json").read_text("utf-8"))["costs"]
    assert {int(length): cost for length, cost in found.items()} == WORD_COSTS


@pytest.mark.parametrize(
    ("words", "message"),
    [("逆竟", "single string"), ([""], "1 to 100 characters"), ([3], "1 to 100"), (["长" * 101], "1 to 100")],
)
def test_invalid_words_are_refused(known, words: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Corrector(*known, protect=words)


class TestCalibration:
    TEXTS = RIGHT * 40

    def test_a_model_that_knows_the_texts_gets_a_threshold(self, known) -> None:
        found = calibrate_correction(Corrector(*known, threshold=0.0), self.TEXTS, precision=0.6)
        assert found.threshold is not None and found.precision >= 0.6 and found.recall > 0
        # At the threshold, correct texts hardly change.
        changed = [
            one.corrected != one.text for one in Corrector(*known, threshold=found.threshold).correct(self.TEXTS)
        ]
        assert sum(changed) / len(changed) == pytest.approx(found.changed)

    def test_a_model_that_knows_nothing_is_refused(self, tmp_path: Path) -> None:
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

    def test_wrong_changes_at_and_next_to_the_error_count(self, known) -> None:
        class Careless(Corrector):
            """Keeps correct texts, corrects every tenth error, and changes the others to another error."""

            calls = 0

            def propose(self, texts: Any, above: float = -1e9) -> list[list[Proposal]]:
                found = []
                for text in texts:
                    (right,) = [one for one in RIGHT if len(one) == len(text)]
                    wrong = [place for place in range(len(text)) if text[place] != right[place]]
                    self.calls += bool(wrong)
                    found.append(
                        [
                            Proposal(
                                place,
                                place + 1,
                                text[place],
                                -9.0,
                                (Candidate(right[place] if self.calls % 10 == 0 else "龘", -1.0),),
                            )
                            for place in wrong
                        ]
                    )
                return found

        found = calibrate_correction(Careless(*known, threshold=0.0), RIGHT * 250)
        assert found.threshold is None and found.precision == pytest.approx(0.1, abs=0.02)

    def test_too_few_texts_are_refused(self, known) -> None:
        with pytest.raises(ValueError, match=r"texts are too few to tell: none of them would be changed.*give"):
            calibrate_correction(Corrector(*known, threshold=0.0), RIGHT * 34, precision=0.95)

    @pytest.mark.parametrize(
        "found", [{"threshold": [5]}, {"threshold": "x"}, {"threshold": float("nan")}, {}, 7, "x"]
    )
    def test_an_invalid_threshold_is_refused(self, tmp_path: Path, found: Any) -> None:
        model, tokenizer = make("bert", tmp_path)
        model.config.correction = found
        with pytest.raises(ValueError, match="correction should hold a finite threshold or null"):
            Corrector(model, tokenizer)

    def test_a_threshold_applies_to_its_candidates(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        model, tokenizer = make("bert", tmp_path)
        model.config.correction = {"threshold": 4.5, "candidates": "confusion"}
        assert Corrector(model, tokenizer).threshold == 4.5 and "calibrated" not in caplog.text
        assert Corrector(model, tokenizer, candidates="top_k").threshold == DEFAULT_THRESHOLD
        assert "never calibrated for correction with candidates top_k" in caplog.text

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
            (RIGHT * 40, {"precision": 1.5}, "precision must be above 0 and below 1"),
            (RIGHT * 40, {"error_rate": 0.0}, "error_rate must be above 0"),
            (["hello"] * 50, {}, "at least 100 texts with Chinese characters"),
        ],
    )
    def test_invalid_calibrations_are_refused(self, known, texts: list[str], options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            calibrate_correction(Corrector(*known, threshold=0.0), texts, **options)
