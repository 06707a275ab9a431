"""What the tests share: games of the sample and of the folder `shared`, digests, and a strategy for positions."""

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

from kexue_hf.xiangqi import Board
from tests.shared_data import SHARED
from tests.xiangqi.sample_games import GAMES

# KEXUE_SLOW=1 adds checks that take minutes.
SLOW = bool(os.environ.get("KEXUE_SLOW"))
SAMPLE = [tuple(moves.split()) for moves, _ in GAMES]
DEV_GAMES = SHARED / "data" / "xiangqi" / "games.dev.jsonl" if SHARED is not None else None
needs_dev_games = pytest.mark.skipif(
    DEV_GAMES is None or not DEV_GAMES.exists(), reason="needs data/xiangqi of the larger test data"
)


def dev_games() -> list[tuple[str, ...]]:
    assert DEV_GAMES is not None
    with open(DEV_GAMES, encoding="utf-8") as file:
        return [tuple(json.loads(line)["moves"].split()) for line in file]


def played(moves: Iterable[str], **options: Any) -> Board:
    """Return a board after the moves from the start."""
    board = Board(**options)
    for move in moves:
        board.push(move)
    return board


def positions_of(games: Iterable[Iterable[str]]) -> Iterator[Board]:
    """Yield the board before each move and at the end of each game; it is one object for each game."""
    for moves in games:
        board = Board()
        yield board
        for move in moves:
            board.push(move)
            yield board


def digest_of_legal_moves(games: Iterable[Iterable[str]], legal: Callable[[Board], Iterable[str]]) -> str:
    """Return the SHA-256 of the sorted legal moves of every position, one position a line."""
    digest = hashlib.sha256()
    for board in positions_of(games):
        digest.update((" ".join(sorted(legal(board))) + "\n").encode())
    return digest.hexdigest()


@st.composite
def boards(draw: st.DrawFn) -> Board:
    """A board somewhere in a real game, then up to 60 random moves on."""
    moves = draw(st.sampled_from(SAMPLE))
    board = played(moves[: draw(st.integers(0, len(moves)))])
    # Hypothesis draws a seed instead of the moves: drawing them one by one is slow.
    choice = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, 60))):
        legal = board.legal_moves()
        if not legal:
            break
        board.push(choice.choice(legal))
    return board
