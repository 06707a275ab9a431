"""Time of a move of xiangqi by the policy alone after 40 half-moves: XiangqiPlayer against the post's script's way.

    python benchmarks/xiangqi.py MODEL

The script's way is every legal move as a whole sequence of its own, all in one padded batch. `next move` is a game
that continues (two new half-moves, the rest in the cache), `first move` a game that the player has not seen. The games
are random but the same for all contenders, which run in turn; medians of wall-clock milliseconds. The same run checks
that all give the same log-probabilities. With a value head, the player's time includes the evaluation. MODEL is by
default the one in the package. Writes results/xiangqi.json.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import interleave, machine, summary, write_result

from kexue_hf.play.loading import load_parts
from kexue_hf.play.policy import Policy
from kexue_hf.xiangqi import Board

PLIES = 40
WANTED_MS, WANTED_TIMES = 100, 5


def random_game(seed: int, plies: int) -> Board:
    """Return a board after random moves of a game that has not ended."""
    generator = random.Random(seed)
    board = Board()
    while len(board.moves) < plies:
        moves = board.legal_moves()
        if not moves:
            board = Board()
            continue
        board.push(generator.choice(moves))
    return board if board.legal_moves() else random_game(seed + 1000, plies)


def whole_sequences(model: Any, tokenizer: Any, board: Board) -> torch.Tensor:
    """Return the log-probabilities of the legal moves, each read as the end of a whole game."""
    game = "".join(board.moves)
    batch = tokenizer([game + move for move in board.legal_moves()], padding=True, return_tensors="pt")
    batch = batch.to(model.device)
    length = tokenizer.ids_per_move
    with torch.inference_mode():
        scores = model(**batch).logits[:, -length - 1 : -1].float().log_softmax(-1)
    ids = batch["input_ids"][:, -length:]
    return scores.gather(-1, ids[..., None])[..., 0].sum(-1).log_softmax(-1).cpu()


def timed(call: Callable[[], object]) -> float:
    """Return the milliseconds of a call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of a Xiangqi GPT")
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--threads", type=int, help="of torch; by default all cores")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model, tokenizer, value_head = load_parts(options.model, options.device)
    policy = Policy(model, tokenizer, value_head)
    games = [random_game(seed, PLIES) for seed in range(options.repetitions)]
    errors = []
    for board in games:
        mine = torch.tensor(Policy(model, tokenizer, value_head).view(board).log_probabilities)
        errors.append(float((mine - whole_sequences(model, tokenizer, board)).abs().max()))
    turn = {"next move": 0, "first move": 0, "whole sequences": 0}

    def next_game(name: str) -> Board:
        turn[name] += 1
        return games[(turn[name] - 1) % len(games)]

    def continued() -> float:
        board = next_game("next move")
        before = board.copy()
        for _ in range(2):
            before.pop()
        policy.view(before)
        return timed(lambda: policy.view(board))

    def fresh() -> float:
        board, other = next_game("first move"), Policy(model, tokenizer, value_head)
        return timed(lambda: other.view(board))

    def plain() -> float:
        board = next_game("whole sequences")
        return timed(lambda: whole_sequences(model, tokenizer, board))

    contenders = {"next move": continued, "first move": fresh, "whole sequences": plain}
    measured = {name: summary(values, 2) for name, values in interleave(contenders, options.repetitions).items()}
    speedup = measured["whole sequences"]["median"] / measured["next move"]["median"]
    result = {
        "what": f"milliseconds of a policy move after {PLIES} half-moves; median legal moves {_legal(games)}",
        "machine": machine("torch", "transformers"),
        "threads": torch.get_num_threads(),
        "model": {
            "vocabulary": tokenizer.vocab_name,
            "parameters": model.num_parameters(),
            "layers": model.config.num_hidden_layers,
            "hidden size": model.config.hidden_size,
            "value head": value_head is not None,
        },
        "ms": measured,
        "times faster": round(speedup, 1),
        "largest difference of log-probabilities": max(errors),
        "wanted": {"ms": WANTED_MS, "times faster": WANTED_TIMES},
        "reached": measured["next move"]["median"] <= WANTED_MS and speedup >= WANTED_TIMES,
    }
    write_result("xiangqi", result)
    print(json.dumps(result, indent=2))


def _legal(games: list[Board]) -> int:
    return sorted(len(board.legal_moves()) for board in games)[len(games) // 2]


if __name__ == "__main__":
    main()
