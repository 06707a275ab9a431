"""Chinese notation: every legal move of real positions, and each way to write one."""

import pytest
from hypothesis import given, settings

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import Board, all_chinese, flip_board, flip_move, from_chinese, to_chinese
from kexue_hf.xiangqi.squares import SQUARE_OF_NAME
from tests.xiangqi.positions import SAMPLE, SLOW, boards, dev_games, needs_dev_games, played, positions_of


def check_position(board: Board) -> int:
    """Check that the texts of all legal moves differ and name the moves; return their number."""
    texts = all_chinese(board)
    assert len(set(texts.values())) == len(texts)
    for move, text in texts.items():
        assert from_chinese(board, text) == move, (board.fen(), text)
    return len(texts)


def test_every_legal_move_of_the_sample_round_trips() -> None:
    assert sum(check_position(board) for board in positions_of(SAMPLE)) > 20_000


# Tables for bytes.translate that keep one piece.
ONLY = [bytes(other * (other == piece) for other in range(256)) for piece in range(16)]


@needs_dev_games
def test_every_legal_move_of_500_games_round_trips() -> None:
    """Read a text once for all positions that agree in the pieces of its kind, which decide its meaning.

    With KEXUE_SLOW=1 it is read in every position.
    """
    positions = set()
    done: dict[bytes, set[str]] = {}
    for board in positions_of(dev_games()):
        # Of each point, the piece as 1 to 15.
        points = bytes([piece + 8 for piece in board.squares])
        if (points, board.side) in positions:
            continue
        positions.add((points, board.side))
        texts = all_chinese(board)
        assert len(set(texts.values())) == len(texts)
        read: dict[int, set[str]] = {}
        for move, text in texts.items():
            piece = points[SQUARE_OF_NAME[move[:2]]]
            if piece not in read:
                read[piece] = done.setdefault(points.translate(ONLY[piece]), set())
            if SLOW or move not in read[piece]:
                read[piece].add(move)
                assert from_chinese(board, text) == move, (board.fen(), text)


@settings(max_examples=60, deadline=None)
@given(boards())
def test_every_legal_move_of_random_positions_round_trips(board: Board) -> None:
    check_position(board)


@settings(max_examples=30, deadline=None)
@given(boards())
def test_one_text_for_one_move_as_for_all(board: Board) -> None:
    assert {move: to_chinese(board, move) for move in board.legal_moves()} == all_chinese(board)


TEXTS = [
    # position, or moves from the start; move; text
    ("", "h2e2", "炮二平五"),
    ("", "b0c2", "马八进七"),
    ("", "a0a2", "车九进二"),
    ("", "g0e2", "相三进五"),
    ("", "e0e1", "帅五进一"),
    ("h2e2", "h9g7", "马８进７"),
    ("h2e2", "h7e7", "炮８平５"),
    ("h2e2", "d9e8", "士４进５"),
    ("h2e2", "c6c5", "卒３进１"),
    ("h2e2", "b7b3", "炮２进４"),
    ("4k4/9/9/9/9/4N4/9/4N4/9/3K5 w", "e4g5", "前马进三"),
    ("4k4/9/9/9/9/4N4/9/4N4/9/3K5 w", "e2g3", "后马进三"),
    ("4k4/4r4/9/4r4/9/9/9/9/9/3K5 b", "e6a6", "前车平１"),
    ("4k4/4r4/9/4r4/9/9/9/9/9/3K5 b", "e8f8", "后车平６"),
    ("4k4/9/9/9/9/9/9/5A3/9/3K1A3 w", "f0e1", "仕四进五"),
    ("4k4/9/9/9/9/9/9/5A3/9/3K1A3 w", "f2e1", "仕四退五"),
    ("4k4/9/4P4/4P4/4P4/9/9/9/9/3K5 w", "e7d7", "前兵平六"),
    ("4k4/9/4P4/4P4/4P4/9/9/9/9/3K5 w", "e6d6", "中兵平六"),
    ("4k4/9/4P4/4P4/4P4/9/9/9/9/3K5 w", "e5f5", "后兵平四"),
    ("4k4/9/4P4/4P4/4P4/4P4/9/9/9/3K5 w", "e7d7", "一兵平六"),
    ("4k4/9/4P4/4P4/4P4/4P4/9/9/9/3K5 w", "e6d6", "二兵平六"),
    ("3k5/4P4/4P4/4P4/4P4/4P4/9/9/9/4K4 w", "e5d5", "四兵平六"),
    ("4k4/9/9/9/4p4/4p4/4p4/4p4/9/3K5 b", "e2d2", "一卒平４"),
    ("4k4/9/9/2P1P4/2P1P4/9/9/9/9/3K5 w", "c6b6", "前七平八"),
    ("4k4/9/9/2P1P4/2P1P4/9/9/9/9/3K5 w", "e5f5", "后五平四"),
    ("4k4/9/9/2P1P4/2P1P4/2P6/9/9/9/3K5 w", "c5b5", "中七平八"),
    ("4k4/9/9/2P1P4/2P1P4/6P2/9/9/9/3K5 w", "g4g5", "兵三进一"),
    ("3k5/9/9/9/9/2p1p4/2p1p4/9/9/4K4 b", "c3b3", "前３平２"),
]


@pytest.mark.parametrize(("position", "move", "text"), TEXTS)
def test_how_moves_are_written(position: str, move: str, text: str) -> None:
    board = Board(position) if "/" in position else played(position.split())
    assert to_chinese(board, move) == text
    assert from_chinese(board, text) == move


READ = [
    ("", "炮２平５", "h2e2"),
    ("", "炮2平5", "h2e2"),
    # Files count from the right of the side to move, whatever the digits.
    ("i0i1", "车1平2", None),
    ("a0a1 a9a8 i0i1 i9i8", "车1平2", "i1h1"),
    ("a0a1 a9a8 i0i1", "车1平2", "a8b8"),
    ("", "砲二平五", "h2e2"),
    ("", "包二平五", "h2e2"),
    ("", "炮 二 平　五", "h2e2"),
    ("", "傌八進七", "b0c2"),
    ("", "馬八进七", "b0c2"),
    ("", "俥九進一", "a0a1"),
    ("", "車九进一", "a0a1"),
    ("", "帥五进一", "e0e1"),
    ("", "將五進一", "e0e1"),
    ("", "象三进五", "g0e2"),
    ("", "士四进五", "f0e1"),
    ("", "卒三进一", "g3g4"),
    ("h2e2", "馬八進七", "h9g7"),
    ("h2e2", "马8进7", "h9g7"),
    ("h2e2", "仕４进５", "d9e8"),
    ("4k4/9/9/9/9/4N4/9/4N4/9/3K5 w", "後馬進三", "e2g3"),
    ("4k4/9/9/9/9/4N4/9/4N4/9/3K5 w", "一马进三", "e4g5"),
    ("4k4/9/9/9/9/9/9/5A3/9/3K1A3 w", "后仕进五", "f0e1"),
    ("4k4/9/9/9/9/9/9/5A3/9/3K1A3 w", "前仕退五", "f2e1"),
    ("4k4/9/4P4/4P4/4P4/9/9/9/9/3K5 w", "二兵平六", "e6d6"),
    ("4k4/9/4P4/4P4/4P4/9/9/9/9/3K5 w", "3兵平6", "e5d5"),
    ("4k4/9/4P4/4P4/4P4/4P4/9/9/9/3K5 w", "前兵平六", "e7d7"),
    ("4k4/9/4P4/4P4/4P4/4P4/9/9/9/3K5 w", "四兵进一", None),
    ("4k4/9/4P4/4P4/4P4/4P4/9/9/9/3K5 w", "中兵平六", None),
    # Only one of the doubled pieces can make the move.
    ("5k3/9/9/9/9/4R4/9/4R4/9/3K5 w", "车五退二", "e2e0"),
    ("4k4/9/9/2P1P4/2P1P4/9/9/9/9/3K5 w", "前兵平八", "c6b6"),
]


@pytest.mark.parametrize(("position", "text", "move"), READ)
def test_other_spellings_are_read(position: str, text: str, move: str | None) -> None:
    board = Board(position) if "/" in position else played(position.split())
    if move is None:
        with pytest.raises(InputError):
            from_chinese(board, text)
    else:
        assert from_chinese(board, text) == move


@settings(max_examples=20, deadline=None)
@given(boards())
def test_a_turned_position_has_the_same_texts_in_the_other_colour(board: Board) -> None:
    red, black = "帅仕相兵一二三四五六七八九", "将士象卒１２３４５６７８９"
    digits = str.maketrans(red + black, black + red)
    turned = all_chinese(flip_board(board))
    for move, text in all_chinese(board).items():
        # The order of four or five pawns is 一 to 五 for both sides.
        if text[0] not in "一二三四五":
            assert turned[flip_move(move)] == text.translate(digits)


NO_NOTATION = ["", "炮二平", "炮二平五五", "二平炮五", "炮二去五", "h2e2", "炮二平〇", "炮零平五", "前前平五", None]


@pytest.mark.parametrize("text", NO_NOTATION)
def test_no_chinese_notation(text: str) -> None:
    with pytest.raises(InputError, match=r"Chinese notation"):
        from_chinese(Board(), text)


def test_texts_that_name_no_legal_move() -> None:
    with pytest.raises(
        InputError, match="'炮二平二' names no legal move of Red, which is to move; moves of this piece: 炮"
    ):
        from_chinese(Board(), "炮二平二")
    with pytest.raises(InputError, match="'前炮平五' names no legal move"):
        from_chinese(Board(), "前炮平五")
    with pytest.raises(InputError, match="'车一平二' names no legal move of Red"):
        from_chinese(Board("3k5/9/9/9/9/9/9/9/9/4K4 w"), "车一平二")
    # Off the board, or not how the piece moves.
    for text in ("车九退一", "马八退六", "炮八退九", "马八平六", "相三平五", "马八进八", "帅五平九"):
        with pytest.raises(InputError, match="names no legal move"):
            from_chinese(Board(), text)


def test_an_ambiguous_text_names_the_candidates() -> None:
    with pytest.raises(
        InputError, match="names 2 legal moves of Red, e4g5, e2g3: tell the pieces apart with 前 and 后"
    ):
        from_chinese(Board("4k4/9/9/9/9/4N4/9/4N4/9/3K5 w"), "马五进三")


def test_an_illegal_move_cannot_be_written() -> None:
    with pytest.raises(InputError, match="h2i5 is not legal: the Red cannon on h2 cannot go there"):
        to_chinese(Board(), "h2i5")
