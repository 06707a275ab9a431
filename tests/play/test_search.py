"""The search: its position against the board's, its captures, mates, repetitions, limits and draws."""

import random
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from kexue_hf import InputError
from kexue_hf.play.alpha_beta import MATE, MATE_BOUND, MATE_STEP, AlphaBeta
from kexue_hf.play.captures import pseudo_legal_captures
from kexue_hf.play.choice import results_of_score, value_of_score
from kexue_hf.play.piece_values import material, table_for, value_table
from kexue_hf.play.quiet_score import quiet_score
from kexue_hf.play.root_search import Limits, Progress, RootSearch
from kexue_hf.play.search_position import SearchPosition
from kexue_hf.xiangqi import START, Board, flip_board, mirror_board
from kexue_hf.xiangqi.attacks import is_attacked
from kexue_hf.xiangqi.coordinates import iccs_of, squares_of
from kexue_hf.xiangqi.moves import legal_moves, pseudo_legal_moves
from tests.play.tiny_players import MATE_IN_ONE, SOME_GAME, tiny_player
from tests.xiangqi.positions import SAMPLE, boards, played

# Red mates in two: the rooks follow each other to the back ranks.
MATE_IN_TWO = "4k4/9/9/R8/1R7/9/9/9/9/5K3 w"
# The pawn on e6 is guarded by the knight on c7 and attacked by the rook on e2.
POISONED = "3k5/9/2n6/4p4/9/9/9/9/4R4/4K4 w"
LOOSE_ROOK = "4k4/9/9/9/1r7/9/9/9/1R7/3K5 w"


def searched(board: Board, bonuses: dict[str, int] | None = None, **limits: object) -> RootSearch:
    given_bonuses = {squares_of(move): (bonuses or {}).get(move, 0) for move in board.legal_moves()}
    search = RootSearch(board, given_bonuses, Limits(**limits))  # type: ignore[arg-type]  # each test names valid ones
    search.run()
    return search


@settings(max_examples=40, deadline=None)
@given(boards())
def test_the_position_follows_the_board(board: Board) -> None:
    """Squares, score, hash and kings after each move and back."""
    position = SearchPosition(board)
    before = (position.hash, position.score, dict(position.kings), list(position.squares), list(position.hashes))
    assert position.squares == list(board.squares) and position.score == material(board.squares)
    table = table_for(board.squares)
    for move in legal_moves(list(position.squares), position.side):
        captured = position.push(move, False)
        after = board.copy()
        after.push(iccs_of(move))
        fresh = SearchPosition(after)
        assert (position.squares, position.side) == (fresh.squares, fresh.side)
        assert position.score == sum(table[piece][square] for square, piece in enumerate(position.squares))
        assert position.hash == fresh.hash and position.kings == fresh.kings
        position.pop(move, captured)
        assert (position.hash, position.score, position.kings, position.squares, position.hashes) == before


@settings(max_examples=40, deadline=None)
@given(boards())
def test_captures_are_the_moves_that_capture(board: Board) -> None:
    squares = list(board.squares)
    own = [square for square, piece in enumerate(squares) if piece * board.side > 0]
    expected = [move for move in pseudo_legal_moves(squares, board.side, own) if squares[move[1]]]
    assert sorted(pseudo_legal_captures(squares, board.side, own)) == sorted(expected)


def test_values_are_symmetric() -> None:
    for board in (Board(), played(SOME_GAME)):
        assert material(flip_board(board).squares) == -material(board.squares)
        assert material(mirror_board(board).squares) == material(board.squares)
    assert material(Board(START).squares) == 0
    for hunting in ((False, False), (True, False), (False, True)):
        table, other = value_table(*hunting), value_table(*reversed(hunting))
        assert table[0] == [0] * 90
        assert all(table[kind][square] == -other[-kind][89 - square] for kind in range(1, 8) for square in range(90))


def plain_minimax(board: Board, depth: int) -> int:
    """The score by the definition, without captures at the end."""
    squares, side = list(board.squares), board.side
    moves = board.legal_moves()
    if not moves:
        return -MATE
    if depth == 0:
        return material(squares) * side
    best = -2 * MATE
    for move in moves:
        board.push(move)
        best = max(best, -plain_minimax(board, depth - 1))
        board.pop()
    return best


@pytest.mark.parametrize("moves", [[], SOME_GAME])
def test_without_captures_the_score_is_that_of_minimax(moves: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pruning that may err: two half-moves are too few for reductions, and the window is open."""
    monkeypatch.setattr(AlphaBeta, "_captures", lambda self, *arguments: self.position.score * self.position.side)
    board = played(moves)
    position = SearchPosition(board)
    monkeypatch.setattr("kexue_hf.play.alpha_beta._FUTILITY", {1: MATE, 2: MATE})
    monkeypatch.setattr("kexue_hf.play.alpha_beta._EXTENSION", 0)
    assert AlphaBeta(position, lambda: None).search(2, -MATE, MATE, 0, 0) == plain_minimax(board, 2)


@pytest.mark.parametrize("nodes", [1, 2000])
def test_a_mate_in_one_is_found_with_any_limit(nodes: int) -> None:
    choice = tiny_player().choose(Board(MATE_IN_ONE), nodes=nodes)
    assert choice.move == "b0b9" and choice.value == 1.0 and choice.candidates[0].move == "b0b9"


def test_stalemate_is_a_win() -> None:
    """The king on d9 has no move after e0e1, which is no check, nor any other piece; no move mates."""
    board = Board("3k5/9/3P5/9/9/9/9/9/9/4K4 w")
    assert [move for move in board.legal_moves() if leaves_no_reply(board, move)] == ["e0e1"]
    found = searched(board, depth=1).moves[0]
    assert (iccs_of(found.move), found.score) == ("e0e1", MATE - MATE_STEP)
    assert AlphaBeta(SearchPosition(board), lambda: None).search(2, -MATE, MATE, 0, 0) >= MATE_BOUND
    board.push("e0e1")
    outcome = board.outcome()
    assert not board.is_check() and outcome is not None and outcome.result == "1-0"


def leaves_no_reply(board: Board, move: str) -> bool:
    after = board.copy()
    after.push(move)
    return not after.legal_moves()


def test_a_mate_in_two_is_found_and_reported() -> None:
    reports: list[Progress] = []
    choice = tiny_player().choose(Board(MATE_IN_TWO), nodes=20_000, report=reports.append)
    assert reports[-1].mate == 2 and len(reports[-1].line) == 3
    board = Board(MATE_IN_TWO)
    for move in choice.line:
        board.push(move)
    outcome = board.outcome()
    assert outcome is not None and outcome.result == "1-0"


@pytest.mark.parametrize(
    ("fen", "move", "wanted"), [(POISONED, "e1e6", False), (LOOSE_ROOK, "b1b5", True)], ids=["poisoned", "loose"]
)
def test_the_first_depth_sees_hanging_pieces(fen: str, move: str, wanted: bool) -> None:
    board = Board(fen)
    bonuses = {} if wanted else {move: 150}
    assert (iccs_of(searched(board, bonuses, nodes=1).moves[0].move) == move) is wanted


def test_bonuses_decide_among_equal_moves() -> None:
    for move in ("c3c4", "g0e2", "h2e2"):
        assert iccs_of(searched(Board(), {move: 200}, depth=2).moves[0].move) == move


@settings(max_examples=40, deadline=None)
@given(boards())
def test_mirrored_and_flipped_positions_are_worth_the_same(board: Board) -> None:
    score = SearchPosition(board).score
    assert SearchPosition(mirror_board(board)).score == score
    assert SearchPosition(flip_board(board)).score == -score


@pytest.mark.parametrize("plies", [7, 20, 33, 46])
def test_mirrored_and_flipped_positions_have_the_same_search(plies: int) -> None:
    """In fixed positions: one in about 800 gets another score, since pruning depends on the order of equal moves."""
    for moves in SAMPLE[:4]:
        board = Board(played(moves[:plies]).fen())
        assert searched(mirror_board(board), depth=2).moves[0].score == searched(board, depth=2).moves[0].score
        assert quiet_score(flip_board(board)) == quiet_score(board)


def repeated(fen: str, moves: str) -> Board:
    board = Board(fen)
    for move in moves.split():
        board.push(move)
    return board


def test_a_side_that_wins_does_not_repeat() -> None:
    """Red is a rook up and has made the moves once; the position would occur again."""
    board = repeated("3k5/9/9/9/9/9/9/9/4R4/4K4 w", "e1f1 d9d8 f1e1 d8d9 e1f1 d9d8")
    search = searched(board, depth=2)
    again = next(entry for entry in search.moves if iccs_of(entry.move) == "f1e1")
    assert again.settled and again.score == 0
    assert iccs_of(search.moves[0].move) != "f1e1"


def test_perpetual_check_loses() -> None:
    """Red's rook checks on d1 and e1 in turn: the repetition would lose, so another move comes first."""
    board = repeated("3k5/9/9/9/9/9/9/r8/4R4/5K3 w", "e1d1 d9e9 d1e1 e9d9 e1d1 d9e9")
    search = searched(board, depth=2)
    again = next(entry for entry in search.moves if iccs_of(entry.move) == "d1e1")
    assert again.settled and again.score < -MATE_BOUND / 2
    assert search.moves[0] is not again and search.moves[0].score > again.score


def test_the_tree_knows_perpetual_check() -> None:
    """After the cycle inside the search, its side loses, whoever is to move."""
    board = Board("3k5/9/9/9/9/9/9/r8/4R4/5K3 w")
    position = SearchPosition(board)
    for move in map(squares_of, ["e1d1", "d9e9", "d1e1", "e9d9"]):
        position.push(move, is_attacked(position.squares, position.side))
    # Red is to move and has checked all along.
    assert position.repetition(False, 4) == -1
    assert position.repetition(False, 3) is None
    position.push(squares_of("e1d1"), False)
    assert position.repetition(True, 5) == 1


def test_a_stop_ends_at_once_with_a_legal_move() -> None:
    stop = threading.Event()
    stop.set()
    player, board = tiny_player(), played(SOME_GAME)
    choice = player.choose(board, nodes=10**9, stop=stop)
    assert choice.move in board.legal_moves() and choice.nodes == 0
    later = threading.Event()
    threading.Timer(0.2, later.set).start()
    started = time.perf_counter()
    choice = player.choose(board, nodes=10**9, stop=later)
    assert choice.move in board.legal_moves() and choice.nodes > 0
    # Far below the hours of the node limit; generous for a machine under load.
    assert time.perf_counter() - started < 30


def test_a_node_limit_is_kept_and_repeats() -> None:
    player, board = tiny_player(), played(SOME_GAME)
    first, second = (player.choose(board, nodes=3000) for _ in range(2))
    assert first.nodes <= 3000
    assert (first.move, first.line, first.nodes) == (second.move, second.line, second.nodes)
    assert [entry.visits for entry in first.candidates] == [entry.visits for entry in second.candidates]
    assert sum(entry.visits for entry in first.candidates) == first.nodes


def test_the_board_is_unchanged() -> None:
    board = played(SOME_GAME)
    before = board.fen(), board.moves
    tiny_player().choose(board, nodes=2000)
    assert (board.fen(), board.moves) == before


def test_draws_depend_on_the_seed_and_the_game_alone() -> None:
    def openings(seed: int | None) -> list[str]:
        player = tiny_player(seed=seed, opening_plies=4)
        boards_seen = [Board(), played(["h2e2"]), played(["c3c4"]), played(["c3c4", "h9g7"])]
        return [player.choose(board).move for board in boards_seen]

    assert openings(1) == openings(1)
    assert len({tuple(openings(seed)) for seed in range(5)}) > 1
    assert len({tuple(openings(None)) for _ in range(6)}) > 1


def test_a_draw_with_a_search_takes_no_bad_move() -> None:
    """A rook hangs: only its capture is nearly as good as the best move."""
    board = Board(LOOSE_ROOK)
    moves = {tiny_player(seed=seed, temperature=3.0).choose(board, nodes=400).move for seed in range(8)}
    assert moves == {"b1b5"}
    opening = {tiny_player(seed=seed, temperature=3.0).choose(Board(), nodes=800).move for seed in range(8)}
    assert len(opening) > 1


def test_the_best_move_without_temperature_is_the_most_probable() -> None:
    player = tiny_player(opening_plies=0)
    board = played(SOME_GAME)
    assert player.choose(board).move == next(iter(player.move_probabilities(board)))
    random.seed(0)
    assert player.choose(board, temperature=0.0).move == player.choose(board).move


def test_excluded_moves_are_not_considered() -> None:
    player, board = tiny_player(), Board(MATE_IN_ONE)
    for limits in ({"nodes": 0}, {"nodes": 500}):
        choice = player.choose(board, exclude=["b0b9"], **limits)
        assert choice.move != "b0b9" and all(entry.move != "b0b9" for entry in choice.candidates)
    with pytest.raises(InputError, match="every one is excluded"):
        player.choose(board, exclude=board.legal_moves())


BAD: list[tuple[str, Callable[[], object], str]] = [
    ("nodes", lambda: tiny_player(nodes=-1), "nodes: expected a whole number from 0, got -1"),
    ("temperature", lambda: tiny_player(temperature=-0.5), "temperature: expected a number from 0, got -0.5"),
    ("seconds", lambda: tiny_player().choose(Board(), seconds=float("nan")), "seconds: expected a number from 0"),
    ("depth", lambda: tiny_player().choose(Board(), depth=0), "depth: expected a whole number from 1, got 0"),
    (
        "over",
        lambda: tiny_player().choose(repeated(MATE_IN_ONE, "b0b9")),
        "the game is over: Black has no legal move; take a move back",
    ),
]


@pytest.mark.parametrize(("call", "message"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_calls(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)


def test_results_of_ended_games() -> None:
    player = tiny_player()
    assert player.evaluate(repeated(MATE_IN_ONE, "b0b9")) == (1.0, 0.0, 0.0)
    assert player.evaluate(Board("3k5/9/9/9/9/9/9/9/9/4K4 w")) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("score", [0, 50, -300, 2000, MATE - MATE_STEP])
def test_results_of_scores(score: int) -> None:
    win, draw, loss = results_of_score(score)
    assert win + draw + loss == pytest.approx(1) and min(win, draw, loss) >= 0
    assert win - loss == pytest.approx(value_of_score(score))
    assert results_of_score(-score) == pytest.approx((loss, draw, win))


def test_without_a_value_head_material_decides() -> None:
    red, draw, black = tiny_player(value=False).evaluate(played(["h2h9", "h9g7"][:1]))
    # The cannon on h9 is taken back.
    assert red < black
    assert sum((red, draw, black)) == pytest.approx(1)
