"""How well a model of games predicts the moves of recorded games: exactly, among the legal moves of each position."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from kexue_hf.errors import InputError
from kexue_hf.generation.move_scores import score_moves
from kexue_hf.xiangqi.fen import is_start
from kexue_hf.xiangqi.games import Game

# Bounds the memory of a long game; the nodes of this many positions stand behind the moves at once.
_POSITIONS_AT_ONCE = 48


@dataclass(frozen=True)
class JudgedMove:
    """A move that was played, as the model saw it.

    Attributes:
        ply: number of the move, from 1.
        rank: 1 if the model prefers it to every other legal move.
        legal: number of legal moves.
        log_probability: natural logarithm of its probability among the legal moves.
        legal_probability: what the model, unrestricted, gives to all legal moves together.
    """

    ply: int
    rank: int
    legal: int
    log_probability: float
    legal_probability: float


def judge_game(model: Any, tokenizer: Any, game: Game) -> Iterator[JudgedMove]:
    """Yield the moves of a game from the start position, as far as the model's positions reach.

    Args:
        model: a XiangqiGptForCausalLM in evaluation mode.
        tokenizer: its XiangqiTokenizer.

    Raises:
        InputError: the game starts from another position, which its moves do not tell.
    """
    if not is_start(game.fen):
        raise InputError(f"expected a game from the usual start, got one from {game.fen}: leave it out")
    step = tokenizer.ids_per_move
    most = (model.config.max_position_embeddings - 1) // step
    ids: list[int] = [tokenizer.bos_token_id]
    waiting: list[tuple[int, list[tuple[int, ...]]]] = []
    played: list[int] = []
    for ply, (board, move) in enumerate(game.replay(), 1):
        if ply > most:
            break
        moves = board.legal_moves()
        waiting.append((len(ids) - 1, [tuple(tokenizer.move_ids(legal)) for legal in moves]))
        played.append(moves.index(move))
        ids += tokenizer.move_ids(move)
        if len(waiting) == _POSITIONS_AT_ONCE:
            yield from _judge(model, ids, waiting, played, ply)
            waiting, played = [], []
    if waiting:
        yield from _judge(model, ids, waiting, played, min(len(game.moves), most))


def _judge(
    model: Any, ids: list[int], waiting: list[tuple[int, list[tuple[int, ...]]]], played: list[int], last_ply: int
) -> Iterator[JudgedMove]:
    # The last move itself is not read.
    scores = score_moves(model, ids[: waiting[-1][0] + 1], waiting)
    for place, (row, index) in enumerate(zip(scores, played, strict=True)):
        total = float(torch.logsumexp(row.double(), 0))
        own = float(row[index])
        yield JudgedMove(
            ply=last_ply - len(waiting) + 1 + place,
            rank=1 + int((row > row[index]).sum()),
            legal=len(row),
            log_probability=own - total,
            legal_probability=min(1.0, float(torch.tensor(total).exp())),
        )


def next_move_figures(model: Any, tokenizer: Any, games: Iterable[Game]) -> dict[str, float]:
    """Return the accuracy of the next move over all moves of the games.

    Returns:
        `top_1`, `top_5`: fractions of moves that are the model's first, or among its first five; the same after ply 20
        and 40 (`top_1_after_20` ...), where there are any; `random`: the expected accuracy of a random legal move;
        `loss_per_move`: mean of -log(probability among the legal moves); `legal_probability`: mean of what the
        unrestricted model gives to legal moves; `moves`: their number.
    """
    judged = [move for game in games for move in judge_game(model, tokenizer, game)]
    figures: dict[str, float] = {"moves": len(judged)}
    for after in (0, 20, 40):
        part = [move for move in judged if move.ply > after]
        if part:
            ending = f"_after_{after}" if after else ""
            figures[f"top_1{ending}"] = sum(move.rank == 1 for move in part) / len(part)
            figures[f"top_5{ending}"] = sum(move.rank <= 5 for move in part) / len(part)
    if judged:
        figures["random"] = sum(1 / move.legal for move in judged) / len(judged)
        figures["loss_per_move"] = -sum(move.log_probability for move in judged) / len(judged)
        figures["legal_probability"] = sum(move.legal_probability for move in judged) / len(judged)
    return figures


__all__ = ["JudgedMove", "judge_game", "next_move_figures"]
