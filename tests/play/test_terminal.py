"""A game in the terminal, told by its lines."""

import io
from pathlib import Path
from typing import Any

import pytest

from kexue_hf import XiangqiPlayer
from kexue_hf.play.terminal import TerminalGame, TerminalOptions
from kexue_hf.xiangqi import START, Board, read_games
from tests.play.tiny_players import MATE_IN_ONE, tiny_player


def game(*lines: str, **options: Any) -> str:
    """Return what a game prints for the lines."""
    output = io.StringIO()
    chosen = TerminalOptions(**{"limits": {"nodes": 50}, **options})
    TerminalGame(tiny_player(), chosen, io.StringIO("".join(f"{line}\n" for line in lines)), output).run()
    return output.getvalue()


@pytest.mark.parametrize("entry", ["h2e2", "H2-E2", "炮二平五", "砲2平5"])
def test_a_move_in_any_notation_is_answered_in_chinese(entry: str) -> None:
    text = game(entry, "fen")
    answer = next(line for line in text.splitlines() if line.startswith("Black: "))
    assert "probability" in answer and "%" in answer and any(char in answer for char in "进退平")
    assert " w - - 2 2" in text


WRONG = {
    "h2": "expected a move such as h2e2 or 炮二平五, or a command (undo, hint",
    "casle": "got 'casle'",
    "a0a5": "a0a5 is not legal: the Red rook on a0 cannot go there; push one of a0a1, a0a2",
    "炮二平二": "'炮二平二' names no legal move of Red",
    "炮": "expected a move in Chinese notation such as 炮二平五",
    "undo": "no move to take back: this is the start of the game",
    "save": "expected a file after save, such as save game.pgn",
    "save .": "'.' is a folder; expected a file after save",
    "load": "expected a file after load, such as load game.pgn",
    "load nowhere.pgn": "nowhere.pgn",
    "load .": "expected a file that ends in .pgn, .jsonl, .iccs, .txt, got '.'",
    "x" * 20_000: "expected a move",
    "\x1b[2J": "expected a move",
}


@pytest.mark.parametrize("entry", WRONG, ids=lambda entry: repr(entry[:10]))
def test_a_wrong_entry_tells_what_to_do_and_the_game_goes_on(entry: str) -> None:
    text = game(entry, "fen")
    assert WRONG[entry] in text and START in text
    assert "\x1b" not in text


def test_undo_takes_back_both_moves() -> None:
    assert game("h2e2", "undo", "fen").splitlines()[-2].endswith(START)
    assert " b - - 1 1" in game("h2e2", "b9c7", "undo", "fen", sides=frozenset({1, -1})).splitlines()[-2]


def test_hint_and_moves() -> None:
    text = game("hint", "moves")
    assert text.count("%") == 5 + 3 and "Red wins" in text
    assert all(move in text for move in Board().legal_moves()) and "炮二平五 h2e2" in text


def test_you_can_play_black_with_your_side_below() -> None:
    lines = game("flip", sides=frozenset({-1})).splitlines()
    assert lines[1].startswith("Red: ")
    assert lines[2].lstrip().startswith("i") and any(line.lstrip().startswith("a") for line in lines[3:])


def test_mate_ends_the_game_and_new_begins_another() -> None:
    text = game("b0b9", "b9b8", "new", "fen", fen=MATE_IN_ONE)
    assert "Red wins by checkmate" in text
    assert "the game is over: new begins another, undo takes a move back" in text
    assert text.count("1R1K5 w - - 0 1") == 1


def test_resigning_can_be_taken_back() -> None:
    text = game("h2e2", "resign", "resign", "undo", "fen")
    assert "Red resigns: Black wins" in text and "the game is over already" in text
    assert text.splitlines()[-2].endswith("w - - 2 2")


def test_the_model_against_itself_ends_without_input() -> None:
    assert "Red wins by checkmate" in game(sides=frozenset(), fen=MATE_IN_ONE)


def test_a_saved_game_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "game.pgn"
    text = game("h2e2", f"save {tmp_path / 'game'}", f"save {path}", "resign", f"save {path}2.PGN")
    assert "saved" in text and "not saved" in text and "exists; name another file" in text
    assert "--overwrite" not in text
    found = next(read_games(path))
    assert found.moves[0] == "h2e2" and len(found.moves) == 2 and found.result == "*"
    assert found.tags["Red"] == "you" and found.tags["Black"] == "kexue-hf"
    assert next(read_games(f"{path}2.PGN")).result == "0-1"


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_a_saved_game_goes_on(encoding: str, tmp_path: Path) -> None:
    """Also one in Chinese notation, as other programs write it, from Black's side and to its end."""
    path = tmp_path / "game.pgn"
    path.write_text('[Red "张三"]\n\n1. 炮二平五 马8进7\n2. 马二进三 *\n', encoding=encoding)
    text = game("h2e2", f"load {path}", "fen", sides=frozenset({-1}))
    assert "3 half-moves" in text and text.rstrip().splitlines()[-2].endswith(" b - - 3 2")
    answered = game(f"load {path}", "undo", "fen")
    assert "Black: " in answered and " w - - " in answered
    path.write_text(f'[FEN "{MATE_IN_ONE}"]\n\n1. b0b9 *\n')
    ended = game(f"读谱 {path}", "h2e2")
    assert "loaded" in ended and "Red wins by checkmate" in ended and "the game is over" in ended


@pytest.mark.parametrize("content", ["", "1. 炮二平五 车一平五 *\n", '[FEN "x"]\n\n1. h2e2\n', "\x00\xff"])
def test_a_game_that_cannot_be_loaded_changes_nothing(content: str, tmp_path: Path) -> None:
    path = tmp_path / "game.pgn"
    path.write_text(content, encoding="latin-1" if "\xff" in content else "utf-8")
    text = game("h2e2", f"load {path}", "undo", "fen")
    assert "game.pgn" in text and "loaded" not in text and text.rstrip().splitlines()[-2].endswith(START)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "not saved: " in game(f"save {tmp_path / 'file' / 'game.pgn'}")


def test_colours_on_request() -> None:
    assert "\x1b[" in game("h2e2", colour=True) and "\x1b[" not in game("h2e2")


def test_commands_in_chinese() -> None:
    assert game("h2e2", "悔棋", "fen").splitlines()[-2].endswith(START)
    assert "Red resigns" in game("认输") and game("退出", "h2e2").count("h2e2") == 0


def test_an_interrupted_search_plays_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    choose = XiangqiPlayer.choose

    def interrupted(player: XiangqiPlayer, board: Board, **limits: Any) -> Any:
        if limits.get("nodes"):
            raise KeyboardInterrupt
        return choose(player, board, **limits)

    monkeypatch.setattr(XiangqiPlayer, "choose", interrupted)
    text = game("h2e2", "fen")
    assert "interrupted" in text and " w - - 2 2" in text
    with pytest.raises(KeyboardInterrupt):
        game(sides=frozenset())


def test_a_game_is_saved_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    game("save ~/mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.pgn"]
