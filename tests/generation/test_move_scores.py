"""Scores of legal moves in one pass, against every legal move as a sequence of its own."""

from typing import Any

import pytest
import torch

from kexue_hf import InputError, XiangqiTokenizer
from kexue_hf.evaluation.next_moves import judge_game, next_move_figures
from kexue_hf.generation.move_scores import score_moves
from kexue_hf.xiangqi import Board, Game
from tests.models.tiny_models import trained_model
from tests.xiangqi.sample_games import GAMES

MOVES = GAMES[0][0].split()


def model_for(vocab: str, positions: int = 512, **changes: Any) -> tuple[Any, XiangqiTokenizer]:
    tokenizer = XiangqiTokenizer(vocab=vocab)
    fields = {"vocab_size": len(tokenizer), "max_position_embeddings": positions, **changes}
    model = trained_model("XiangqiGptForCausalLM", **fields)
    return model.eval(), tokenizer


def one_by_one(model: Any, tokenizer: XiangqiTokenizer, played: list[str], legal: list[str]) -> torch.Tensor:
    """Return the log-probability of each move after the played ones, each from a forward pass of its own."""
    found = []
    for move in legal:
        ids = torch.tensor([tokenizer(" ".join([*played, move]))["input_ids"]])
        scores = model(ids).logits[0].log_softmax(-1)[:-1].gather(-1, ids[0, 1:, None])
        found.append(scores[-tokenizer.ids_per_move :].sum())
    return torch.stack(found)


@pytest.mark.parametrize("board_input", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("vocab", ["squares", "characters"])
def test_scores_are_those_of_whole_sequences(vocab: str, attention: str, board_input: bool) -> None:
    model, tokenizer = model_for(vocab, board_input=board_input)
    model.set_attn_implementation(attention)
    board, ids, positions, expected = Board(), [0], [], []
    for ply, move in enumerate(MOVES[:12]):
        if ply in (0, 1, 5, 11):
            legal = board.legal_moves()
            positions.append((len(ids) - 1, [tuple(tokenizer.move_ids(one)) for one in legal]))
            with torch.no_grad():
                expected.append(one_by_one(model, tokenizer, MOVES[:ply], legal))
        ids += tokenizer.move_ids(move)
        board.push(move)
    for found, wanted in zip(score_moves(model, ids, positions), expected, strict=True):
        assert wanted.std() > 0.01
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("vocab", ["squares", "characters"])
def test_judged_moves_are_ranked_among_the_legal_ones(vocab: str) -> None:
    model, tokenizer = model_for(vocab)
    game = Game(tuple(MOVES[:9]))
    judged = list(judge_game(model, tokenizer, game))
    assert [move.ply for move in judged] == list(range(1, 10))
    for ply, (board, move) in enumerate(game.replay()):
        legal = board.legal_moves()
        with torch.no_grad():
            scores = one_by_one(model, tokenizer, MOVES[:ply], legal)
        own = scores[legal.index(move)]
        assert judged[ply].legal == len(legal)
        assert judged[ply].rank == 1 + int((scores > own).sum())
        assert judged[ply].log_probability == pytest.approx(float(own - scores.logsumexp(0)), abs=1e-4)
        assert judged[ply].legal_probability == pytest.approx(float(scores.exp().sum()), rel=1e-3)


@pytest.mark.parametrize("positions", [7, 8, 512])
def test_a_long_game_is_judged_as_far_as_the_positions_reach(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the parts of a long game give what the whole gives."""
    model, tokenizer = model_for("squares", positions)
    game = Game(tuple(MOVES))
    whole = list(judge_game(model, tokenizer, game))
    assert len(whole) == min(len(MOVES), (positions - 1) // 2)
    monkeypatch.setattr("kexue_hf.evaluation.next_moves._POSITIONS_AT_ONCE", 5)
    for part, move in zip(judge_game(model, tokenizer, game), whole, strict=True):
        assert (part.ply, part.rank, part.legal) == (move.ply, move.rank, move.legal)
        assert part.log_probability == pytest.approx(move.log_probability, abs=1e-4)


def test_figures_are_means_over_moves() -> None:
    model, tokenizer = model_for("squares")
    games = [Game(tuple(moves.split())) for moves, _ in GAMES[:2]]
    judged = [move for game in games for move in judge_game(model, tokenizer, game)]
    figures = next_move_figures(model, tokenizer, games)
    late = [move for move in judged if move.ply > 20]
    assert figures["moves"] == len(judged) == sum(len(game.moves) for game in games)
    assert figures["top_1"] == pytest.approx(sum(move.rank == 1 for move in judged) / len(judged))
    assert figures["top_5_after_20"] == pytest.approx(sum(move.rank <= 5 for move in late) / len(late))
    assert figures["random"] == pytest.approx(sum(1 / move.legal for move in judged) / len(judged))
    assert "top_1_after_40" not in figures
    assert next_move_figures(model, tokenizer, []) == {"moves": 0}


def test_a_game_from_another_position_is_refused() -> None:
    model, tokenizer = model_for("squares")
    game = Game(("e0e1",), fen="3k5/9/9/9/9/9/9/9/9/4K4 w - - 0 1")
    with pytest.raises(InputError, match="from the usual start"):
        list(judge_game(model, tokenizer, game))
