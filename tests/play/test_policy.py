"""The policy against the plain way: each legal move as the end of a whole sequence of its own."""

import math
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from kexue_hf import InputError, XiangqiPlayer, XiangqiTokenizer
from kexue_hf.generation.move_trie import MoveTrie
from kexue_hf.play.history_caches import HistoryCaches
from kexue_hf.play.policy import Policy
from kexue_hf.xiangqi import Board
from tests.play.tiny_players import MATE_IN_ONE, SOME_GAME, tiny_parts, tiny_player
from tests.xiangqi.positions import played

BOTH = pytest.mark.parametrize("vocab", ["characters", "squares"])


def naive(model: Any, tokenizer: Any, head: Any, board: Board) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probabilities of the legal moves, and the results after each."""
    rows = ["".join([*board.moves, move]) for move in board.legal_moves()]
    batch = tokenizer(rows, return_tensors="pt")
    ids, length = batch["input_ids"], tokenizer.ids_per_move
    with torch.no_grad():
        scores = model(**batch).logits.log_softmax(-1)
        states = model.bert(**batch).last_hidden_state[:, -1]
        results = head(states).softmax(-1)
    of_ids = scores[:, -length - 1 : -1].gather(-1, ids[:, -length:, None])[..., 0].sum(-1)
    return of_ids.log_softmax(-1), results


@BOTH
@pytest.mark.parametrize("board_input", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_equal_to_whole_sequences(vocab: str, attention: str, board_input: bool) -> None:
    model, tokenizer, head = tiny_parts(vocab, board_input=board_input)
    model.set_attn_implementation(attention)
    policy = Policy(model, tokenizer, head)
    board = Board()
    for ply in range(0, len(SOME_GAME) + 1, 3):
        for move in SOME_GAME[len(board.moves) : ply]:
            board.push(move)
        view = policy.view(board, with_results=True)
        expected, results = naive(model, tokenizer, head, board)
        assert view.moves == board.legal_moves()
        torch.testing.assert_close(torch.tensor(view.log_probabilities).float(), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.tensor(view.results), results, atol=1e-5, rtol=0)
        assert max(expected) - min(expected) > 1  # the model has an opinion
        with torch.no_grad():
            last = model.bert(**tokenizer("".join(board.moves), return_tensors="pt")).last_hidden_state[0, -1]
            torch.testing.assert_close(torch.tensor(view.result), head(last).softmax(-1), atol=1e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("board_input", [False, True])
def test_the_cache_follows_any_order_of_games(vocab: str, board_input: bool) -> None:
    """Continued, shortened, another game, the start: as with a fresh policy."""
    model, tokenizer, head = tiny_parts(vocab, board_input=board_input)
    policy = Policy(model, tokenizer, head)
    other = ["h2e2", "h9g7", "c3c4", "b9c7"]
    for moves in (SOME_GAME, SOME_GAME[:3], other, [], SOME_GAME[:7], SOME_GAME, SOME_GAME):
        board = played(moves)
        expected = Policy(model, tokenizer, head).view(board, True)
        found = policy.view(board, True)
        assert found.log_probabilities == pytest.approx(expected.log_probabilities, abs=1e-5)
        assert sum(found.results, ()) == pytest.approx(sum(expected.results, ()), abs=1e-5)


@pytest.fixture
def new_ids(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that counts the ids of the game that a policy reads for a position."""
    model, tokenizer, _ = tiny_parts(value=False)
    policy = Policy(model, tokenizer)
    widths: list[int] = []
    forward = model.bert.forward

    def counted(*, input_ids: torch.Tensor, **arguments: Any) -> Any:
        widths.append(input_ids.shape[1])
        return forward(input_ids, **arguments)

    monkeypatch.setattr(model.bert, "forward", counted)

    def read(moves: list[str]) -> int:
        board = played(moves)
        policy.view(board)
        return widths[-1] - len(MoveTrie([tokenizer.move_ids(move) for move in board.legal_moves()], False).nodes)

    return read


def test_a_continued_game_reads_its_new_moves_only(new_ids: Any) -> None:
    assert [new_ids(SOME_GAME[:length]) for length in (8, 9, 10)] == [33, 4, 4]


def test_games_that_begin_alike_in_turn_read_their_new_moves_only(new_ids: Any) -> None:
    first = [*SOME_GAME, "h6h4", "h9h8"]
    second = [*SOME_GAME[:2], "c3c4", "b9c7", "b0c2", "c9e7", "a0a1"]
    assert [new_ids(first[:8]), new_ids(second[:3])] == [33, 4]
    for length in range(4, 8):
        assert (new_ids(first[: length + 5]), new_ids(second[:length])) == (4, 4)
    assert (new_ids(second[:5]), new_ids(first[:10])) == (1, 1)  # moves taken back


def test_moves_share_their_beginnings() -> None:
    trie = MoveTrie([(1, 2, 3), (1, 2, 4), (1, 5, 3), (6, 2, 3)], with_ends=False)
    assert [node.token for node in trie.nodes] == [1, 2, 5, 6, 2]
    assert trie.paths[1] == [(-1, 1), (0, 2), (1, 4)] and trie.ends == [-1] * 4
    whole = MoveTrie([(1, 2, 3), (1, 2, 4)], with_ends=True)
    assert [whole.nodes[end].token for end in whole.ends] == [3, 4] and len(whole.nodes) == 4
    assert whole.ancestors(whole.ends[1]) == [3, 1, 0]


@BOTH
def test_probabilities_sum_to_one_best_first(vocab: str) -> None:
    board = played(SOME_GAME)
    found = tiny_player(vocab).move_probabilities(board)
    assert set(found) == set(board.legal_moves())
    assert sum(found.values()) == pytest.approx(1) and list(found.values()) == sorted(found.values(), reverse=True)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("ending", [False, True])
def test_both_judgements_in_one_pass(value: bool, ending: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    player, passes = tiny_player(value=value), []
    board = Board(MATE_IN_ONE) if ending else played(SOME_GAME)
    if ending:
        board.push("b0b9")
    expected = player.move_probabilities(board), player.evaluate(board)
    view = Policy.view
    monkeypatch.setattr(Policy, "view", lambda *arguments: passes.append(1) or view(*arguments))
    probabilities, results = player.assess(board)
    assert probabilities == pytest.approx(expected[0]) and results == pytest.approx(expected[1])
    assert list(probabilities) == list(expected[0]) and len(passes) == (0 if ending else 1)


def test_fifty_games_at_once_are_as_alone() -> None:
    player = tiny_player(temperature=1.0, seed=5)

    def game(number: int) -> tuple[list[str], list[float]]:
        board, generator = Board(), random.Random(number)
        values = []
        for _ in range(2):
            board.push(generator.choice(board.legal_moves()))
            board.push(player.choose(board).move)
            values.append(next(iter(player.move_probabilities(board).values())))
        return board.moves, values

    alone = [game(number) for number in range(50)]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(game, range(50)))
    assert [moves for moves, _ in together] == [moves for moves, _ in alone]
    for (_, first), (_, second) in zip(alone, together, strict=True):
        assert first == pytest.approx(second, abs=1e-5)


def test_the_number_of_caches_is_bounded() -> None:
    model, _tokenizer, _ = tiny_parts(value=False)
    caches = HistoryCaches(model.config)
    for number in range(100):
        game = [0, 1, 2, *[3 + number] * 40]
        cache = caches.take(game)
        assert cache.ids == ([0, 1, 2] if number else [])
        cache.ids = game
        caches.give_back(cache)
    assert len(caches._free) == 64 and caches.take(game).ids == game


@pytest.mark.parametrize("case", ["another start", "too long"])
def test_positions_that_the_model_cannot_read(case: str) -> None:
    """Captures of greater pieces are more probable; values come from material."""
    model, tokenizer, head = tiny_parts(max_position_embeddings=12)
    player = XiangqiPlayer(model, tokenizer, value_head=head)
    board = Board("3k5/4r4/9/9/9/9/4R4/9/9/4K4 w") if case == "another start" else played(["h2h9", "i9h9"])
    found = player.move_probabilities(board)
    assert sum(found.values()) == pytest.approx(1) and set(found) == set(board.legal_moves())
    if case == "another start":
        assert next(iter(found)) == "e3e8"
        red, draw, black = player.evaluate(board)
        assert red > 0.8 and red + draw + black == pytest.approx(1)
    assert player.choose(board).move in found and player.choose(board, nodes=300).move in found


def test_the_usual_start_written_as_a_fen_is_read() -> None:
    board = Board("rnbakabnr/9/1c5c1/p1p1p1p1p/9/9/P1P1P1P1P/1C5C1/9/RNBAKABNR r")
    player = tiny_player()
    assert player.move_probabilities(board) == player.move_probabilities(Board())


def test_a_game_of_2000_plies_is_playable() -> None:
    player = tiny_player()
    board = Board(no_capture_limit=None, occurrences=None)
    cycle = ["a0a1", "a9a8", "a1a0", "a8a9"]
    for ply in range(2000):
        if ply % 400 == 399:
            assert math.isclose(sum(player.move_probabilities(board).values()), 1)
            assert player.choose(board, nodes=50).move in board.legal_moves()
        board.push(cycle[ply % 4])
    assert len(board.moves) == 2000


def test_the_value_head_of_the_model_is_used() -> None:
    model, tokenizer, _ = tiny_parts(value_head=True)
    board = played(SOME_GAME)
    player, expected = XiangqiPlayer(model, tokenizer), XiangqiPlayer(model, tokenizer, value_head=model.classifier)
    assert player.has_value_head and not tiny_player(value=False).has_value_head
    assert player.evaluate(board) == pytest.approx(expected.evaluate(board), abs=1e-6)
    with torch.no_grad():
        scores = model(**tokenizer("".join(board.moves), return_tensors="pt")).value_logits[0, -1]
    assert player.evaluate(board) == pytest.approx(scores.softmax(-1).tolist(), abs=1e-5)


def test_another_vocabulary_is_refused() -> None:
    model, _, _ = tiny_parts()
    with pytest.raises(InputError, match="expected a tokenizer of 20 tokens, as the model has, got 91"):
        Policy(model, XiangqiTokenizer(vocab="squares"))


def test_a_value_head_with_other_classes_is_refused() -> None:
    model, tokenizer, head = tiny_parts()
    model.config.id2label = {0: "good", 1: "bad", 2: "ugly"}
    with pytest.raises(InputError, match="expected a value head with the classes 1-0, 1/2-1/2, 0-1, got bad"):
        Policy(model, tokenizer, head)


def test_the_classes_may_stand_in_any_order() -> None:
    model, tokenizer, head = tiny_parts()
    usual = Policy(model, tokenizer, head).view(Board()).result
    model.config.id2label = {0: "0-1", 1: "1-0", 2: "1/2-1/2"}
    other = Policy(model, tokenizer, head).view(Board()).result
    assert other == (usual[1], usual[2], usual[0])
