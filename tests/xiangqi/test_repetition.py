"""Repetition, perpetual check and perpetual chase, each in a position built by hand. The rules are cited in
kexue_hf/xiangqi/repetition.py."""

from dataclasses import dataclass

import pytest

from kexue_hf.xiangqi import Board, Outcome, flip_board, mirror_board, repetition
from kexue_hf.xiangqi.pieces import BLACK, RED

DRAW = Outcome("1/2-1/2", "repetition")


@dataclass(frozen=True)
class Case:
    """A position, the four moves or more that lead back to it, and the outcome of repeating them."""

    fen: str
    cycle: str
    expected: Outcome


CASES = {
    "a rook checks forever": Case(
        "5k3/9/9/9/9/9/9/r8/4R4/3K5 w", "e1f1 f9e9 f1e1 e9f9", Outcome("0-1", "perpetual check")
    ),
    "a rook chases an unprotected cannon": Case(
        "3k5/9/c8/9/9/9/9/9/1R7/5K3 w", "b1a1 a7b7 a1b1 b7a7", Outcome("0-1", "perpetual chase")
    ),
    "the cannon is protected on one of its squares": Case(
        "2nk5/9/c8/9/9/9/9/9/1R7/5K3 w", "b1a1 a7b7 a1b1 b7a7", DRAW
    ),
    "the defender of one of the squares is pinned": Case(
        "3k5/3n5/c8/9/9/9/9/9/1R1R5/5K3 w", "b1a1 a7b7 a1b1 b7a7", Outcome("0-1", "perpetual chase")
    ),
    "the same defender is free": Case("3k5/3n5/c8/9/9/9/9/9/1R4R2/5K3 w", "b1a1 a7b7 a1b1 b7a7", DRAW),
    "a check and a chase in turn": Case("3k5/9/c8/9/9/9/9/9/R8/5K3 w", "a1d1 d9e9 d1a1 e9d9", DRAW),
    "a knight chases a pawn beyond the river": Case(
        "5kn2/9/9/9/9/8N/7p1/3K5/9/9 w", "i4g5 h3g3 g5i4 g3h3", Outcome("0-1", "perpetual chase")
    ),
    "a pawn on its side of the river may be chased": Case(
        "5k3/9/9/2p6/9/2R6/9/2R6/9/3K5 w", "c4d4 f9f8 d4c4 f8f9", DRAW
    ),
    "another piece in its place may not": Case(
        "5k3/9/9/2n6/9/2R6/9/2R6/9/3K5 w", "c4d4 f9f8 d4c4 f8f9", Outcome("0-1", "perpetual chase")
    ),
    "a pawn may chase": Case("3k5/9/4c4/3P5/9/9/9/9/9/5K3 w", "d6e6 e7d7 e6d6 d7e7", DRAW),
    "a cannon chases a rook, which is protected": Case(
        "3k4r/9/9/9/C1P6/4P3r/9/9/9/5K3 w", "a5a4 i4i5 a4a5 i5i4", Outcome("0-1", "perpetual chase")
    ),
    "rooks that can take each other offer an exchange": Case(
        "3k5/9/r8/9/9/9/9/9/1R7/5K3 w", "b1a1 a7b7 a1b1 b7a7", DRAW
    ),
    "a pinned rook cannot take the rook that chases it": Case(
        "4k4/9/9/R8/4r4/9/9/9/4R4/3K5 w", "a6a5 e5e6 a5a6 e6e5", Outcome("0-1", "perpetual chase")
    ),
    "two pieces are chased in turn": Case("3k5/9/c8/1c7/9/9/9/9/1R7/5K3 w", "b1a1 d9d8 a1b1 d8d9", DRAW),
    "a chase with every other move": Case("3k5/9/c8/9/9/9/9/9/1R7/5K3 w", "b1a1 d9d8 a1b1 d8d9", DRAW),
    "a rook follows along the file that it attacks already": Case(
        "3k5/9/9/c8/9/9/9/9/R8/5K3 w", "a1a2 a6a7 a2a1 a7a6", DRAW
    ),
    "nobody attacks anything": Case("3k5/9/9/9/8c/9/9/9/R8/5K3 w", "a1a2 i5i6 a2a1 i6i5", DRAW),
}


# The sides that always check, those that always chase, and the outcome.
VERDICTS: list[tuple[set[int], set[int], Outcome]] = [
    ({RED}, set(), Outcome("0-1", "perpetual check")),
    ({BLACK}, set(), Outcome("1-0", "perpetual check")),
    ({RED, BLACK}, set(), DRAW),
    ({RED, BLACK}, {RED}, DRAW),
    (set(), {RED}, Outcome("0-1", "perpetual chase")),
    (set(), {BLACK}, Outcome("1-0", "perpetual chase")),
    (set(), {RED, BLACK}, DRAW),
    ({RED}, {BLACK}, Outcome("0-1", "perpetual check")),
    ({BLACK}, {RED, BLACK}, Outcome("1-0", "perpetual check")),
    (set(), set(), DRAW),
]


@pytest.mark.parametrize(("checking", "chasing", "expected"), VERDICTS)
def test_who_loses(checking: set[int], chasing: set[int], expected: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repetition, "_offences", lambda *_: (set(checking), set(chasing)))
    assert repeated(CASES["nobody attacks anything"], 2).outcome() == expected


def repeated(case: Case, times: int, board: Board | None = None) -> Board:
    board = board or Board(case.fen)
    for _ in range(times):
        for move in case.cycle.split():
            board.push(move)
    return board


@pytest.mark.parametrize("name", CASES)
def test_the_third_occurrence_ends_the_game(name: str) -> None:
    case = CASES[name]
    board = repeated(case, 1)
    assert board.fen().split(" - ")[0] == case.fen, "the cycle leads back"
    assert board.outcome() is None
    for move in case.cycle.split():
        board.push(move)
        if board.fen().split(" - ")[0] != case.fen:
            assert board.outcome() is None
    assert board.outcome() == case.expected


@pytest.mark.parametrize("name", CASES)
def test_the_symmetries_keep_the_verdict(name: str) -> None:
    board = repeated(CASES[name], 2)
    expected = board.outcome()
    assert expected is not None
    assert mirror_board(board).outcome() == expected
    other = {"1-0": "0-1", "0-1": "1-0"}.get(expected.result, expected.result)
    assert flip_board(board).outcome() == Outcome(other, expected.reason)


def test_the_number_of_occurrences_is_an_option() -> None:
    case = CASES["a rook checks forever"]
    assert repeated(case, 1, Board(case.fen, occurrences=2)).outcome() == case.expected
    assert repeated(case, 3, Board(case.fen, occurrences=5)).outcome() is None
    assert repeated(case, 4, Board(case.fen, occurrences=5)).outcome() == case.expected
    assert repeated(case, 9, Board(case.fen, occurrences=None)).outcome() is None


def test_a_position_that_came_before_a_capture_does_not_count() -> None:
    board = Board("3k5/9/9/9/8c/9/9/9/R7p/5K3 w", occurrences=2)
    for move in ["a1i1", "i5h5", "i1a1", "h5i5"]:
        board.push(move)
        assert board.outcome() is None
    for move in ["a1i1", "i5h5", "i1a1"]:
        board.push(move)
    assert board.outcome() is not None


def test_pop_takes_a_repetition_back() -> None:
    board = repeated(CASES["a rook checks forever"], 2)
    board.pop()
    assert board.outcome() is None
    assert board.copy().outcome() is None


def test_the_same_pieces_with_the_other_side_to_move_are_another_position() -> None:
    board = Board("3k5/9/9/9/8r/9/9/9/9/R4K3 w", occurrences=2)
    for move in ["a0a5", "i5i6", "a5a1", "i6i5", "a1a0"]:
        board.push(move)
    assert board.fen().startswith("3k5/9/9/9/8r/9/9/9/9/R4K3 b")
    assert board.outcome() is None
    for move in ["i5i6", "a0a5", "i6i7", "a5a1", "i7i5"]:
        board.push(move)
        assert (board.outcome() is None) == (move != "i7i5")
