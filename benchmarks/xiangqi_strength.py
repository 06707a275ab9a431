"""Strength of the player of xiangqi: matches against other players, with an Elo difference and its 95 % interval.

    python benchmarks/xiangqi_strength.py MODEL --seconds 1 --opponent fairy:1350 --games 40
    python benchmarks/xiangqi_strength.py MODEL --nodes 2000 --opponent policy --opponent greedy --games 20

Opponents: see `xiangqi_opponents.py`. Each opening is played twice, with both colours; a game ends by `Board.outcome`,
or as a draw after 300 half-moves. Games run in `--processes` processes with one thread each. Every finished game is
added to --log, and a run with the same log plays only what is missing. The interval is that of the mean score of the
games, carried over to Elo. Writes results/xiangqi_strength.json and, from the matches of `policy` and `nodes:N`
against `fairy:ELO`, docs/xiangqi_strength.svg.
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drawing import picture_of
from measuring import ROOT, json_lines, machine, read_result, write_result
from xiangqi_opponents import make_player

from kexue_hf.xiangqi import Board

MOST_PLIES = 300
MEASURED = re.compile(r"(?:policy|nodes:(\d+)) against fairy:(\d+)")
OPENINGS = tuple(
    line.split()
    for line in (
        "h2e2 h9g7 h0g2 i9h9",
        "h2e2 b9c7 h0g2 h9g7",
        "h2e2 h7e7 h0g2 h9g7",
        "h2e2 b7e7 h0g2 b9c7",
        "h2e2 h9g7 h0g2 g6g5",
        "c3c4 b7c7 h2e2 c9e7",
        "g3g4 h7g7 b2e2 g9e7",
        "c3c4 g6g5 b0c2 h9g7",
        "c3c4 c9e7 b0c2 b9d8",
        "h0g2 c6c5 g3g4 b9c7",
        "b0c2 c6c5 g3g4 h9g7",
        "c0e2 h7e7 b0c2 h9g7",
        "c0e2 b7d7 b0c2 b9c7",
        "g0e2 h7f7 h0g2 h9g7",
        "h2d2 h7e7 h0g2 h9g7",
        "h2f2 b9c7 h0g2 h9g7",
        "b2e2 b9c7 b0c2 a9b9",
        "b2e2 h9g7 b0c2 b9c7",
        "g3g4 c6c5 g0e2 b9c7",
        "c3c4 h7e7 h0g2 h9g7",
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="folder of the model; by default the one in the package")
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument("--seconds", type=float, help="time for each move")
    limit.add_argument("--nodes", type=int, default=0, help="positions for each move; 0 plays the policy alone")
    parser.add_argument("--opponent", action="append", help="can be repeated; by default greedy")
    parser.add_argument("--games", type=int, default=40, help="against each opponent")
    parser.add_argument("--engine", default="fairy-stockfish")
    parser.add_argument("--engine-seconds", type=float, default=0.1, help="time for each move of the engine")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--log", type=Path, default=Path("xiangqi_strength.jsonl"))
    options = parser.parse_args()
    name = f"seconds:{options.seconds}" if options.seconds else f"nodes:{options.nodes}" if options.nodes else "policy"
    games = [
        {
            "model": options.model, "player": name, "opponent": opponent, "opening": game // 2 % len(OPENINGS),
            "red": game % 2 == 0, "round": game // (2 * len(OPENINGS)),
            "engine_seconds": options.engine_seconds if opponent.startswith("fairy") else None,
        }
        for opponent in options.opponent or ["greedy"]
        for game in range(options.games)
    ]  # fmt: skip
    done = [entry for entry in read_log(options.log) if entry["game"] in games]
    missing = [game for game in games if all(entry["game"] != game for entry in done)]
    print(f"{len(done)} games in {options.log}, {len(missing)} to play", flush=True)
    for entry in played(missing, options.engine, options.processes):
        with options.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        done.append(entry)
        print_line(entry, done)
    matches = read_result("xiangqi_strength").get("matches", {})
    for opponent in options.opponent or ["greedy"]:
        mine = [entry for entry in done if entry["game"]["opponent"] == opponent]
        matches[f"{name} against {opponent}"] = {**figures([entry["score"] for entry in mine]),
            "engine seconds a move": mine[0]["game"]["engine_seconds"] if mine else None}  # fmt: skip
    result = {
        "what": "matches of XiangqiPlayer, each opening with both colours; Elo difference with a 95 % interval",
        "machine": machine("torch", "transformers"),
        "matches": matches,
    }
    write_result("xiangqi_strength", result)
    draw(points_of(matches), ROOT / "docs" / "xiangqi_strength.svg")
    print(json.dumps(matches, indent=2))


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the finished games of a log; a line that a killed run has left unfinished is taken away."""
    if not path.exists():
        return []
    text = path.read_bytes()
    if not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])
    return json_lines(path)


def played(games: list[dict[str, Any]], engine: str, processes: int) -> Iterator[dict[str, Any]]:
    """Play games in several processes and yield each when it ends."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, max(1, len(games))), mp_context=context) as pool:
        for future in as_completed([pool.submit(play, game, engine) for game in games]):
            yield future.result()


def play(game: dict[str, Any], engine: str) -> dict[str, Any]:
    """Play one game; the score is 1 if the first player wins, 0.5 for a draw."""
    seed = 1000 * game["round"] + 2 * game["opening"] + game["red"]
    seconds = game["engine_seconds"] or 0.0
    players = [make_player(game[role], game["model"], engine, seconds, seed) for role in ("player", "opponent")]
    board = Board()
    for move in OPENINGS[game["opening"]]:
        board.push(move)
    outcome = board.outcome()
    while outcome is None and len(board.moves) < MOST_PLIES:
        first = (board.turn == "w") == game["red"]
        board.push(players[0 if first else 1].move(board))
        outcome = board.outcome()
    for player in players:
        player.close()
    won = {None: 0.5, "w": float(game["red"]), "b": float(not game["red"])}
    reason = outcome.reason if outcome else "too long"
    return {"game": game, "score": won[outcome.winner if outcome else None], "reason": reason, "moves": board.moves}


def figures(scores: list[float]) -> dict[str, Any]:
    """Return wins, draws, losses, and the Elo difference with its 95 % interval."""
    if not scores:
        return {"games": 0}
    mean = statistics.mean(scores)
    error = 1.96 * statistics.pstdev(scores) / math.sqrt(len(scores))
    # With wins alone, the interval of the rule of three.
    error = error or 3 / len(scores)
    return {
        "games": len(scores),
        "wins": scores.count(1.0),
        "draws": scores.count(0.5),
        "losses": scores.count(0.0),
        "score": round(mean, 4),
        "Elo difference": _elo(mean, len(scores)),
        "95 % interval": [_elo(mean - error, len(scores)), _elo(mean + error, len(scores))],
    }


def _elo(score: float, games: int) -> int:
    """Return the Elo difference of a mean score, limited to that of half a point less than all."""
    least = 0.5 / games
    score = min(1 - least, max(least, score))
    return round(-400 * math.log10(1 / score - 1))


@dataclass(frozen=True)
class Point:
    """The Elo of a player that a match against an engine of a known Elo shows.

    Attributes:
        nodes: positions that the player searches for a move; 0 for the policy alone.
        opponent: Elo of the engine.
        elo, low, high: Elo of the player, and the ends of its 95 % interval.
        is_bound: one player won all games, so the Elo is a bound only.
    """

    nodes: int
    opponent: int
    elo: int
    low: int
    high: int
    is_bound: bool


def points_of(matches: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """Return the points of the picture, by opponent and nodes."""
    points = []
    for name, match in matches.items():
        found = MEASURED.fullmatch(name)
        if found is not None and match["games"]:
            opponent, (low, high) = int(found[2]), match["95 % interval"]
            is_bound = match["games"] in (match["wins"], match["losses"])
            elo = opponent + match["Elo difference"]
            points.append(Point(int(found[1] or 0), opponent, elo, opponent + low, opponent + high, is_bound))
    return sorted(points, key=lambda point: (point.opponent, point.nodes))


def draw(points: list[Point], path: Path) -> None:
    """Draw Elo against nodes, a colour for each opponent; nothing without points."""
    if not points:
        return
    from matplotlib.transforms import offset_copy

    nodes = sorted({point.nodes for point in points})
    opponents = sorted({point.opponent for point in points})
    # The policy stands at 0, which a plain logarithm lacks.
    least, most = min((number for number in nodes if number), default=1), max(nodes)
    lowest, highest = min(point.low for point in points), max(point.high for point in points)
    with picture_of(path, (6.5, 3.6)) as (axis,):
        axis.set_xscale("symlog", linthresh=least)
        for place, opponent in enumerate(opponents):
            mine = [point for point in points if point.opponent == opponent]
            errors = [[point.elo - point.low for point in mine], [point.high - point.elo for point in mine]]
            # Points of several opponents stand side by side.
            beside = offset_copy(axis.transData, axis.figure, 5 * (place - (len(opponents) - 1) / 2), units="points")
            places, heights = [point.nodes for point in mine], [point.elo for point in mine]
            bars = axis.errorbar(
                places, heights, errors, fmt="o", label=f"against Elo {opponent:,}", transform=beside, capsize=3
            )
            axis.scatter(
                places, heights, transform=beside, zorder=3, edgecolors=bars[0].get_color(),
                facecolors=["white" if point.is_bound else bars[0].get_color() for point in mine],
            )  # fmt: skip
        axis.set_xticks(nodes, [f"{number:,}" if number else "policy" for number in nodes])
        axis.minorticks_off()
        # Shifted points do not count when matplotlib chooses the limits.
        axis.set(
            xlabel="positions searched for a move", ylabel="Elo on the engine's scale",
            xlim=(-0.3 * least, max(1.5 * most, least)), ylim=(lowest - 50, highest + 50),
        )  # fmt: skip
        axis.legend(frameon=False)


def print_line(entry: dict[str, Any], done: list[dict[str, Any]]) -> None:
    game = entry["game"]
    scores = [other["score"] for other in done if other["game"]["opponent"] == game["opponent"]]
    print(
        f"{game['opponent']}: opening {game['opening']}, {'Red' if game['red'] else 'Black'}, {entry['score']}, "
        f"{entry['reason']}, {len(entry['moves'])} half-moves; {sum(scores)} of {len(scores)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
