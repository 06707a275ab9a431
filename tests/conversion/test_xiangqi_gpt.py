"""Conversion of Chinese-chess models, whose tokens are known, and of a whole BERT to start one from."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from kexue_hf import ConversionError, XiangqiTokenizer, convert, export, verify
from kexue_hf.conversion.formats.keras import KerasWeights
from kexue_hf.models.xiangqi_gpt.vocabulary_xiangqi_gpt import VOCABULARIES
from tests.conversion.checkpoints import GOLDEN, golden_copy
from tests.models.tiny_models import trained_model

CASE = GOLDEN / "cchess_lm_keras_h5"
# The BERT that the model was made from, without training.
BERT = GOLDEN / "cchess_from_bert"
KEPT = json.loads((CASE / "case.json").read_text("utf-8"))["keep_tokens"]


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values.tobytes() == second[name].tobytes(), name


def test_the_tokens_are_known(tmp_path: Path) -> None:
    report = convert(CASE, tmp_path / "out")
    assert (report.family, report.architecture) == ("xiangqi_gpt", "XiangqiGptForCausalLM")
    assert report.dropped == [] and any("use --family wobert" in note for note in report.notes)
    assert verify(tmp_path / "out", CASE).differences == []
    assert (tmp_path / "out" / "vocab.txt").read_text("utf-8").split() == list(VOCABULARIES["characters"])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert [config[f"{role}_token_id"] for role in ("bos", "eos", "pad")] == [0, 0, 0]
    assert config["vocab_size"] == 20 and config["is_decoder"] is True
    assert config["vocab_fingerprint"] == XiangqiTokenizer().vocab_fingerprint
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "pipeline_tag: text-generation" in card and "LegalMoves(tokenizer)" in card


@pytest.mark.parametrize("source", ["model", "bert"])
def test_keep_tokens_may_be_given_but_not_others(source: str, tmp_path: Path) -> None:
    given = CASE if source == "model" else BERT
    ids = tmp_path / "ids.json"
    options: dict[str, Any] = {"family": "xiangqi_gpt", "keep_tokens": ids}
    ids.write_text(json.dumps(KEPT))
    convert(given, tmp_path / "out", **options)
    convert(given, tmp_path / "known", family="xiangqi_gpt")
    assert_same_weights(tmp_path / "out", tmp_path / "known")
    for wrong in ([*KEPT[:2], KEPT[3], KEPT[2], *KEPT[4:]], [*KEPT[:-1], 54], KEPT[1:]):
        ids.write_text(json.dumps(wrong))
        with pytest.raises(ConversionError, match=r"token \d+ is '.+', expected '.+': a xiangqi_gpt has the tokens"):
            convert(given, tmp_path / "other", **options)
        assert not (tmp_path / "other").exists()


def test_a_model_starts_from_a_bert(tmp_path: Path) -> None:
    source = golden_copy("cchess_from_bert", tmp_path / "bert")
    report = convert(source, tmp_path / "started", family="xiangqi_gpt")
    assert sorted(name for name, _ in report.dropped) == [
        "bert/pooler/dense/bias",
        "bert/pooler/dense/kernel",
        "cls/seq_relationship/output_bias",
        "cls/seq_relationship/output_weights",
    ]
    convert(CASE, tmp_path / "golden")
    assert_same_weights(tmp_path / "started", tmp_path / "golden")
    assert verify(tmp_path / "started", source).differences == []
    # The word embeddings of other tokens would be noticed.
    lines = (source / "vocab.txt").read_text("utf-8").splitlines()
    lines[KEPT[3]], lines[KEPT[4]] = lines[KEPT[4]], lines[KEPT[3]]
    (source / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    assert verify(tmp_path / "started", source).differences
    (source / "vocab.txt").write_text("".join(f"{line}\n" for line in lines if line != "7") + "x\n", "utf-8")
    with pytest.raises(ConversionError, match="lacks 7; a xiangqi_gpt starts from a BERT"):
        convert(source, tmp_path / "other", family="xiangqi_gpt")


def test_a_bert_is_no_chess_model_by_itself(tmp_path: Path) -> None:
    assert convert(BERT, tmp_path / "out").family == "wobert"


def test_a_vocabulary_of_that_size_must_be_the_known_one(tmp_path: Path) -> None:
    convert(CASE, tmp_path / "out")
    export(tmp_path / "out", tmp_path / "tf")
    lines = (tmp_path / "tf" / "vocab.txt").read_text("utf-8").splitlines()
    lines[1], lines[2] = lines[2], lines[1]
    (tmp_path / "tf" / "vocab.txt").write_text("\n".join(lines), "utf-8")
    with pytest.raises(ConversionError, match="token 1 is '1', expected '0'"):
        convert(tmp_path / "tf", tmp_path / "again")


@pytest.mark.parametrize("to", ["tf", "keras"])
def test_exported_and_converted_back(to: str, tmp_path: Path) -> None:
    convert(CASE, tmp_path / "out")
    report = export(tmp_path / "out", tmp_path / "original", to=to)
    assert 'application="lm", with_mlm=True' in report.usage
    if to == "keras":
        # Keras reads layers by place.
        with KerasWeights(CASE / "best_model.weights") as first, KerasWeights(report.checkpoint) as again:
            assert [name for name, _ in again.layers] == [name for name, weights in first.layers if weights]
    convert(tmp_path / "original", tmp_path / "again")
    assert_same_weights(tmp_path / "out", tmp_path / "again")
    assert (tmp_path / "out" / "config.json").read_bytes() == (tmp_path / "again" / "config.json").read_bytes()


def test_a_model_with_squares_and_a_classifier_are_exported_too(tmp_path: Path) -> None:
    tokenizer = XiangqiTokenizer(vocab="squares")
    model = trained_model("XiangqiGptForCausalLM", vocab_size=len(tokenizer))
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    export(tmp_path / "saved", tmp_path / "keras", to="keras")
    convert(tmp_path / "keras", tmp_path / "again")
    batch = tokenizer("h2e2 h9g7", return_tensors="pt")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again("h2e2 h9g7")["input_ids"] == batch["input_ids"][0].tolist()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "again")(**batch).logits
    assert (found - model(**batch).logits).abs().max() < 1e-6

    model = trained_model("XiangqiGptForSequenceClassification", vocab_size=20)
    model.save_pretrained(tmp_path / "classifier")
    XiangqiTokenizer().save_pretrained(tmp_path / "classifier")
    with pytest.raises(ConversionError, match="no layer for the head classifier"):
        export(tmp_path / "classifier", tmp_path / "none", to="keras")
    export(tmp_path / "classifier", tmp_path / "tf")
    report = convert(tmp_path / "tf", tmp_path / "classifier again")
    assert report.architecture == "XiangqiGptForSequenceClassification"
    assert_same_weights(tmp_path / "classifier", tmp_path / "classifier again")
    config = json.loads((tmp_path / "classifier again" / "config.json").read_text())
    assert list(config["id2label"].values()) == ["1-0", "1/2-1/2", "0-1"]


def test_a_folder_that_was_converted_before_is_refused(tmp_path: Path) -> None:
    source = golden_copy("cchess_lm_keras_h5", tmp_path / "in")
    convert(source, tmp_path / "out")
    with pytest.raises(ValueError, match="already converted"):
        convert(tmp_path / "out", tmp_path / "again")
