"""Saved players: with and without a value head, and what cannot be loaded."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import kexue_hf
from kexue_hf import InputError, XiangqiPlayer
from kexue_hf.play import model_place
from tests.play.tiny_players import SOME_GAME, tiny_folder, tiny_parts
from tests.xiangqi.positions import played


@pytest.mark.parametrize("vocab", ["characters", "squares"])
def test_the_value_head_is_that_of_the_classifier(vocab: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, vocab)
    player = XiangqiPlayer.from_pretrained(folder, nodes=7, seed=1)
    assert player.has_value_head and player.nodes == 7
    classifier = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = kexue_hf.XiangqiTokenizer(vocab=vocab)
    with torch.no_grad():
        for length in (0, 5, 10):
            logits = classifier(**tokenizer("".join(SOME_GAME[:length]), return_tensors="pt")).logits
            found = player.evaluate(played(SOME_GAME[:length]))
            torch.testing.assert_close(torch.tensor(found), logits.softmax(-1)[0], atol=1e-5, rtol=0)


def test_without_a_classifier_there_is_no_value_head(tmp_path: Path) -> None:
    player = XiangqiPlayer.from_pretrained(tiny_folder(tmp_path, value=False))
    assert not player.has_value_head
    assert player.choose(played(SOME_GAME), nodes=200).move


def test_weights_in_half_precision_compute_in_float32(tmp_path: Path) -> None:
    """A file in float16, with the value head in the model itself."""
    model, tokenizer, _ = tiny_parts(value_head=True)
    model.half().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    player = XiangqiPlayer.from_pretrained(tmp_path)
    assert player.has_value_head
    board = played(SOME_GAME)
    expected = XiangqiPlayer(model.float(), tokenizer, value_head=model.classifier)
    assert player.move_probabilities(board) == pytest.approx(expected.move_probabilities(board), abs=1e-6)
    assert player.evaluate(board) == pytest.approx(expected.evaluate(board), abs=1e-6)


def test_the_packaged_weights_are_those_of_the_code() -> None:
    model, report = AutoModelForCausalLM.from_pretrained(model_place.PACKAGED, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]
    assert model.config.board_input and model.config.value_head


def test_no_packaged_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model_place, "PACKAGED", tmp_path)
    with pytest.raises(InputError, match="no packaged model of xiangqi; name the folder of one"):
        XiangqiPlayer.from_pretrained()
    monkeypatch.setattr(model_place, "PACKAGED", tiny_folder(tmp_path / "model"))
    assert XiangqiPlayer.from_pretrained().has_value_head


def other_type(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}), "utf-8")
    return folder


def without_vocabulary(folder: Path) -> Path:
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n", "utf-8")
    return folder


def encoder_only(folder: Path) -> Path:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({name: w for name, w in weights.items() if "transform" not in name}, folder / "model.safetensors",
              {"format": "pt"})  # fmt: skip
    return folder


BROKEN = {
    "missing": (lambda folder: folder / "no", "not a folder"),
    "a file": (lambda folder: folder / "config.json", "is a file; expected the folder of a transformers model"),
    "empty folder": (lambda folder: folder.parent, "no config.json here"),
    "other type": (other_type, "expected a model of type xiangqi_gpt, got bert"),
    "no language model": (encoder_only, "lacks weights of a causal language model (cls.predictions.transform"),
    "vocabulary": (without_vocabulary, "its tokenizer cannot be loaded"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_loaded_is_one_line(case: str, tmp_path: Path) -> None:
    make, message = BROKEN[case]
    folder = make(tiny_folder(tmp_path / "model"))
    with pytest.raises(InputError) as caught:
        XiangqiPlayer.from_pretrained(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_no_such_device(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no device 'abacus'"):
        XiangqiPlayer.from_pretrained(tiny_folder(tmp_path), device="abacus")
