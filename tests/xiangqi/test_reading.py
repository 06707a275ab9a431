"""Files of games: PGN, ICCS lines, JSON lines; one bad game does not lose the others."""

import json
import pickle
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import START, Game, GameError, mirror_game, read_games, to_chinese
from tests.xiangqi.positions import DEV_GAMES, SAMPLE, needs_dev_games
from tests.xiangqi.sample_games import GAMES

OPENING = ("h2e2", "h9g7", "h0g2", "i9h9")


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, **options: str) -> tuple[list[Game], list[GameError]]:
    errors: list[GameError] = []
    return list(read_games(path, on_error=errors.append, **options)), errors  # type: ignore[arg-type]


def chinese_pgn(game: Game) -> str:
    """Return a game as PGN in Chinese notation."""
    words = []
    for number, (board, move) in enumerate(game.replay()):
        words += [f"{number // 2 + 1}."] if number % 2 == 0 else []
        words.append(to_chinese(board, move))
    return f'[Event "x"]\n[Result "{game.result}"]\n\n{" ".join(words)} {game.result}\n\n'


ONE = [
    "1. h2e2 h9g7 2. h0g2 i9h9 *",
    "1.h2e2 h9g7 2.h0g2 i9h9 *",
    "1. H2-E2 H9-G7 2. H0-G2 I9-H9",
    "1. 炮二平五 马8进7 2. 马二进三 车9平8",
    "1.炮二平五 馬８進７ 2.馬二進三 車９平８ *",
    "1. 炮二平五 1... 马8进7\r\n2. 马二进三 {2. 炮八平五 1-0} 车9平8\r\n*\r\n",
    "h2e2! h9g7?! (h9i7 {why (not)} h0g2 (a0a1) 1-0) $14 h0g2 ; i9i8 1-0\ni9h9 *",
    "% escaped 1-0\n1. h2e2 {a comment\n[not a tag\nover lines} h9g7 2. h0g2+ i9h9#",
    '\ufeff[Event "BOM"]\n1. h2e2 h9g7 2. h0g2 i9h9 *',
]


@pytest.mark.parametrize("text", ONE)
def test_ways_to_write_one_pgn_game(text: str, tmp_path: Path) -> None:
    (game,) = read_games(write(tmp_path, "a.pgn", text))
    assert game.moves == OPENING and game.result == "*" and game.fen == START


def test_the_parts_of_a_pgn_game(tmp_path: Path) -> None:
    text = (
        '[Event "A \\"cup\\" [1]"]\n[Result "0-1"]\n[FEN "4k4/9/9/9/9/9/9/r8/9/3K4R b"]\n\n1... a2a3 2. i0i1 *\n'
        '[Event "B"]\n[Result "红胜"]\n\n[Round "2"]\n1. h2e2\n[Event "C"]\n\n1-0\n'
        '[Event "D"]\n{between tags}\n[Result "?"]\nh2e2 1/2-1/2 {after the end}\n\n\n'
    )
    first, second, third, fourth = read_games(write(tmp_path, "a.pgn", text))
    assert first.tags["Event"] == 'A "cup" [1]' and first.result == "0-1" and first.moves == ("a2a3", "i0i1")
    assert first.fen == "4k4/9/9/9/9/9/9/r8/9/3K4R b - - 0 1"
    assert (second.result, second.tags["Round"], second.moves) == ("1-0", "2", ("h2e2",))
    assert (third.result, third.moves, third.tags) == ("1-0", (), {"Event": "C"})
    assert fourth.result == "1/2-1/2" and fourth.tags["Event"] == "D"


def test_lines_and_json_lines(tmp_path: Path) -> None:
    lines = "# a comment\nh2e2 h9g7 h0g2 i9h9 1-0\n\nH2-E2 马8进7 h0g2 i9h9\n"
    for name in ("a.txt", "a.iccs"):
        games = list(read_games(write(tmp_path, name, lines)))
        assert [(game.moves, game.result) for game in games] == [(OPENING, "1-0"), (OPENING, "*")]
    objects = [
        {"moves": " ".join(OPENING), "result": "0-1", "event": "x"},
        {"moves": list(OPENING)},
        {"moves": "", "result": "1/2-1/2"},
        {"moves": "a2a3", "fen": "4k4/9/9/9/9/9/9/r8/9/3K4R b"},
    ]
    games = list(read_games(write(tmp_path, "a.jsonl", "\n".join(map(json.dumps, objects)))))
    assert [game.result for game in games] == ["0-1", "*", "1/2-1/2", "*"]
    assert games[0].moves == games[1].moves == OPENING and games[0].tags["event"] == "x"
    assert games[3].moves == ("a2a3",)
    assert next(read_games(write(tmp_path, "b", lines), format="iccs")).moves == OPENING
    assert list(read_games(write(tmp_path, "empty.pgn", ""))) == []


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-8-sig"])
def test_chinese_pgn_of_real_games(encoding: str, tmp_path: Path) -> None:
    games = [Game(moves, result) for moves, (_, result) in zip(SAMPLE, GAMES, strict=True)]
    path = write(tmp_path, "a.pgn", "".join(map(chinese_pgn, games)).encode(encoding))
    found = list(read_games(path, encoding=encoding))
    assert [(game.moves, game.result) for game in found] == [(game.moves, game.result) for game in games]
    assert found[0].tags == {"Event": "x", "Result": games[0].result}


def test_big5(tmp_path: Path) -> None:
    text = "1. 炮二平五 馬８進７ 2. 馬二進三 車９平８ *"
    path = write(tmp_path, "a.pgn", text.encode("big5"))
    assert next(read_games(path, encoding="big5")).moves == OPENING
    _, (error,) = read(path)
    assert "cannot be decoded; pass the file's encoding" in str(error) and error.ply == 1


PGN_FAULTS = {
    "1. h2e2 h9g7 2. h0h5 i9h9 1-0": (3, "h0h5 is not legal: the Red knight on h0 cannot go there"),
    "1. h2e2 h2e2 1-0": (2, "expected a piece of Black on h2, which is empty"),
    "1. 炮二平五 炮五平二 1-0": (2, "'炮五平二' names no legal move of Black"),
    "1. Nf3 1-0": (1, "expected an ICCS move such as h2e2"),
    "1. 炮二 1-0": (1, "expected a move in Chinese notation such as"),
    '[Result "1-0"]\n1. h2e2 0-1': (None, "expected one result, got 1-0 and 0-1"),
    '[Result "won"]\n1. h2e2 1-0': (None, "expected one of 1-0, 0-1, 1/2-1/2, * as the result, got 'won'"),
    '[FEN "9/9 w"]\n1. h2e2 1-0': (None, "FEN '9/9 w': expected 10 ranks"),
    "[Result 1-0]\n1. h2e2 1-0": (None, "expected a tag such as"),
    '1. h2e2 {never closed 1-0\n\n[Site "x"]\n': (None, "expected } at the end of a comment"),
    "{never closed, and no move\n": (None, "expected } at the end of a comment"),
    "1. h2e2 (h9g7 1-0\n": (None, "expected ) at the end of a variation"),
}


@pytest.mark.parametrize("text", PGN_FAULTS)
def test_a_bad_game_is_one_error_and_the_others_are_kept(text: str, tmp_path: Path) -> None:
    good = '[Event "good"]\n\n1. h2e2 h9g7 2. h0g2 i9h9 1-0\n\n'
    path = write(tmp_path, "a.pgn", f'{good}[Event "bad"]\n{text}\n\n{good}')
    games, errors = read(path)
    assert [game.moves for game in games] == [OPENING, OPENING]
    (error,) = errors
    ply, message = PGN_FAULTS[text]
    assert (error.file, error.game, error.ply) == (str(path), 2, ply)
    assert str(error).startswith(f"{path}, game 2" + (f", ply {ply}: " if ply else ": "))
    assert message in str(error) and "\n" not in str(error)
    reading = read_games(path)
    assert next(reading).moves == OPENING
    with pytest.raises(GameError, match="game 2"):
        next(reading)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "expected a JSON object, got '{'"),
        ("[" * 100_000, "expected a JSON object"),
        ("[]", 'expected an object with "moves"'),
        ('{"result": "1-0"}', 'expected an object with "moves"'),
        ('{"moves": [1]}', 'expected an object with "moves"'),
        ('{"moves": "h2e2", "result": "2-0"}', "as the result, got '2-0'"),
        ('{"moves": "h2e2", "result": null}', "as the result, got 'None'"),
        ('{"moves": "h2e2", "fen": 7}', "expected a FEN as a string, got int"),
        ('{"moves": "h2e2 a0a9"}', "ply 2: a0a9 is not legal"),
    ],
)
def test_bad_json_lines(line: str, message: str, tmp_path: Path) -> None:
    good = json.dumps({"moves": " ".join(OPENING)})
    games, (error,) = read(write(tmp_path, "a.jsonl", f"{good}\n{line}\n{good}\n"))
    assert len(games) == 2 and error.game == 2
    assert message in str(error) and len(str(error)) < 400


def test_bad_calls_fail_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.pgn: cannot be read: No such file"):
        read_games(tmp_path / "missing.pgn")
    with pytest.raises(InputError, match="expected one of pgn, jsonl, iccs as format=, got none"):
        read_games(write(tmp_path, "a", ""))
    with pytest.raises(InputError, match="as format=, got 'cbl'"):
        read_games(tmp_path / "a", format="cbl")
    for encoding in ("utf-16", "no-such", "hex"):
        with pytest.raises(InputError, match="expected an encoding that extends ASCII"):
            read_games(tmp_path / "a", format="pgn", encoding=encoding)
    (tmp_path / "folder.pgn").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_games(tmp_path / "folder.pgn")


def test_a_game_without_end_is_refused(tmp_path: Path) -> None:
    text = "1. " + "h2e2 h7e7 e2h2 e7h7\n" * 2_501
    _, (error,) = read(write(tmp_path, "a.pgn", text))
    assert error.ply == 10_001 and "expected at most 10,000 plies" in str(error)
    with pytest.raises(InputError, match="line 1: expected at most 1,048,576 bytes"):
        list(read_games(write(tmp_path, "b.pgn", "x" * (1 << 21))))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    line = json.dumps({"moves": " ".join(OPENING), "comment": "x" * 10_000}) + "\n"
    path = write(tmp_path, "a.jsonl", line * 300)

    def count(games: Iterator[Game]) -> int:
        return sum(1 for _ in games)

    tracemalloc.start()
    try:
        assert count(read_games(path)) == 300
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 < path.stat().st_size
    finally:
        tracemalloc.stop()


def test_an_error_survives_another_process(tmp_path: Path) -> None:
    _, (error,) = read(write(tmp_path, "a.iccs", "h2i5"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.game, again.ply) == (str(error), 1, 1)


PIECES_OF_FILES = [*"{}();%*\n ", '[Event "x"]', "[FEN ", "1.", "h2e2", "炮二平五", "h9g7", "1-0"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.lists(st.sampled_from(PIECES_OF_FILES), max_size=40).map(lambda parts: "".join(parts).encode())
    | st.binary(max_size=200),
    format=st.sampled_from(["pgn", "iccs", "jsonl"]),
    encoding=st.sampled_from(["utf-8", "gb18030", "big5"]),
)
def test_any_bytes_are_games_or_errors_of_games(text: bytes, format: str, encoding: str, tmp_path: Path) -> None:
    games, _ = read(write(tmp_path, "a", text), format=format, encoding=encoding)
    for game in games:
        assert len(list(game.replay())) == len(game.moves)


@needs_dev_games
def test_the_shared_games() -> None:
    assert DEV_GAMES is not None
    games = list(read_games(DEV_GAMES))
    assert len(games) == 500 and {game.result for game in games} == {"1-0", "0-1", "1/2-1/2"}
    assert all(game.fen == START for game in games)
    assert mirror_game(games[0]).moves[0] == "h0g2"
