"""The requests of a game: moves, replies, undo, hints, and everything that is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from kexue_hf.xiangqi import START, Board, read_games, to_chinese
from tests.play.web.asgi_client import Client, begin, client_of, path_of
from tests.play.web.stub_player import StubPlayer

# Red mates by e1d1, and has other moves.
MATE_IN_ONE = "3k5/9/9/9/9/9/9/9/2R1R4/4K4 w - - 0 7"
BLACK_FIRST = START.replace(" w ", " b ")


def play(client: Client, state: Any, move: str) -> Any:
    """Make a move and let the model reply; return the state after both."""
    answer = client.post(path_of(state, "move"), {"move": move, "revision": state["revision"]})
    assert answer.status == 200, answer.body
    return reply(client, answer.json())


def reply(client: Client, state: Any) -> Any:
    answer = client.post(path_of(state, "reply"), {"revision": state["revision"]})
    assert answer.status == 200, answer.body
    return answer.json()


def test_a_state_tells_all_that_the_page_shows() -> None:
    client = client_of(StubPlayer(answers=("h7e7",)))
    state = begin(client)
    assert state["pieces"]["e0"] == "K" and state["pieces"]["e9"] == "k" and len(state["pieces"]) == 32
    assert {origin + target for origin, targets in state["targets"].items() for target in targets} == set(
        Board().legal_moves()
    )
    assert not state["can_undo"] and state["turn"] == state["side"] == "w"
    state = play(client, state, "H2-E2")
    assert [move["iccs"] for move in state["moves"]] == ["h2e2", "h7e7"]
    assert [move["chinese"] for move in state["moves"]] == ["炮二平五", "炮８平５"]
    assert state["choice"]["chinese"] == "炮８平５" and state["choice"]["line"][0]["move"] == "h7e7"
    assert state["last_move"] == "h7e7" and state["can_undo"] and state["revision"] == 2
    state = play(client, state, "e2e6")
    assert state["check"] is None and state["moves"][2]["chinese"] == "炮五进四"
    assert client.get(path_of(state)).json() == {key: value for key, value in state.items() if key != "choice"}


def test_a_check_is_told_and_only_ways_out_are_offered() -> None:
    client = client_of()
    state = begin(client, fen="4k4/9/9/9/4r4/9/9/9/9/4K4 w")
    assert state["check"] == "e0" and list(state["targets"]) == ["e0"]
    assert sorted(state["targets"]["e0"]) == ["d0", "f0"]


@pytest.mark.parametrize(("side", "fen"), [("b", START), ("w", BLACK_FIRST)])
def test_the_model_moves_first_where_it_is_to_move(side: str, fen: str) -> None:
    client = client_of()
    state = begin(client, side, fen=fen)
    assert state["targets"] == {} and not state["can_undo"]
    state = reply(client, state)
    assert len(state["moves"]) == 1 and state["turn"] == side and state["targets"]
    assert not state["can_undo"]
    assert state["first"] == {"turn": fen.split()[1], "number": 1}


def test_undo_takes_back_the_persons_move_and_the_answer() -> None:
    client = client_of()
    first = begin(client)
    state = play(client, first, "h2e2")
    undone = client.post(path_of(state, "undo"), {"revision": state["revision"]}).json()
    assert undone["fen"] == first["fen"] and undone["moves"] == [] and undone["revision"] == state["revision"] + 1
    # Before the answer, one move is taken back.
    state = client.post(path_of(first, "move"), {"move": "b0c2", "revision": undone["revision"]}).json()
    undone = client.post(path_of(state, "undo"), {"revision": state["revision"]}).json()
    assert undone["fen"] == first["fen"] and undone["turn"] == "w"
    assert client.post(path_of(state, "undo"), {"revision": undone["revision"]}).code == "nothing_to_undo"


def test_a_hint_changes_nothing() -> None:
    client = client_of(StubPlayer(answers=("h2e2",)))
    state = begin(client, strength="nodes-50")
    hint = client.post(path_of(state, "hint"), {"revision": 0}).json()
    assert hint["choice"]["move"] == "h2e2" and hint["choice"]["candidates"][0]["chinese"] == "炮二平五"
    assert hint["revision"] == 0 and hint["moves"] == []


def test_an_analysis_lists_the_best_moves() -> None:
    player = StubPlayer()
    client = client_of(player)
    state = begin(client)
    found = client.get(path_of(state, "analysis")).json()
    probabilities = player.move_probabilities(Board())
    assert [row["move"] for row in found["candidates"]] == list(probabilities)[:8]
    assert [row["chinese"] for row in found["candidates"]] == [to_chinese(Board(), move) for move in probabilities][:8]
    assert found["evaluation"] == pytest.approx(player.evaluate(Board())) and found["revision"] == 0
    assert client.get(path_of(state, "analysis")).json() == found


@pytest.mark.parametrize(
    ("strength", "limits"), [("policy", (0, None)), ("nodes-800", (800, None)), ("seconds-3", (None, 3.0))]
)
def test_a_strength_limits_the_search(strength: str, limits: tuple[int | None, float | None]) -> None:
    player = StubPlayer()
    client = client_of(player)
    state = begin(client, strength="nodes-50")
    changed = client.post(path_of(state, "strength"), {"strength": strength}).json()
    assert changed["strength"] == strength and changed["revision"] == 0
    play(client, changed, "h2e2")
    assert player.calls == [limits]


def test_mate_ends_the_game(tmp_path: Path) -> None:
    client = client_of()
    state = begin(client, fen=MATE_IN_ONE)
    state = client.post(path_of(state, "move"), {"move": "e1d1", "revision": 0}).json()
    assert state["outcome"] == {"result": "1-0", "reason": "checkmate", "winner": "w"}
    assert state["targets"] == {} and state["check"] == "d9"
    analysis = client.get(path_of(state, "analysis")).json()
    assert analysis == {"revision": 1, "candidates": [], "evaluation": [1.0, 0.0, 0.0]}
    for action, fields in (("reply", {}), ("hint", {}), ("move", {"move": "d9d8"})):
        assert client.post(path_of(state, action), {"revision": 1, **fields}).code == "over"
    undone = client.post(path_of(state, "undo"), {"revision": 1}).json()
    assert undone["outcome"] is None and undone["turn"] == "w"


def test_the_pgn_is_read_back(tmp_path: Path) -> None:
    client = client_of(StubPlayer(answers=("h7e7",)))
    state = play(client, begin(client), "h2e2")
    answer = client.get(path_of(state, "game.pgn"))
    assert answer.headers["content-disposition"].startswith('attachment; filename="xiangqi-2')
    (tmp_path / "game.pgn").write_bytes(answer.body)
    (game,) = read_games(tmp_path / "game.pgn")
    assert game.moves == ("h2e2", "h7e7") and game.result == "*" and game.tags["Red"] == "Player"
    assert game.tags["Black"] == 'a "model"'


BAD_GAMES: list[tuple[Any, str]] = [
    ({"side": "w"}, "strength is missing"),
    ({"side": "x", "strength": "policy"}, "expected w (Red) or b (Black)"),
    ({"side": 1, "strength": "policy"}, "side: expected a string"),
    ({"side": None, "strength": "policy"}, "side: expected a string"),
    ({"side": "w", "strength": "strong"}, "expected one of policy, nodes-50"),
    ({"side": "w", "strength": "policy", "fen": 5}, "fen: expected a string"),
    ({"side": "w", "strength": "policy", "fen": "nonsense"}, "expected w, r or b as the side"),
    ({"side": "w", "strength": "policy", "fen": "9/9/9/9/9/9/9/9/9/9 w"}, "expected one king of each side"),
    ({"side": "w", "strength": "policy", "fen": "k" * 201}, "expected at most 200 characters"),
    ({"side": "w", "strength": "policy", "fen": "\ud800 w"}, "FEN"),
    ({"side": "w", "strength": "policy", "more": 1}, "unknown field 'more'"),
    ({"side": "w", "strength": "policy", "\ud800": 1}, "unknown field"),
    ([], "expected a JSON object, got list"),
    ("w", "expected a JSON object, got str"),
    (b"", "expected a JSON object"),
    (b"{", "expected a JSON object"),
    (b"\xff\xfe", "expected a JSON object"),
    (b"[" * 4000, "expected a JSON object"),
    (b"NaN", "got float"),
]


@pytest.mark.parametrize(("fields", "message"), BAD_GAMES, ids=[message for _, message in BAD_GAMES])
def test_a_wrong_new_game_is_refused_in_one_line(fields: Any, message: str) -> None:
    answer = client_of().post("/api/games", fields)
    assert answer.status == 400
    found = answer.json()["error"]["message"]
    assert message in found and "\n" not in found


BAD_MOVES: list[tuple[Any, int, str]] = [
    ({"move": "h2h9", "revision": 2}, 400, "illegal"),
    ({"move": "a9a8", "revision": 2}, 400, "illegal"),
    ({"move": "e5e6", "revision": 2}, 400, "illegal"),
    ({"move": "h2e2; rm", "revision": 2}, 400, "illegal"),
    ({"move": "\ud800", "revision": 2}, 400, "illegal"),
    ({"move": "炮二平五", "revision": 2}, 400, "illegal"),
    ({"move": ["h2e2"], "revision": 2}, 400, "field"),
    ({"move": "b0c2", "revision": 1}, 409, "stale"),
    ({"move": "b0c2", "revision": 3}, 409, "stale"),
    ({"move": "b0c2", "revision": -1}, 409, "stale"),
    ({"move": "b0c2", "revision": True}, 400, "field"),
    ({"move": "b0c2", "revision": 2.0}, 400, "field"),
    ({"move": "b0c2", "revision": "2"}, 400, "field"),
    ({"move": "b0c2", "revision": None}, 400, "field"),
    ({"move": "b0c2"}, 400, "field"),
    ({"revision": 2}, 400, "field"),
    (b'{"move": "b0c2", "revision": 1e999}', 400, "field"),
]


@pytest.mark.parametrize(("fields", "status", "code"), BAD_MOVES, ids=[str(fields) for fields, _, _ in BAD_MOVES])
def test_a_wrong_move_is_refused_and_changes_nothing(fields: Any, status: int, code: str) -> None:
    client = client_of()
    state = play(client, begin(client), "h2e2")
    before = client.get(path_of(state)).json()
    answer = client.post(path_of(state, "move"), fields)
    assert (answer.status, answer.code) == (status, code)
    assert "\n" not in answer.json()["error"]["message"]
    assert (answer.json().get("state") == before) == (status == 409)
    assert client.get(path_of(state)).json() == before


@pytest.mark.parametrize("action", ["reply", "hint", "move"])
def test_nobody_moves_out_of_turn(action: str) -> None:
    client = client_of()
    side = "w" if action == "reply" else "b"
    state = begin(client, side)
    fields = {"revision": 0, **({"move": "h2e2"} if action == "move" else {})}
    answer = client.post(path_of(state, action), fields)
    assert (answer.status, answer.code) == (409, "turn")
    assert client.get(path_of(state)).json()["moves"] == []


def test_a_page_that_missed_an_undo_cannot_move() -> None:
    client = client_of(StubPlayer(answers=("h7e7",)))
    seen = play(client, begin(client), "h2e2")
    other = client.post(path_of(seen, "undo"), {"revision": seen["revision"]}).json()
    other = play(client, other, "b0c2")
    assert len(other["moves"]) == len(seen["moves"])
    answer = client.post(path_of(seen, "move"), {"move": "h0g2", "revision": seen["revision"]})
    assert answer.code == "stale" and answer.json()["state"]["moves"][0]["iccs"] == "b0c2"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json;charset=utf-8", 201),
    ],
)
def test_only_json_is_read(content_type: str, status: int) -> None:
    body = json.dumps({"side": "w", "strength": "policy"}).encode()
    assert client_of().post("/api/games", body, content_type=content_type).status == status


@pytest.mark.parametrize("size", [4097, 1_000_000])
def test_a_large_body_is_refused(size: int) -> None:
    client = client_of()
    answer = client.post("/api/games", b" " * size)
    assert (answer.status, answer.code) == (413, "too_large")


@pytest.mark.parametrize("path", ["/api/games/none", "/api/games/none/analysis", "/api/games/none/game.pgn", "/api/x"])
def test_what_is_not_there_is_not_found(path: str) -> None:
    answer = client_of().get(path)
    assert answer.status == 404 and "\n" not in answer.json()["error"]["message"]


def test_a_wrong_method_is_refused() -> None:
    client = client_of()
    state = begin(client)
    assert client.get(path_of(state, "move")).status == 405
    assert client.post(path_of(state), {}).status == 405


@pytest.mark.parametrize("action", ["reply", "analysis"])
def test_a_failing_model_leaves_the_game_sound(action: str) -> None:
    player = StubPlayer(fault=RuntimeError("out of\nmemory"))
    client = client_of(player)
    state = begin(client, "b")
    path = path_of(state, action)
    answer = client.get(path) if action == "analysis" else client.post(path, {"revision": 0})
    assert (answer.status, answer.code) == (500, "model") and "RuntimeError" in answer.json()["error"]["message"]
    assert client.get(path_of(state)).json() == state
    player.fault = None
    assert client.get(path_of(state, "analysis")).status == 200
    assert len(reply(client, state)["moves"]) == 1


def test_an_illegal_choice_of_the_model_leaves_the_game_sound() -> None:
    player = StubPlayer(forced="a0a9")
    client = client_of(player)
    state = begin(client, "b")
    answer = client.post(path_of(state, "reply"), {"revision": 0})
    assert (answer.status, answer.code) == (500, "model") and "a0a9" in answer.json()["error"]["message"]
    assert client.get(path_of(state)).json() == state
