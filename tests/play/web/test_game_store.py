"""Games in memory: how many, how long, and which one is dropped."""

import pytest

from kexue_hf.play.web.game import Thought, WebGame
from kexue_hf.play.web.game_store import GameStore
from kexue_hf.play.web.request_errors import RequestError
from kexue_hf.xiangqi import Board


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def add(store: GameStore) -> WebGame:
    return store.add("w", "policy", Board())


def is_there(store: GameStore, game: WebGame) -> bool:
    try:
        return store.get(game.id) is game
    except RequestError as error:
        assert error.status == 404
        return False


def test_ids_cannot_be_guessed() -> None:
    store = GameStore()
    ids = {add(store).id for _ in range(100)}
    assert len(ids) == 100 and min(map(len, ids)) >= 22


def test_the_longest_unused_game_makes_room() -> None:
    store = GameStore(most=3)
    first, second, third = add(store), add(store), add(store)
    assert is_there(store, first)
    fourth = add(store)
    assert len(store) == 3 and not is_there(store, second)
    assert all(is_there(store, game) for game in (first, third, fourth))


def test_a_game_that_is_thought_about_stays_if_another_can_go() -> None:
    store = GameStore(most=2)
    first, second = add(store), add(store)
    first.thought = Thought()
    third = add(store)
    assert is_there(store, first) and not is_there(store, second)
    third.thought = Thought()
    fourth = add(store)
    assert len(store) == 2 and is_there(store, fourth)
    # The search of the dropped game is stopped.
    assert first.thought.stop.is_set() != third.thought.stop.is_set()


@pytest.mark.parametrize(("seconds", "kept"), [(9.0, True), (11.0, False)])
def test_an_idle_game_is_dropped(seconds: float, kept: bool) -> None:
    clock = Clock()
    store = GameStore(longest_idle=10, clock=clock)
    game = add(store)
    clock.now = 5.0
    assert is_there(store, game)
    clock.now += seconds
    assert is_there(store, game) == kept
