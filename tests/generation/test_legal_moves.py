"""`generate` with `LegalMoves` writes legal moves only: any batch, beams and vocabulary."""

import random
from typing import Any

import pytest
import torch

from kexue_hf import InputError, LegalMoves, XiangqiTokenizer
from kexue_hf.xiangqi import Board
from tests.models.tiny_models import trained_model

BOTH = pytest.mark.parametrize("vocab", ["characters", "squares"])
GAMES = ["h2e2 h9g7 h0g2", "b0c2", ""]
# Red mates by b0b9, and by nothing else.
MATE_IN_ONE = "4k4/R8/9/9/9/9/9/9/9/1R1K5 w"


def legal_beginnings(tokenizer: XiangqiTokenizer, board: Board) -> list[list[int]]:
    return [tokenizer.move_ids(move) for move in board.legal_moves()]


def played(tokenizer: XiangqiTokenizer, ids: torch.Tensor, start: Board | None = None) -> Board:
    """The board after the whole moves of a row; each must be legal."""
    game = tokenizer.decode(ids, skip_special_tokens=True)
    board = Board() if start is None else start.copy()
    for place in range(0, len(game) - 3, 4):
        board.push(game[place : place + 4])
    return board


def allowed(processor: LegalMoves, ids: torch.Tensor, vocab_size: int) -> list[set[int]]:
    scores = processor(ids, torch.zeros(len(ids), vocab_size))
    return [set(row.isfinite().nonzero()[:, 0].tolist()) for row in scores]


@BOTH
def test_exactly_the_continuations_of_legal_moves_are_allowed(vocab: str) -> None:
    """Rows change places and have children, as beams do; the padding differs."""
    tokenizer, generator = XiangqiTokenizer(vocab=vocab), random.Random(1)
    processor = LegalMoves(tokenizer)
    rows: list[list[int]] = [[0] * 3 for _ in range(4)]
    for step in range(40):
        found = allowed(processor, torch.tensor(rows), len(tokenizer))
        parents = generator.choices(range(4), k=4) if step % 3 == 1 else range(4)
        for row, ids in zip(rows, found, strict=True):
            whole = (len(row) - 3) // tokenizer.ids_per_move * tokenizer.ids_per_move + 3
            moves = legal_beginnings(tokenizer, played(tokenizer, torch.tensor(row[:whole])))
            begun = row[whole:]
            assert ids == {move[len(begun)] for move in moves if move[: len(begun)] == begun}
        rows = [[*rows[parent], generator.choice(sorted(found[parent]))] for parent in parents]
    assert len({tuple(row) for row in rows}) > 1


@BOTH
@pytest.mark.parametrize(
    "settings",
    [{}, {"do_sample": True, "top_k": 0}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}],
    ids=["greedy", "sampled", "beams", "returned"],
)
def test_generated_games_are_legal(vocab: str, settings: dict[str, Any]) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    model = trained_model("XiangqiGptForCausalLM", vocab_size=len(tokenizer), max_position_embeddings=64)
    batch = tokenizer(GAMES, padding=True, return_tensors="pt")
    new = 5 * tokenizer.ids_per_move
    torch.manual_seed(0)
    free = model.generate(**batch, max_new_tokens=new, min_new_tokens=new, **settings)
    with pytest.raises(InputError):
        for row in free:
            played(tokenizer, row)
    processor = LegalMoves(tokenizer)
    for _ in range(2):
        found = model.generate(**batch, max_new_tokens=new, logits_processor=[processor], **settings)
        returned = settings.get("num_return_sequences", 1)
        for row, ids in enumerate(found):
            assert len(played(tokenizer, ids).moves) == (3, 1, 0)[row // returned] + 5


@BOTH
def test_a_row_of_a_batch_is_continued_as_alone(vocab: str) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    model = trained_model("XiangqiGptForCausalLM", vocab_size=len(tokenizer), max_position_embeddings=64)
    options: dict[str, Any] = {"max_new_tokens": 12, "logits_processor": [LegalMoves(tokenizer)]}
    together = model.generate(**tokenizer(GAMES, padding=True, return_tensors="pt"), **options)
    for row, game in enumerate(GAMES):
        alone = model.generate(**tokenizer(game, return_tensors="pt"), **options)
        assert together[row, -12:].tolist() == alone[0, -12:].tolist()


@BOTH
def test_after_the_end_there_is_only_pad(vocab: str) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    start = Board(MATE_IN_ONE)
    processor = LegalMoves(tokenizer, start)
    mate = tokenizer("b0b9")["input_ids"]
    scores = processor(torch.tensor([mate, [*mate[:-1], 0], [0] * len(mate)]), torch.rand(3, len(tokenizer)))
    for row in scores[:2]:
        assert row[0] == 0 and (row[1:] == -torch.inf).all()
    assert not scores[2, 0].isfinite()
    # The rows of a batch end at different times.
    model = trained_model("XiangqiGptForCausalLM", vocab_size=len(tokenizer), max_position_embeddings=64)
    batch = tokenizer(["b0b9", "b0b5"], padding=True, return_tensors="pt")
    for beams in (1, 3):
        options = {"max_new_tokens": 8, "num_beams": beams, "logits_processor": [processor]}
        found = model.generate(**batch, **options)
        assert not found[0, len(mate) :].any()
        assert len(played(tokenizer, found[1], start).moves) >= 2


@BOTH
def test_draw_rules_end_a_game_too(vocab: str) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    ids = torch.tensor([tokenizer("h2e2 h7e7")["input_ids"]])
    assert allowed(LegalMoves(tokenizer, Board(no_capture_limit=2)), ids, len(tokenizer)) == [{0}]
    assert 0 not in allowed(LegalMoves(tokenizer, Board(no_capture_limit=3)), ids, len(tokenizer))[0]


def test_an_ended_game_costs_a_beam_nothing() -> None:
    """The rows of more ids than the tokenizer has, as after padding the embeddings, are never written."""
    tokenizer = XiangqiTokenizer()
    ids = torch.tensor([[0] * 5, tokenizer("b0b9")["input_ids"]])
    scores = LegalMoves(tokenizer, Board(MATE_IN_ONE))(ids, torch.full((2, 24), -3.0))
    assert scores[1].max() == 0 and scores[0].max() == -3 and not scores[:, 20:].isfinite().any()


@BOTH
def test_a_prompt_with_something_else_is_refused(vocab: str) -> None:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    half = tokenizer.ids_per_move // 2
    move = tokenizer.move_ids("h2e2")
    bad = {
        "ply 2: h2e3 is not legal": [*move, *tokenizer.move_ids("h2e3")],
        "ply 3: a0a5 is not legal": [*move, *tokenizer.move_ids("h9g7"), *tokenizer.move_ids("a0a5")],
        "ply 1: expected a move, got the ids": [*move[:half], 0, *move[half:]],
        "ply 2: expected the beginning of a legal move": [*move, *move[:half]],
    }
    processor = LegalMoves(tokenizer)
    for message, ids in bad.items():
        with pytest.raises(InputError, match=f"row 1, {message}"):
            processor(torch.tensor([[0] * len(ids), ids]), torch.zeros(2, len(tokenizer)))
    # It goes on after an error.
    assert allowed(processor, torch.tensor([[0, *move]]), len(tokenizer))
