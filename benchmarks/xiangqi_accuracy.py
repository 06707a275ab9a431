"""Accuracy of the next move on held-out games of Chinese chess: a trained model, simple players, and ways of training.

    python benchmarks/xiangqi_accuracy.py --data FOLDER --model FOLDER [--parts model baselines variants]

FOLDER of --data has games.train.jsonl and games.dev.jsonl. Every move of the held-out games counts once; a player's
guess is judged among the legal moves of the position.

model: the model of --model, by ply; how often unrestricted sampling gives a legal move; the value head's accuracy.
baselines: a random legal move; the most frequent move after the same moves in the training games (after unseen ones,
    the legal move that is most frequent in them); a player that takes the most valuable piece it can, else at random.
variants: small models trained alike on two squares or four characters a move, on all moves or the
    winner's alone, and with the board as input or without.

Writes results/xiangqi_accuracy.json after each part, and docs/xiangqi_accuracy.svg.
"""

import argparse
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from drawing import picture_of
from measuring import ROOT, machine, read_result, write_result

from kexue_hf.evaluation.next_moves import JudgedMove, judge_game
from kexue_hf.xiangqi import Board, Game, read_games

AFTER = (0, 20, 40)
BIN = 10
LAST_PLY = 120
# What a capture is worth to the greedy player.
WORTH = {"r": 9, "c": 4.5, "n": 4, "b": 2, "a": 2, "p": 1, "k": 0}
STEPS = 600
SMALL = [
    "--hidden_size=128", "--num_hidden_layers=3", "--intermediate_size=512", "--num_attention_heads=2",
    f"--max_steps={STEPS}", "--batch_size=16", "--learning_rate=2e-3", "--warmup_steps=60", "--adam_beta2=0.98",
    "--weight_decay=0.01", "--train_sampling_strategy=group_by_length", "--use_cpu", "--report_to=none",
    "--disable_tqdm=True", "--save_strategy=no", "--logging_strategy=no", "--overwrite", "--evaluated_games=1",
]  # fmt: skip
VARIANTS = {
    "squares": ["--vocab=squares", "--no_board_input"],
    "characters": [
        "--vocab=characters", "--no_board_input", "--max_length=1024",
        "--curriculum", "0:128", "0.05:256", "0.25:512", "0.6:1024",
    ],
    "squares, winner's moves only": ["--vocab=squares", "--no_board_input", "--winner_only"],
    "squares and the board": ["--vocab=squares"],
}  # fmt: skip
VARIANT_GAMES = 100

# A judged move as (ply, probability that it is the first guess, probability that it is among the first five).
Judged = tuple[int, float, float]


def figures(judged: list[Judged]) -> dict[str, Any]:
    """Return the accuracies overall and after some plies, and by tens of plies."""
    found: dict[str, Any] = {"moves": len(judged)}
    for after in AFTER:
        part = [row for row in judged if row[0] > after]
        name = f"after ply {after}" if after else "all"
        found[name] = {
            "top 1": round(sum(row[1] for row in part) / len(part), 4),
            "top 5": round(sum(row[2] for row in part) / len(part), 4),
        }
    bins: dict[int, list[float]] = defaultdict(list)
    for ply, first, _ in judged:
        if ply <= LAST_PLY:
            bins[(ply - 1) // BIN * BIN].append(first)
    found["top 1 by ply"] = {
        str(start + BIN // 2): round(sum(row) / len(row), 4) for start, row in sorted(bins.items())
    }
    return found


def hits(move: JudgedMove) -> Judged:
    return move.ply, float(move.rank == 1), float(move.rank <= 5)


def expected(scores: list[float], own: float) -> tuple[float, float]:
    """Return the probabilities that a move of that score is first, or among five; equal ones are in random order."""
    better, equal = sum(score > own for score in scores), sum(score == own for score in scores)
    return (float(better == 0) / equal, min(1.0, max(0.0, (5 - better) / equal)))


def load(folder: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    import kexue_hf  # noqa: F401 (it registers the classes)

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
    return model, AutoTokenizer.from_pretrained(folder)


def measure_model(folder: str, games: list[Game]) -> dict[str, Any]:
    model, tokenizer = load(folder)
    judged = [move for game in games for move in judge_game(model, tokenizer, game)]
    found = figures([hits(move) for move in judged])
    found["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    found["legal rate of sampling"] = round(sum(move.legal_probability for move in judged) / len(judged), 4)
    found["nats per move"] = round(-sum(move.log_probability for move in judged) / len(judged), 4)
    if model.classifier is not None:
        found["result"] = value_figures(model, tokenizer, games)
    return found


@torch.no_grad()
def value_figures(model: Any, tokenizer: Any, games: list[Game]) -> dict[str, float]:
    """Return how often the value head names the result after some plies, and how often the commonest one is it."""
    classes = {label: index for index, label in model.config.id2label.items()}
    right: dict[int, list[bool]] = {after: [] for after in (20, 40, 60)}
    results: Counter[str] = Counter()
    limit = model.config.max_position_embeddings
    for game in games:
        ids = torch.tensor([tokenizer(" ".join(game.moves))["input_ids"][:limit]])
        guesses = model(ids).value_logits[0].argmax(-1)
        results[game.result] += 1
        for after, found in right.items():
            if after * tokenizer.ids_per_move < len(guesses):
                found.append(int(guesses[after * tokenizer.ids_per_move]) == classes[game.result])
    shares = {f"after ply {after}": round(sum(found) / len(found), 4) for after, found in right.items()}
    return {**shares, "commonest result": round(results.most_common(1)[0][1] / sum(results.values()), 4)}


def baselines(games: list[Game], training: Iterator[Game]) -> dict[str, Any]:
    after: dict[str, Counter[str]] = defaultdict(Counter)
    frequency: Counter[str] = Counter()
    for game in training:
        text = ""
        for move in game.moves:
            after[text][move] += 1
            frequency[move] += 1
            text += move
    judged: dict[str, list[Judged]] = defaultdict(list)
    for game in games:
        text = ""
        for ply, (board, move) in enumerate(game.replay(), 1):
            legal = board.legal_moves()
            seen = after.get(text, {})
            scores = {
                "random legal move": dict.fromkeys(legal, 0.0),
                "most frequent after the same moves": {
                    one: seen.get(one, 0) + frequency[one] / (1 + frequency.total()) for one in legal
                },
                "greedy captures": {one: captured(board, one) for one in legal},
            }
            for name, by_move in scores.items():
                judged[name].append((ply, *expected(list(by_move.values()), by_move[move])))
            text += move
    return {name: figures(rows) for name, rows in judged.items()}


def captured(board: Board, move: str) -> float:
    return WORTH.get((board.piece_at(move[2:]) or "").lower(), 0.0)


def variants(data: Path, games: list[Game]) -> dict[str, Any]:
    from transformers import HfArgumentParser, TrainingArguments

    from examples import train_xiangqi as script

    parser: Any = HfArgumentParser((script.Options, TrainingArguments))
    found: dict[str, Any] = {}
    for name, options in VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            arguments = [f"--train_file={data / 'games.train.jsonl'}", f"--output_dir={folder}", *SMALL, *options]
            trained = script.run(*parser.parse_args_into_dataclasses(arguments))
            model, tokenizer = load(folder)
            model.eval()
            judged = [
                (move, (move.ply % 2 == 1) == (game.result == "1-0"))
                for game in games
                for move in judge_game(model, tokenizer, game)
                if game.result != "1/2-1/2"
            ]
            everything = [move for game in games for move in judge_game(model, tokenizer, game)]
        found[name] = {
            **figures([hits(move) for move in everything]),
            "nats per move": round(-sum(move.log_probability for move in everything) / len(everything), 4),
            "winner's moves, top 1": mean([move.rank == 1 for move, winner in judged if winner]),
            "loser's moves, top 1": mean([move.rank == 1 for move, winner in judged if not winner]),
            "parameters": trained["parameters"],
            "seconds": round(trained["seconds"]),
        }
        print(name, found[name])
    return found


def mean(values: list[bool]) -> float:
    return round(sum(values) / len(values), 4)


def draw(result: dict[str, Any]) -> None:
    rows = {**result.get("baselines", {}), **({"this model": result["model"]} if "model" in result else {})}
    with picture_of(ROOT / "docs" / "xiangqi_accuracy.svg", (6.5, 3.6)) as (axis,):
        for name, row in rows.items():
            plies = [int(ply) for ply in row["top 1 by ply"]]
            axis.plot(plies, [100 * value for value in row["top 1 by ply"].values()], label=name, marker=".")
        axis.set(xlabel="half-move of the game", ylabel="moves predicted, %", ylim=(0, None))
        axis.legend(frameon=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("model", "baselines", "variants")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default=str(ROOT / "kexue_hf" / "assets" / "xiangqi_small"))
    parser.add_argument("--parts", nargs="*", choices=parts, default=parts)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    games = list(read_games(options.data / "games.dev.jsonl"))
    result: dict[str, Any] = {**read_result("xiangqi_accuracy"), "machine": machine("torch", "transformers")}
    result["held-out games"] = len(games)
    for part in options.parts:
        if part == "model":
            result[part] = measure_model(options.model, games)
        elif part == "baselines":
            result[part] = baselines(games, read_games(options.data / "games.train.jsonl"))
        else:
            result["setting of variants"] = {"steps": STEPS, "options": SMALL, "games": VARIANT_GAMES}
            result[part] = variants(options.data, games[:VARIANT_GAMES])
        write_result("xiangqi_accuracy", result)
    draw(result)


if __name__ == "__main__":
    main()
