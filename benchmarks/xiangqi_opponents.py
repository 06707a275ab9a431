"""Players for matches of xiangqi: a model with or without a search, random, greedy, and a UCI engine as a process.

A player is named by a text: `policy`, `nodes:N` and `seconds:S` (the model of the run), a folder of another model with
one of these (`FOLDER@nodes:N`), `random`, `greedy`, `fairy:ELO` (fairy-stockfish at a strength), `fairy`.
"""

import functools
import queue
import random
import subprocess
import threading
from typing import Any, Protocol

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import Board, from_uci, to_uci

# What the greedy player takes first; a knight and a cannon count alike.
_VALUES = {"k": 100, "r": 9, "c": 4, "n": 4, "a": 2, "b": 2, "p": 1, None: 0}


class Opponent(Protocol):
    """Chooses a move for a board whose game goes on."""

    def move(self, board: Board) -> str: ...

    def close(self) -> None: ...


class RandomPlayer:
    """Any legal move."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def move(self, board: Board) -> str:
        return self._random.choice(board.legal_moves())

    def close(self) -> None:
        pass


class GreedyPlayer(RandomPlayer):
    """Mates in one if it can, else the capture of the greatest piece, else any move."""

    def move(self, board: Board) -> str:
        moves = board.legal_moves()
        self._random.shuffle(moves)
        return max(moves, key=lambda move: self._gain(board, move))

    def _gain(self, board: Board, move: str) -> int:
        victim = board.piece_at(move[2:])
        after = board.copy()
        after.push(move)
        return 1000 if not after.legal_moves() else _VALUES[victim.lower() if victim else None]


class ModelPlayer:
    """A `XiangqiPlayer` with a limit."""

    def __init__(self, folder: str | None, limit: str) -> None:
        name, _, number = limit.partition(":")
        self._limits: dict[str, Any] = {"nodes": 0}
        if name == "nodes":
            self._limits = {"nodes": int(number)}
        elif name == "seconds":
            self._limits = {"seconds": float(number)}
        self._player = _loaded(folder)

    def move(self, board: Board) -> str:
        return self._player.choose(board, **self._limits).move

    def close(self) -> None:
        pass


@functools.cache
def _loaded(folder: str | None) -> Any:
    import torch

    from kexue_hf import XiangqiPlayer

    torch.set_num_threads(1)
    return XiangqiPlayer.from_pretrained(folder, device="cpu")


class EnginePlayer:
    """A UCI engine for xiangqi, whose ranks count from 1.

    Args:
        command: the engine.
        elo: its strength; None for the full one.
        seconds: for each move.
    """

    def __init__(self, command: list[str], elo: int | None, seconds: float) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._milliseconds = max(1, round(seconds * 1000))
        self._patience = seconds + 30
        options = {"UCI_Variant": "xiangqi", "Threads": 1, "Hash": 16}
        if elo is not None:
            options |= {"UCI_LimitStrength": "true", "UCI_Elo": elo}
        self._send("uci")
        self._wait("uciok")
        for name, value in options.items():
            self._send(f"setoption name {name} value {value}")
        self._send("isready")
        self._wait("readyok")

    def move(self, board: Board) -> str:
        moves = " ".join(map(to_uci, board.moves))
        self._send(f"position startpos moves {moves}" if moves else "position startpos")
        self._send(f"go movetime {self._milliseconds}")
        return from_uci(self._wait("bestmove").split()[1])

    def close(self) -> None:
        self._send("quit")
        self._process.wait(timeout=10)

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _wait(self, word: str) -> str:
        while True:
            line = self._lines.get(timeout=self._patience)
            if line.startswith(word):
                return line


def make_player(name: str, folder: str | None, engine: str, engine_seconds: float, seed: int) -> Opponent:
    """Return the player of a name.

    Raises:
        InputError: no player has this name.
    """
    if name == "random":
        return RandomPlayer(seed)
    if name == "greedy":
        return GreedyPlayer(seed)
    kind, _, number = name.partition(":")
    if kind == "fairy":
        return EnginePlayer([engine], int(number) if number else None, engine_seconds)
    other, found, limit = name.rpartition("@")
    if limit.partition(":")[0] in ("policy", "nodes", "seconds"):
        return ModelPlayer(other if found else folder, limit)
    raise InputError(
        f"expected policy, nodes:N, seconds:S, FOLDER@one of these, random, greedy, fairy or fairy:ELO, got {name!r}"
    )
