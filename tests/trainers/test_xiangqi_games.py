"""Rows of games, their symmetries, the winner's labels, and the curriculum."""

import pytest
import torch

from kexue_hf import XiangqiTokenizer
from kexue_hf.errors import InputError
from kexue_hf.trainers.length_curriculum import LengthCurriculum
from kexue_hf.trainers.xiangqi_games import GamesCollator, game_rows
from kexue_hf.xiangqi import START, Game
from kexue_hf.xiangqi.symmetry import flip_game, mirror_game

VOCABS = ("squares", "characters")
GAME = Game(("h2e2", "h9g7", "h0g2", "i9h9"), "1-0")
SHORT = Game(("b2e2",), "0-1")


@pytest.mark.parametrize("vocab", VOCABS)
def test_rows_begin_and_end_with_padding(vocab: str) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    other_start = Game(("e0e1",), fen="3k5/9/9/9/9/9/9/9/9/4K4 w - - 0 1")
    # The usual start, as other programs write it.
    start = START.replace(" w - - 0 1", " r")
    rows = list(game_rows([GAME, other_start, SHORT, Game((), fen=start), Game(("b2e2",), fen=start)], tokenizer, 100))
    assert [row["result"] for row in rows] == [0, 2, -100]
    assert rows[0]["input_ids"] == [0, *(index for move in GAME.moves for index in tokenizer.move_ids(move)), 0]
    assert [row["length"] for row in rows] == [len(row["input_ids"]) for row in rows]
    cut = next(game_rows([GAME], tokenizer, 6))
    assert cut["input_ids"] == rows[0]["input_ids"][:6] and cut["length"] == 6


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize(
    ("options", "image", "result"),
    [({"mirror": 1}, mirror_game, 0), ({"mirror": 0, "flip": 1}, flip_game, 2), ({"mirror": 0}, lambda game: game, 0)],
)
def test_symmetries_are_those_of_the_rules(vocab: str, options: dict[str, float], image, result: int) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    rows = list(game_rows([GAME, SHORT], tokenizer, 100))
    batch = GamesCollator(tokenizer, **options)(rows)
    # The image of a game from the start by `flip` is one that Black begins, so its moves are compared.
    expected = [tokenizer(" ".join(image(game).moves))["input_ids"] for game in (GAME, SHORT)]
    for row, ids in enumerate(expected):
        length = int(batch["attention_mask"][row].sum())
        assert batch["input_ids"][row, : length - 1].tolist() == ids
        assert batch["labels"][row].tolist() == [-100, *batch["input_ids"][row, 1:length].tolist()] + [-100] * (
            batch["labels"].shape[1] - length
        )
    assert batch["results"].tolist() == [result, 2 - result]


@pytest.mark.parametrize("vocab", VOCABS)
@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize(
    ("result", "plies"), [("1-0", {0, 2, 4}), ("0-1", {1, 3}), ("1/2-1/2", {0, 1, 2, 3, 4}), ("*", set())]
)
def test_the_winners_moves_are_labels(vocab: str, flip: int, result: str, plies: set[int]) -> None:
    """Ply 4 is the end of the game. A changed game has another winner, by the same moves."""
    tokenizer = XiangqiTokenizer(vocab=vocab)
    rows = list(game_rows([Game(GAME.moves, result)], tokenizer, 100))
    labels = GamesCollator(tokenizer, flip=flip, winner_only=True)(rows)["labels"][0, 1:]
    found = {place // tokenizer.ids_per_move for place in torch.nonzero(labels >= 0)[:, 0].tolist()}
    assert found == plies


def test_the_choice_belongs_to_the_row_and_the_epoch() -> None:
    tokenizer = XiangqiTokenizer(vocab="squares")
    row = next(game_rows([GAME], tokenizer, 100))
    collator = GamesCollator(tokenizer, mirror=0.5, seed=3)
    rows = [{**row, "row": number, "epoch": epoch} for epoch in range(4) for number in range(8)]
    together = collator(rows)["input_ids"]
    alone = torch.cat([collator([one])["input_ids"] for one in reversed(rows)]).flip(0)
    torch.testing.assert_close(together, alone)
    mirrored = together[:, 1] != tokenizer.move_ids("h2e2")[0]
    assert 8 <= mirrored.sum() <= 24
    assert (mirrored[:8] != mirrored[8:16]).any()


@pytest.mark.parametrize("options", [{"mirror": 1.5}, {"flip": -0.1}])
def test_a_wrong_fraction_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be from 0 to 1"):
        GamesCollator(XiangqiTokenizer(), **options)


def test_lengths_grow_in_stages() -> None:
    curriculum = LengthCurriculum([(0, 64), (0.1, 128), (0.5, 512)])
    assert [curriculum.length_at(step, 100) for step in (0, 9, 10, 49, 50, 99, 100)] == [
        64,
        64,
        128,
        128,
        512,
        512,
        512,
    ]


@pytest.mark.parametrize("stages", [[], [(0.1, 64)], [(0, 64), (0, 128)], [(0, 64), (1, 128)], [(0, 1)]])
def test_wrong_stages_are_refused(stages: list[tuple[float, int]]) -> None:
    with pytest.raises(InputError, match="expected stages"):
        LengthCurriculum(stages)
