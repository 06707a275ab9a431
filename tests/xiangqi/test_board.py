"""Moves on a board: push, pop, errors, the end of the game without repetition."""

import pytest
from hypothesis import given, settings

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import Board, Outcome
from tests.xiangqi.positions import SAMPLE, boards, played


@settings(max_examples=60, deadline=None)
@given(boards())
def test_pop_undoes_push(board: Board) -> None:
    fen, legal, moves = board.fen(), board.legal_moves(), board.moves
    for move in legal:
        board.push(move)
        assert board.fen() != fen and board.moves == [*moves, move]
        assert board.pop() == move
        assert board.fen() == fen
    assert board.legal_moves() == legal and board.moves == moves
    while board.moves:
        board.pop()
    assert board.fen() == board.start_fen


@settings(max_examples=30, deadline=None)
@given(boards())
def test_is_legal_agrees_with_legal_moves(board: Board) -> None:
    files, legal = "abcdefghi", set(board.legal_moves())
    squares = [f"{file}{rank}" for file in files for rank in range(10)]
    origins = {move[:2] for move in legal} | {"a5", "e4"}
    tried = [origin + target for origin in sorted(origins) for target in squares]
    assert {move for move in tried if board.is_legal(move)} == legal


def test_the_clocks() -> None:
    board = played(["h2e2", "h9g7", "e2e6"])
    assert board.fen().endswith(" b - - 0 2")
    board.push("g7e6")
    assert board.fen().endswith(" w - - 0 3")
    board.push("h0g2")
    assert board.fen().endswith(" b - - 1 3")
    board.pop()
    board.pop()
    board.pop()
    assert board.fen().endswith(" w - - 2 2")


def test_the_number_of_the_move_if_black_begins() -> None:
    board = Board("4k4/9/9/9/9/9/9/r8/9/3K4R b - - 4 31")
    for move, end in (("a2a3", "w - - 5 32"), ("i0i1", "b - - 6 32"), ("a3a2", "w - - 7 33")):
        board.push(move)
        assert board.fen().endswith(end)


def test_a_copy_is_independent() -> None:
    board = played(["h2e2"])
    copy = board.copy()
    copy.push("h9g7")
    assert board.piece_at("h9") == "n" and copy.piece_at("h9") is None and (board.turn, copy.turn) == ("b", "w")
    assert board.moves == ["h2e2"] and copy.moves == ["h2e2", "h9g7"]
    assert copy.pop() == "h9g7" and copy.fen() == board.fen()


@pytest.mark.parametrize("spelling", ["h2e2", "H2E2", "h2-e2", "H2-E2"])
def test_the_spellings_of_iccs(spelling: str) -> None:
    board = Board()
    board.push(spelling)
    assert board.moves == ["h2e2"]


PINNED = "4k4/9/9/9/4r4/9/9/9/4N4/4K4 w"
ILLEGAL = {
    ("e4e5", None): "e4e5 is not legal: expected a piece of Red on e4, which is empty",
    ("h7e7", None): "expected a piece of Red, which is to move, on h7, got a Black cannon",
    ("b0d1", None): "the Red knight on b0 cannot go there; push one of b0",
    ("a0b0", None): "the Red rook on a0 cannot go there; push one of a0a1, a0a2",
    ("e1g2", PINNED): "it leaves the Red king attacked; push a move of another piece",
    ("炮二平五", None): "got '炮二平五'; this is Chinese notation, which from_chinese(board, text) converts to ICCS",
    ("馬8進7", None): "this is Chinese notation, which from_chinese(board, text) converts to ICCS",
    ("h2", None): "expected an ICCS move such as h2e2 (files a to i, ranks 0 to 9), got 'h2'",
    ("j2e2", None): "expected an ICCS move",
    ("h2e10", None): "expected an ICCS move",
    ("h２e2", None): "expected an ICCS move",
    ("", None): "expected an ICCS move",
    ("h2e2\n", None): "expected an ICCS move",
    ("h2e2 h9g7", None): "expected an ICCS move",
}


@pytest.mark.parametrize(("move", "fen"), ILLEGAL)
def test_an_illegal_move_is_one_error_and_changes_nothing(move: str, fen: str | None) -> None:
    board = Board(fen) if fen else Board()
    before = board.fen(), board.legal_moves(), board.moves
    with pytest.raises(InputError) as caught:
        board.push(move)
    assert ILLEGAL[move, fen] in str(caught.value) and "\n" not in str(caught.value)
    assert (board.fen(), board.legal_moves(), board.moves) == before


def test_other_types_are_refused() -> None:
    for value in (None, 7, ["h2e2"], b"h2e2"):
        with pytest.raises(InputError, match="expected an ICCS move"):
            Board().push(value)  # type: ignore[arg-type]


def test_bad_calls() -> None:
    with pytest.raises(InputError, match="expected a pushed move to take back"):
        Board().pop()
    with pytest.raises(InputError, match="expected a depth of 0 or more, got -1"):
        Board().perft(-1)
    with pytest.raises(InputError, match="expected a square from a0 to i9, got 'j5'"):
        Board().piece_at("j5")
    with pytest.raises(InputError, match="no_capture_limit: expected a whole number from 1, or None, got 0"):
        Board(no_capture_limit=0)
    with pytest.raises(InputError, match="occurrences: expected a whole number from 2, or None, got 1"):
        Board(occurrences=1)


def test_the_cannon_at_the_start_can_take_the_knight() -> None:
    board = Board()
    board.push("h2h9")
    assert board.piece_at("h9") == "C" and not board.is_check()


def test_check_by_each_kind_of_piece() -> None:
    for fen in (
        "4k4/9/9/9/4r4/9/9/9/9/4K4 w",
        "3k5/9/9/4c4/9/4p4/9/9/9/4K4 w",
        "3k5/9/9/9/9/9/9/3n5/9/4K4 w",
        "3k5/9/9/9/9/9/9/9/4p4/4K4 w",
        "3k5/9/9/9/9/9/9/9/9/3pK4 w",
    ):
        assert Board(fen).is_check(), fen
    for fen in (
        "4k4/9/9/4p4/4r4/4P4/9/9/9/4K4 w",
        "3k5/9/9/4c4/9/9/9/9/9/4K4 w",
        "3k5/9/9/4c4/4p4/4p4/9/9/9/4K4 w",
        "3k5/9/9/9/9/9/9/3n5/3r5/4K4 w",
    ):
        assert not Board(fen).is_check(), fen


def test_mate_and_stalemate_lose() -> None:
    mate = Board("R2k5/1R7/9/9/9/9/9/9/4K4/9 b")
    assert mate.is_check() and mate.legal_moves() == []
    assert mate.outcome() == Outcome("1-0", "checkmate")
    assert mate.outcome().winner == "w"  # type: ignore[union-attr]
    # Black's king on d9 must not enter the open file e, and the pawn on d7 covers d8.
    stalemate = Board("3k5/9/3P5/9/9/9/9/9/9/4K4 b")
    assert not stalemate.is_check() and stalemate.legal_moves() == []
    assert stalemate.outcome() == Outcome("1-0", "stalemate")
    assert Board("4k4/9/9/9/9/9/9/3p5/9/3K5 w").outcome() == Outcome("0-1", "stalemate")


def test_neither_side_can_attack() -> None:
    board = Board("4ka3/4a4/4b4/9/9/9/9/4B4/9/3K5 w")
    assert board.outcome() == Outcome("1/2-1/2", "no attackers")
    assert Board("4ka3/4a4/4b4/9/9/P8/9/4B4/9/3K5 w").outcome() is None


def test_the_limit_without_captures() -> None:
    fen = "4k4/9/9/9/9/9/9/r8/9/3K4R w - - {} 80"
    board = Board(fen.format(118), occurrences=None)
    board.push("i0i1")
    assert board.outcome() is None
    board.push("a2a3")
    assert board.outcome() == Outcome("1/2-1/2", "no capture")
    board.pop()
    assert board.outcome() is None
    assert Board(fen.format(119)).outcome() is None
    assert Board(fen.format(120)).outcome() == Outcome("1/2-1/2", "no capture")
    assert Board(fen.format(120), no_capture_limit=None).outcome() is None
    assert Board(fen.format(120), no_capture_limit=140).outcome() is None
    assert Board(fen.format(9), no_capture_limit=9).outcome() == Outcome("1/2-1/2", "no capture")
    # A mate with the last half-move counts before the limit.
    mate = Board("3k5/1R7/9/9/9/9/9/R8/4K4/9 w - - 119 80")
    mate.push("a2a9")
    assert mate.outcome() == Outcome("1-0", "checkmate")


def test_real_games_do_not_end_before_their_last_moves() -> None:
    for moves in SAMPLE[:6]:
        assert played(moves[:-1]).outcome() is None
