"""XiangqiTokenizer: both vocabularies, every spelling of a game, and errors that name the half-move."""

import copy
import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from kexue_hf import XiangqiGptConfig, XiangqiTokenizer, check_pairing
from kexue_hf.models.xiangqi_gpt.vocabulary_xiangqi_gpt import VOCABULARIES
from kexue_hf.xiangqi.squares import SQUARE_NAMES
from tests.models.golden_cases import GOLDEN

BOTH = pytest.mark.parametrize("vocab", ["characters", "squares"])
CASE = GOLDEN / "cchess_lm_keras_h5"


def test_the_ids_are_the_originals() -> None:
    """But for an upper-case letter, which the original reads as padding."""
    case, inputs = json.loads((CASE / "case.json").read_text("utf-8")), np.load(CASE / "inputs.npz")
    assert list(VOCABULARIES["characters"]) == case["chars"]
    tokenizer = XiangqiTokenizer(padding_side="right")
    for batch, games in case["games"].items():
        found = tokenizer(games, padding=True, return_tensors="np")
        for row, game in enumerate(games):
            if game == game.lower():
                assert (found["input_ids"][row] == inputs[f"{batch}_token_ids"][row]).all()
                assert (found["attention_mask"][row] == inputs[f"{batch}_mask"][row]).all()
    for group, choice in case["move_choice"].items():
        games = [choice["history"] + move for move in choice["moves"]]
        assert (tokenizer(games, return_tensors="np")["input_ids"] == inputs[f"{group}_token_ids"]).all()


def test_a_square_has_the_id_after_its_number_on_the_board() -> None:
    tokenizer = XiangqiTokenizer(vocab="squares")
    assert len(tokenizer) == 91
    assert [tokenizer.convert_tokens_to_ids(name) for name in SQUARE_NAMES] == list(range(1, 91))
    assert tokenizer("h2e2h9g7")["input_ids"] == [0, 26, 23, 89, 70]


@BOTH
def test_every_spelling_gives_the_same_ids(vocab: str) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    expected = tokenizer("h2e2h9g7b0c2")
    assert len(expected["input_ids"]) == 1 + 3 * tokenizer.ids_per_move
    assert set(expected) == {"input_ids", "attention_mask"}
    for text in ("h2e2 h9g7 b0c2", "H2-E2 H9-G7 B0-C2", " h2-e2-h9-g7\nb0c2 ", "h2 e2 h9 g7 b0 c2"):
        assert tokenizer(text) == expected
    moves = [tokenizer.move_ids(move) for move in ("h2e2", "H9-G7", "b0c2")]
    assert [index for ids in moves for index in ids] == expected["input_ids"][1:]
    assert tokenizer("")["input_ids"] == tokenizer(" ")["input_ids"] == [0]
    assert tokenizer.decode(expected["input_ids"], skip_special_tokens=True) == "h2e2h9g7b0c2"
    assert tokenizer("[PAD]h2e2", add_special_tokens=False) == tokenizer("h2e2")


@BOTH
@pytest.mark.parametrize(
    ("game", "ply", "got"),
    [
        ("h2e2 h9g7 j0a1", 3, "j0a1"),
        ("h2e3x", 2, "x"),
        ("h2e2h9", 2, "h9"),
        ("22", 1, "22"),
        ("h2e2 炮二平五", 2, "炮二平五"),
        ("h２e2", 1, "h２e2"),
        ("h2e2, h9g7", 2, ","),
        ("h2e2 " * 1000 + "z" * 1000, 1001, "z" * 12 + "..."),
    ],
)
def test_a_wrong_move_is_named_by_its_half_move(vocab: str, game: str, ply: int, got: str) -> None:
    with pytest.raises(ValueError, match=rf"^ply {ply}: expected an ICCS move such as h2e2 .* got '{re.escape(got)}'"):
        XiangqiTokenizer(vocab=vocab)(game)


@pytest.mark.parametrize("move", ["", "h2", "h2e2h9g7", "x"])
def test_one_move(move: str) -> None:
    with pytest.raises(ValueError, match=r"expected (one|an) ICCS move"):
        XiangqiTokenizer().move_ids(move)


@BOTH
def test_padding_is_on_the_left(vocab: str) -> None:
    found = XiangqiTokenizer(vocab=vocab)(["h2e2h9g7", ""], padding=True)
    assert found["input_ids"][1] == [0] * len(found["input_ids"][0])
    assert found["attention_mask"][1] == [0] * (len(found["input_ids"][0]) - 1) + [1]


@BOTH
def test_it_is_saved_with_its_vocabulary(vocab: str, tmp_path: Path) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    expected = tokenizer("h2e2 h9g7")
    tokenizer.save_pretrained(tmp_path)
    XiangqiGptConfig(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for other in (again, copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))):
        assert type(other) is XiangqiTokenizer and other.vocab_name == vocab
        assert other("h2e2 h9g7") == expected and other.padding_side == "left"
    assert (tmp_path / "vocab.txt").read_text("utf-8").split() == list(VOCABULARIES[vocab])
    other = next(name for name in VOCABULARIES if name != vocab)
    with pytest.raises(ValueError, match=f"vocabulary {other}, got those of {vocab}"):
        XiangqiTokenizer(other, tmp_path / "vocab.txt")
    # Without the setting, as in a converted folder, the file decides.
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings.pop("vocab") == vocab
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).vocab_name == vocab


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab": "pieces"}, "vocab must be 'characters' or 'squares', got 'pieces'"),
        ({"vocab": "squares", "vocab_file": CASE / "vocab.txt"}, "vocabulary squares, got 103 others"),
        ({"vocab_file": CASE / "none.txt"}, "cannot read the vocabulary"),
    ],
)
def test_other_vocabularies_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        XiangqiTokenizer(**options)


def test_the_other_vocabulary_is_noticed_beside_a_model() -> None:
    characters, squares = XiangqiTokenizer(), XiangqiTokenizer(vocab="squares")
    config = XiangqiGptConfig(vocab_fingerprint=characters.vocab_fingerprint)
    assert check_pairing(config, characters) == []
    with pytest.warns(UserWarning, match="does not belong to this model"):
        assert check_pairing(config, squares)
