"""Games as PGN."""

from pathlib import Path

import pytest

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import START, Board, pgn_text, read_games
from tests.xiangqi.positions import SAMPLE, played


def text_of(board: Board, black: str = "model", chinese: bool = False) -> str:
    return pgn_text(board, tags={"Date": "2026.03.09", "Red": "Player", "Black": black}, chinese=chinese)


@pytest.mark.parametrize("chinese", [False, True])
@pytest.mark.parametrize("moves", SAMPLE[:5], ids=len)
@pytest.mark.parametrize("fen", [START, START.replace("w - - 0 1", "b - - 3 12")])
def test_a_game_is_read_back(moves: tuple[str, ...], fen: str, chinese: bool, tmp_path: Path) -> None:
    board = Board(fen)
    for move in moves if fen == START else ("h9g7", "h2e2", "i9h9"):
        board.push(move)
    text = text_of(board, chinese=chinese)
    (tmp_path / "game.pgn").write_text(text, "utf-8")
    (game,) = read_games(tmp_path / "game.pgn")
    assert list(game.moves) == board.moves and game.fen == fen
    assert max(map(len, text.splitlines())) <= 100 and text.isascii() != chinese


def test_the_text() -> None:
    assert text_of(played(["h2e2", "h9g7", "h0g2"])).endswith("\n\n1. H2-E2 H9-G7 2. H0-G2 *\n")
    assert '[Date "2026.03.09"]' in text_of(Board())


def test_the_number_of_a_first_move_of_black() -> None:
    board = played(["h9g7", "h2e2"], fen=START.replace("w - - 0 1", "b - - 0 12"))
    assert text_of(board).endswith("\n\n12... H9-G7 13. H2-E2 *\n")


@pytest.mark.parametrize("name", ['a "b"', "back\\slash", "two\nlines", "\x00"])
def test_names_cannot_break_the_header(name: str, tmp_path: Path) -> None:
    assert '[Black "a \\"b\\""]' in text_of(Board(), 'a "b"')
    (tmp_path / "game.pgn").write_text(text_of(played(["h2e2"]), name), "utf-8")
    (game,) = read_games(tmp_path / "game.pgn")
    assert game.tags["Black"] == name.replace("\n", " ").replace("\x00", " ") and game.moves == ("h2e2",)


def test_a_finished_game_has_its_result_and_reason() -> None:
    text = text_of(played(["e1d1"], fen="3k5/9/9/9/9/9/9/9/2R1R4/4K4 w"))
    assert '[Result "1-0"]' in text and '[Termination "checkmate"]' in text and text.endswith(" 1-0\n")


def test_a_given_result_counts(tmp_path: Path) -> None:
    assert '[Result "0-1"]' in pgn_text(Board(), "0-1") and pgn_text(Board(), "0-1").endswith("\n\n0-1\n")
    with pytest.raises(InputError, match=r"expected one of 1-0, .*, got 'won'"):
        pgn_text(Board(), "won")
