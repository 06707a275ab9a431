"""Fairy-Stockfish as an independent move generator, if it is installed (GPL, so a program beside the tests only).

Debian and Ubuntu: `apt install fairy-stockfish`. Its ranks count from 1.
"""

import shutil
import subprocess

import pytest

from kexue_hf.xiangqi import from_uci

PROGRAM = shutil.which("fairy-stockfish") or shutil.which("/usr/games/fairy-stockfish")

needs_oracle = pytest.mark.skipif(PROGRAM is None, reason="needs the program fairy-stockfish")


class Oracle:
    """A running Fairy-Stockfish that plays xiangqi; use as a context manager."""

    def __enter__(self) -> "Oracle":
        assert PROGRAM is not None
        self._process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._send("uci", "setoption name UCI_Variant value xiangqi")
        return self

    def __exit__(self, *_: object) -> None:
        self._send("quit")
        self._process.communicate()

    def _send(self, *commands: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{command}\n" for command in commands))
        self._process.stdin.flush()

    def perft(self, fen: str, depth: int) -> tuple[int, list[str]]:
        """Return the number of sequences of `depth` legal moves, and the legal moves as ICCS."""
        assert self._process.stdout is not None
        self._send(f"position fen {fen}", f"go perft {depth}")
        moves = []
        for line in self._process.stdout:
            name, _, count = line.strip().partition(": ")
            if name == "Nodes searched":
                return int(count), moves
            if count.isdigit() and name[:1] in "abcdefghi" and len(name) <= 6:
                moves.append(from_uci(name))
        raise AssertionError("fairy-stockfish ended")
