"""Searches that take their time: other requests meanwhile, clients that go away, many games at once."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kexue_hf.play.web.game_store import GameStore
from kexue_hf.play.web.thinking import MOST_ANALYSES, MOST_SEARCHES
from kexue_hf.xiangqi import Board
from tests.play.web.asgi_client import Answer, Client, begin, client_of, path_of
from tests.play.web.stub_player import StubChoice, StubPlayer

POLICY = {"strength": "policy"}


@pytest.fixture
def player() -> Iterator[StubPlayer]:
    """A player that thinks until `hold` is set."""
    player = StubPlayer(hold=threading.Event())
    yield player
    assert player.hold is not None
    player.hold.set()


async def until(event: threading.Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.005)


async def settle() -> None:
    """Let every request go as far as it can."""
    for _ in range(12):
        await asyncio.sleep(0)


def held(player: StubPlayer) -> threading.Event:
    assert player.hold is not None
    return player.hold


def asking(client: Client, path: str, revision: int = 0, leave: asyncio.Event | None = None) -> "asyncio.Task[Answer]":
    return asyncio.ensure_future(client.request("POST", path, {"revision": revision}, disconnect=leave))


def test_the_server_answers_while_the_model_thinks(player: StubPlayer) -> None:
    client = client_of(player)
    state = begin(client, "b")

    async def work() -> None:
        thinking = asking(client, path_of(state, "reply"))
        await until(player.started)
        seen = (await client.request("GET", path_of(state))).json()
        assert seen["thinking"] and seen["moves"] == []
        again = await client.request("POST", path_of(state, "reply"), {"revision": 0})
        assert (again.status, again.code) == (409, "thinking")
        assert not thinking.done()
        held(player).set()
        assert len((await thinking).json()["moves"]) == 1
        assert not (await client.request("GET", path_of(state))).json()["thinking"]

    client.run(work())


def test_a_client_that_goes_away_stops_the_search(player: StubPlayer) -> None:
    client = client_of(player)
    state = begin(client, "b")

    async def work() -> None:
        leave = asyncio.Event()
        thinking = asking(client, path_of(state, "reply"), leave=leave)
        await until(player.started)
        leave.set()
        await thinking
        assert player.stopped.is_set()
        seen = (await client.request("GET", path_of(state))).json()
        assert seen == state
        held(player).set()
        answer = await client.request("POST", path_of(state, "reply"), {"revision": 0})
        assert len(answer.json()["moves"]) == 1

    client.run(work())


class SlowToStop(StubPlayer):
    """A player that needs its time to end, until `released` is set."""

    released = threading.Event()

    def choose(self, board: Board, **options: Any) -> StubChoice:
        choice = super().choose(board, **options)
        self.released.wait(20)
        return choice


def test_a_page_that_is_loaded_again_waits_for_the_stopped_search() -> None:
    player = SlowToStop(hold=threading.Event())
    client = client_of(player)
    state = begin(client, "b")

    async def work() -> None:
        leave = asyncio.Event()
        thinking = asking(client, path_of(state, "reply"), leave=leave)
        await until(player.started)
        leave.set()
        await until(player.stopped)
        again = asking(client, path_of(state, "reply"))
        await settle()
        assert not thinking.done() and not again.done() and len(player.calls) == 1
        held(player).set()
        player.released.set()
        assert ((await thinking).code, (await again).status, len(player.calls)) == ("stopped", 200, 2)

    client.run(work())


def test_undo_ends_a_search_and_drops_its_move(player: StubPlayer) -> None:
    client = client_of(player)
    state = begin(client)

    async def work() -> None:
        moved = (await client.request("POST", path_of(state, "move"), {"move": "h2e2", "revision": 0})).json()
        thinking = asking(client, path_of(state, "reply"), moved["revision"])
        await until(player.started)
        undone = (await client.request("POST", path_of(state, "undo"), {"revision": moved["revision"]})).json()
        assert undone["moves"] == [] and not undone["thinking"]
        answer = await thinking
        assert (answer.status, answer.code) == (409, "stale") and player.stopped.is_set()
        assert answer.json()["state"]["moves"] == []
        # The search had a board of its own.
        assert player.boards[0].moves == ["h2e2"]

    client.run(work())


def test_a_move_ends_a_hint(player: StubPlayer) -> None:
    client = client_of(player)
    state = begin(client)

    async def work() -> None:
        hint = asking(client, path_of(state, "hint"))
        await until(player.started)
        moved = (await client.request("POST", path_of(state, "move"), {"move": "h2e2", "revision": 0})).json()
        assert len(moved["moves"]) == 1
        assert (await hint).code == "stale"
        held(player).set()
        answer = await client.request("POST", path_of(state, "reply"), {"revision": moved["revision"]})
        assert len(answer.json()["moves"]) == 2

    client.run(work())


def test_a_cancelled_request_stops_its_search(player: StubPlayer) -> None:
    client = client_of(player)
    state = begin(client, "b")

    async def work() -> None:
        thinking = asking(client, path_of(state, "reply"))
        await until(player.started)
        thinking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await thinking
        await until(player.stopped)
        held(player).set()
        answer = await client.request("POST", path_of(state, "reply"), {"revision": 0})
        assert len(answer.json()["moves"]) == 1

    client.run(work())


def test_an_analysis_is_computed_for_all_who_wait_even_if_the_first_goes(player: StubPlayer) -> None:
    client = client_of(player)
    state = begin(client)

    async def work() -> None:
        first, second = (asyncio.ensure_future(client.request("GET", path_of(state, "analysis"))) for _ in range(2))
        await until(player.started)
        first.cancel()
        await asyncio.sleep(0)
        held(player).set()
        assert (await second).status == 200 and first.cancelled()

    client.run(work())


def asking_for_analysis(client: Client, state: Any, leave: asyncio.Event | None = None) -> "asyncio.Task[Answer]":
    return asyncio.ensure_future(client.request("GET", path_of(state, "analysis"), disconnect=leave))


def test_analyses_that_nobody_waits_for_are_dropped(player: StubPlayer) -> None:
    client = client_of(player, store=GameStore(most=10))
    first, gone, cancelled, moved, evicted = (begin(client) for _ in range(5))

    async def work() -> None:
        running = asking_for_analysis(client, first)
        await until(player.started)
        leave = asyncio.Event()
        waiting = {
            "gone": asking_for_analysis(client, gone, leave),
            "cancelled": asking_for_analysis(client, cancelled),
            "moved": asking_for_analysis(client, moved),
            "evicted": asking_for_analysis(client, evicted),
        }
        await settle()
        leave.set()
        waiting["cancelled"].cancel()
        await client.request("POST", path_of(moved, "move"), {"move": "h2e2", "revision": 0})
        for state in (first, moved):
            await client.request("GET", path_of(state))
        for _ in range(8):
            await client.request("POST", "/api/games", {"side": "w", "strength": "policy"})
        await settle()
        held(player).set()
        assert (await running).status == 200
        assert (await waiting["moved"]).json()["revision"] == 1
        assert (await waiting["evicted"]).code == "stopped"
        assert [board.moves for board in player.assessed] == [[], ["h2e2"]]

    client.run(work())


def test_an_analysis_that_was_dropped_is_made_when_it_is_wanted_again(player: StubPlayer) -> None:
    client = client_of(player)
    first, state = begin(client), begin(client)

    async def work() -> None:
        running = asking_for_analysis(client, first)
        await until(player.started)
        leave = asyncio.Event()
        left = asking_for_analysis(client, state, leave)
        await settle()
        leave.set()
        await left
        again = asking_for_analysis(client, state)
        held(player).set()
        assert ((await running).status, (await again).status) == (200, 200) and len(player.assessed) == 2

    client.run(work())


@pytest.mark.parametrize(("action", "most"), [("analysis", MOST_ANALYSES), ("reply", MOST_SEARCHES)])
def test_the_number_of_waiting_requests_is_bounded(player: StubPlayer, action: str, most: int) -> None:
    """Also of analyses whose game and client have gone, since they stay in the queue until their turn."""
    client = client_of(player, store=GameStore(most=3 if action == "analysis" else 2 * most))

    def ask(state: Any, leave: asyncio.Event | None = None) -> "asyncio.Task[Answer]":
        if action == "analysis":
            return asking_for_analysis(client, state, leave)
        return asking(client, path_of(state, "reply"), leave=leave)

    async def new() -> Any:
        return (
            await client.request("POST", "/api/games", {"side": "b" if action == "reply" else "w", **POLICY})
        ).json()

    async def work() -> None:
        leave = asyncio.Event()
        tasks = [ask(await new(), leave)]
        await until(player.started)
        for _ in range(most - 1):
            tasks.append(ask(await new(), leave))
            await settle()
        if action == "analysis":
            leave.set()
        await settle()
        state = await new()
        refused = await ask(state)
        assert (refused.status, refused.code) == (429, "busy")
        held(player).set()
        await asyncio.gather(*tasks)
        while (answer := await ask(state)).status == 429:  # until the queue is empty
            await asyncio.sleep(0.01)
        assert answer.status == 200

    client.run(work())


def test_analyses_do_not_delay_replies(player: StubPlayer) -> None:
    client = client_of(player)
    states = [begin(client) for _ in range(10)]
    mine = begin(client, "b")

    async def work() -> None:
        tasks = [asking_for_analysis(client, state) for state in states]
        await until(player.started)
        player.started.clear()
        reply = asking(client, path_of(mine, "reply"))
        await until(player.started)
        assert player.calls
        held(player).set()
        await asyncio.gather(reply, *tasks)

    client.run(work())


def test_fifty_games_at_once() -> None:
    client = client_of()
    states = [begin(client, "b" if number % 2 else "w") for number in range(50)]

    async def play(index: int) -> int:
        state = states[index]
        for _ in range(6):
            if state["turn"] == state["side"]:
                origin, targets = next(iter(state["targets"].items()))
                fields = {"move": origin + targets[0], "revision": state["revision"]}
                answer = await client.request("POST", path_of(state, "move"), fields)
            else:
                answer = await client.request("POST", path_of(state, "reply"), {"revision": state["revision"]})
            assert answer.status == 200, answer.body
            state = answer.json()
        return len(state["moves"])

    async def work() -> list[int]:
        return await asyncio.gather(*map(play, range(50)))

    assert client.run(work()) == [6] * 50


def test_waiting_games_are_thought_about_in_turn(player: StubPlayer) -> None:
    client = client_of(player)
    states = [begin(client, "b") for _ in range(50)]

    async def work() -> list[int]:
        tasks = [asking(client, path_of(state, "reply")) for state in states]
        await until(player.started)
        extra = await client.request("POST", "/api/games", {"side": "w", "strength": "policy"})
        assert extra.status == 201 and not any(task.done() for task in tasks)
        held(player).set()
        return [(await task).status for task in tasks]

    assert client.run(work()) == [200] * 50


def test_a_client_that_goes_away_before_its_turn_costs_no_search(player: StubPlayer) -> None:
    client = client_of(player)
    states = [begin(client, "b") for _ in range(20)]

    async def work() -> None:
        leave = asyncio.Event()
        stay = [asking(client, path_of(state, "reply")) for state in states[:10]]
        gone = [asking(client, path_of(state, "reply"), leave=leave) for state in states[10:]]
        await until(player.started)
        leave.set()
        for _ in range(50):
            await asyncio.sleep(0)
        held(player).set()
        assert [(await task).status for task in stay] == [200] * 10
        await asyncio.gather(*gone)
        assert len(player.calls) == 10

    client.run(work())
