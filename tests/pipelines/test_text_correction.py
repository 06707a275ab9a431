"""Corrections have the model's figures, change nothing else, and are defined for unusual input."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizer, BertTokenizerLegacy

from kexue_hf import Confusion, Corrector, TtaForMaskedLM
from kexue_hf.pipelines.confusion import COSTS, candidate_source, is_han
from kexue_hf.pipelines.text_correction import Candidate, Proposal, replaced
from tests.pipelines.correction_models import KINDS, LONG, TEXTS, TOKENS, Neighbours, make

ALL = -math.inf
RIGHT = ["遇到逆境时，我们必须勇于面对。", "今天天气不错", "上课的时候", "课了"]


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return make(request.param, tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def tta(tmp_path_factory: pytest.TempPathFactory):
    return make("tta", tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def known(tta):
    """A model that knows RIGHT, and its tokenizer."""
    tokenizer = tta[1]
    return Neighbours(tokenizer, RIGHT * 20).eval(), tokenizer


@torch.no_grad()
def by_masking(model: Any, tokenizer: Any, text: str) -> dict[tuple[int, int], torch.Tensor]:
    """Return {(start, end): log-probabilities} of each token of a text that fits, one row at a time."""
    encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True)
    ids, found = encoded["input_ids"], {}
    for column, (start, end) in enumerate(encoded["offset_mapping"][0].tolist()):
        masked = ids.clone()
        masked[0, column] = tokenizer.mask_token_id
        if end > start:
            found[start, end] = model(input_ids=masked).logits[0, column].log_softmax(-1)
    return found


@pytest.mark.parametrize("candidates", ["confusion", "top_k", "sound+shape"])
def test_every_figure_is_the_models(candidates: str, pair) -> None:
    model, tokenizer = pair
    source = candidate_source(candidates)
    ids = tokenizer.get_vocab()
    corrector = Corrector(model, tokenizer, candidates=candidates, known_words=False)
    for text, proposals in zip(TEXTS, corrector.propose(TEXTS), strict=True):
        expected = by_masking(model, tokenizer, text)
        by_place = {(one.start, one.end): one for one in proposals}
        for (start, end), log_probs in expected.items():
            own = text[start:end]
            costs = dict.fromkeys(TOKENS, 0.0) if source is None else source(own)
            others = [t for t in costs if t in ids and is_han(t) and len(t) == len(own) and t != own]
            others = others if own in ids and is_han(own) else []
            allowed = {t: float(log_probs[ids[t]]) for t in others}
            best = sorted(allowed, key=lambda token: allowed[token] - costs[token], reverse=True)[:5]
            assert ((start, end) in by_place) == bool(best), (text, own)
            if best:
                found = by_place[start, end]
                assert found.original == own
                assert found.log_prob == pytest.approx(float(log_probs[ids[own]]), abs=1e-5)
                assert [one.text for one in found.candidates] == best
                for one in found.candidates:
                    assert one.log_prob == pytest.approx(allowed[one.text], abs=1e-5)
                    assert one.cost == costs[one.text]
                assert found.gain == pytest.approx(
                    allowed[best[0]] - costs[best[0]] - float(log_probs[ids[own]]), abs=1e-4
                )


def test_an_error_is_found_and_reported_with_its_place(known) -> None:
    text = "ab  遇到逆竟时，我们必须勇于面对。"
    found = Corrector(*known).correct([text])[0]
    assert found.corrected == "ab  遇到逆境时，我们必须勇于面对。"
    (correction,) = found.to_dict()["corrections"]
    assert (correction["start"], correction["end"]) == (7, 8)
    assert text[7] == correction["original"] == "竟"
    assert correction["replacement"] == correction["candidates"][0]["text"] == "境"
    assert correction["gain"] > 5
    gain = correction["log_prob_replacement"] - correction["log_prob_original"] - correction["cost"]
    assert correction["gain"] == pytest.approx(gain)
    assert correction["cost"] == correction["candidates"][0]["cost"] == COSTS["shape too"]
    assert correction["candidates"][0]["probability"] == pytest.approx(math.exp(correction["log_prob_replacement"]))
    assert 0 < sum(candidate["probability"] for candidate in correction["candidates"]) <= 1


def test_correct_texts_stay(known) -> None:
    for text, found in zip(RIGHT, Corrector(*known).correct(RIGHT), strict=True):
        assert (found.text, found.corrected, found.corrections) == (text, text, [])


@pytest.mark.parametrize("offset", [-1e-4, 1e-4])
def test_the_threshold_is_the_minimum_gain(offset: float, known) -> None:
    text = "遇到逆竟时"
    (gain,) = (one.gain for one in Corrector(*known).propose([text])[0] if one.original == "竟")
    found = Corrector(*known, threshold=gain + offset).correct([text])[0]
    assert (found.corrected == "遇到逆境时") == (offset < 0)


ODD = {
    "empty": "",
    "white space": " \t\r\n ",
    "English, capitals": "Hello WORLD Ab",
    "numbers": "2026年 １２３ 3.14",
    "punctuation": "，。！?…——《》",
    "unknown": "龘靐",
    "an accent of its own": "e\u0301 café",
    "emoji": "👨‍👩‍👧 ok",
    "special tokens": "[MASK][CLS][SEP][PAD][UNK][SOS]",
    "invisible": "a\u200b\u0000\ufeffb",
    "compatibility character": "\uf900",
}


@pytest.mark.parametrize("name", ODD)
def test_only_chinese_characters_change(name: str, pair) -> None:
    """With every replaceable character replaced, all other code points stay."""
    text = ODD[name]
    corrector = Corrector(*pair, candidates="top_k", threshold=ALL)
    alone, within = corrector.correct([text, f"{text}面对{text}竟{text}"])
    assert alone.corrected == text and alone.corrections == []
    assert within.corrected.startswith(text) and within.corrected.endswith(text)
    assert within.corrected[len(text) + 2 : -len(text) - 1] == text
    assert len(within.corrections) == 3
    assert len(within.corrected) == len(within.text)


def test_the_length_never_changes_and_words_are_replaced_by_words(tmp_path: Path) -> None:
    model, tokenizer = make("wobert", tmp_path)
    text = "今天天汽不错，上课时候"
    assert tokenizer.tokenize("时候") == ["时候"]
    for candidates in ("top_k", "confusion"):
        found = Corrector(model, tokenizer, candidates=candidates, threshold=ALL).correct([text])[0]
        assert len(found.corrected) == len(text)
        assert all(len(one.original) == len(one.replacement) for one in found.corrections)
        assert {len(one.original) for one in found.corrections} == {1, 2}
    (word,) = (one for one in found.corrections if one.original == "时候")
    assert word.replacement == "侍候"  # one character with the same sound


def test_a_single_token_has_its_own_candidates(tta) -> None:
    (found,) = Corrector(*tta, threshold=ALL).correct(["竟"])
    assert found.corrections[0].original == "竟"
    assert len(found.corrected) == 1


def test_long_texts_are_read_in_windows(pair) -> None:
    model, tokenizer = pair
    whole = Corrector(model, tokenizer, max_length=None).propose([LONG])[0]
    offsets = tokenizer(LONG, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    assert len(offsets) > 2 * model.config.max_position_embeddings
    starts = [one.start for one in whole]
    assert starts == sorted(set(starts))
    replaceable = Confusion.of_kinds("sound", "near_sound", "shape")
    expected = [
        start
        for start, end in offsets
        if LONG[start:end] in TOKENS and any(other in TOKENS for other in replaceable(LONG[start:end]))
    ]
    assert starts == expected
    # Up to its middle, the first window has the scores of its text alone.
    first = tokenizer.decode(tokenizer(LONG, add_special_tokens=False, verbose=False)["input_ids"][:22])
    first = first.replace(" ", "")
    alone = Corrector(model, tokenizer).propose([first])[0]
    assert alone[0].log_prob == pytest.approx(whole[0].log_prob, abs=1e-5)


def test_batch_and_order_do_not_change_results(pair) -> None:
    corrector = Corrector(*pair, threshold=0.5)
    texts = [*TEXTS, LONG, *RIGHT]
    together = corrector.correct(texts)
    assert [one.text for one in together] == texts
    for text, one in zip(texts, together, strict=True):
        small = Corrector(*pair, threshold=0.5, batch_tokens=1).correct([text])[0]
        assert small.corrected == one.corrected
        for other, same in zip(small.corrections, one.corrections, strict=True):
            assert other.log_prob == pytest.approx(same.log_prob, abs=1e-5)


def test_a_stream_is_read_as_far_as_needed(known) -> None:
    taken = []

    def texts():
        for number in range(100):
            taken.append(number)
            yield "遇到逆竟时" if number % 2 else ""

    found = Corrector(*known).stream(texts(), texts_at_once=4)
    assert [one.corrected for one in itertools.islice(found, 3)] == ["", "遇到逆境时", ""]
    assert len(taken) == 4


def test_a_second_round_sees_the_first_ones_corrections(known) -> None:
    text = "今天天是汽错"  # 是 and 汽 are both wrong, and each hides the other error
    mine = Confusion({"是": ["气"], "汽": ["不"]})
    gains = [one.gain for one in Corrector(*known, candidates=mine).propose([text])[0]]
    options = {"candidates": mine, "threshold": sum(gains) / 2}
    once, twice = (Corrector(*known, rounds=rounds, **options).correct([text])[0] for rounds in (1, 2))
    assert len(once.corrections) == 1
    assert twice.corrected == "今天天气不错"
    assert [one.original for one in twice.corrections] == ["是", "汽"]


def test_corrected_places_do_not_change_again(known) -> None:
    to_and_fro = Confusion({"境": ["竟"], "竟": ["境"]})
    for rounds in (1, 2, 5):
        found = Corrector(*known, candidates=to_and_fro, threshold=ALL, rounds=rounds).correct(["遇到逆竟时"])[0]
        assert found.corrected == "遇到逆境时"
        assert len(found.corrections) == 1


def test_a_custom_confusion_set_is_the_only_source(known, tmp_path: Path) -> None:
    (tmp_path / "mine.tsv").write_text("竟\t静\n", encoding="utf-8")
    found = Corrector(*known, candidates=str(tmp_path / "mine.tsv"), threshold=ALL).correct(["遇到逆竟时"])[0]
    assert [one.replacement for one in found.corrections] == ["静"]


def test_replacements_are_inserted_into_the_string() -> None:
    made = [Proposal(3, 4, "d", 0.0, (Candidate("D", 0.0),)), Proposal(0, 2, "ab", 0.0, (Candidate("AB", 0.0),))]
    assert replaced("abcdef", made) == "ABcDef"
    assert replaced("abc", []) == "abc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "colour"}, "candidates must be confusion, top_k, some of sound"),
        ({"candidates": "sound+colour"}, "candidates must be confusion"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"shown": 0}, "shown must be at least 1"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1"),
        ({"threshold": math.nan}, "threshold must be a number"),
        ({"max_length": 2}, "max_length must be from 3 to 24"),
        ({"max_length": 25}, "max_length must be from 3 to 24"),
        ({"method": "guess"}, "method must be one of"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str, tta) -> None:
    with pytest.raises(ValueError, match=message):
        Corrector(*tta, **options)


def test_one_pass_needs_a_model_that_does_not_see_the_token(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one_pass needs a model"):
        Corrector(*make("bert", tmp_path), method="one_pass")


ENGLISH = ["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "the", "##s", "1", "龘a", "。"]


@pytest.mark.parametrize("candidates", ["confusion", "top_k"])
def test_a_vocabulary_without_chinese_characters_is_refused(candidates: str, tta, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in ENGLISH), encoding="utf-8")
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    with pytest.raises(ValueError, match=r"correction needs a vocabulary of Chinese characters or words"):
        Corrector(tta[0], tokenizer, candidates=candidates)


def test_candidates_that_the_vocabulary_lacks_are_refused(tta) -> None:
    with pytest.raises(ValueError, match="expected candidates that are tokens of"):
        Corrector(*tta, candidates=Confusion({"龘": ["龖"], "竟": ["龖"], "龖": ["竟"]}))


@pytest.mark.parametrize("number", [499, 500])
def test_a_vocabulary_with_few_chinese_characters_gives_a_warning(
    number: int, tta, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vocabulary = [*ENGLISH, *(chr(0x4E00 + index) for index in range(number))]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    Corrector(Neighbours(tokenizer, []), tokenizer, threshold=1.0)
    assert [record.getMessage().partition(" has ")[2] for record in caplog.records] == (
        ["only 499 tokens of Chinese characters: others are never corrected"] if number == 499 else []
    )


def test_a_tokenizer_without_offsets_is_refused(tmp_path: Path) -> None:
    model, _ = make("bert", tmp_path)
    slow = BertTokenizerLegacy(str(tmp_path / "vocab.txt"))
    with pytest.raises(ValueError, match="use a fast tokenizer"):
        Corrector(model, slow).correct(["遇到"])


def test_a_tta_works_with_a_bert_tokenizer(tmp_path: Path) -> None:
    model, _ = make("tta", tmp_path)
    found = Corrector(model, BertTokenizer(str(tmp_path / "vocab.txt")), threshold=ALL).correct(["遇到逆竟时"])[0]
    assert isinstance(model, TtaForMaskedLM)
    assert len(found.corrections) >= 3
