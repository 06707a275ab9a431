"""XiangqiPlayer: chooses moves by the policy of a Xiangqi GPT, alone or with a search.

player = XiangqiPlayer.from_pretrained()      # the model in the package; or a folder, or a name on the Hub
board = Board()
choice = player.choose(board, seconds=1)
board.push(choice.move)
"""

import math
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.play.choice import Candidate, Choice, results_of_score, value_of_score
from kexue_hf.play.draws import drawn_index
from kexue_hf.play.loading import load_parts
from kexue_hf.play.option_checks import number_from_0, whole_number
from kexue_hf.play.piece_values import PIECE_VALUE
from kexue_hf.play.policy import Policy, View
from kexue_hf.play.quiet_score import quiet_score
from kexue_hf.play.root_search import Limits, Progress, RootMove, RootSearch
from kexue_hf.xiangqi import Board, Outcome
from kexue_hf.xiangqi.coordinates import iccs_of, squares_of

# Centipawns for a nat of log-probability, and for an expected result of 1 by the value head.
_POLICY_WEIGHT, _VALUE_WEIGHT = 10.0, 60.0
# A move less probable than this gets no further malus.
_LEAST_LOG_PROBABILITY = -7.0
# When moves are drawn: how much worse than the best one a move may be, and the centipawns of a nat.
_DRAW_MARGIN, _DRAW_SCALE = 60, 20.0


class XiangqiPlayer:
    """A player of xiangqi. Several threads and games may use one; none affects another.

    It keeps what the model computed for the games so far: after a change of the weights, make a new one.

    The policy is the probability of each legal move's ids after the moves of the game. The search is alpha-beta over
    material, in which the policy and the value head, if the model has one, add to the scores of the first moves.

    The model reads games from the usual start that fit its `max_position_embeddings`. In other positions (another FEN,
    a longer game) the policy knows no more than that captures of greater pieces come first, and the search decides.

    Args:
        model: a `XiangqiGptForCausalLM`.
        tokenizer: its `XiangqiTokenizer`.
        value_head: a layer on the trunk's states, from hidden size to 3 classes (`XiangqiGptForSequenceClassification`
            calls it `classifier`); by default the model's own, if `config.value_head` is set.
        nodes: positions to search for a move; 0 plays the policy alone. The first depth is always finished, so that
            mates in one and hanging pieces are seen.
        temperature: 0 plays the best move; above, moves are drawn, with a search only from those nearly as good.
        opening_plies: half-moves from the start of the game in which moves are drawn at `opening_temperature`.
        seed: makes draws repeatable: the same game, seed and nodes give the same move. By default draws differ.

    Raises:
        InputError: an option is out of its range, or tokenizer or value head do not belong to the model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        value_head: Any = None,
        nodes: int = 0,
        temperature: float = 0.0,
        opening_plies: int = 0,
        opening_temperature: float = 1.0,
        seed: int | None = None,
    ) -> None:
        self.nodes = whole_number("nodes", nodes)
        self.temperature = number_from_0("temperature", temperature)
        self.opening_plies = whole_number("opening_plies", opening_plies)
        self.opening_temperature = number_from_0("opening_temperature", opening_temperature)
        self.seed = seed
        self._policy = Policy(model, tokenizer, value_head)

    @classmethod
    def from_pretrained(
        cls, folder_or_name: str | Path | None = None, *, device: str = "auto", **options: Any
    ) -> "XiangqiPlayer":
        """Load a player.

        Args:
            folder_or_name: a folder, or a name on the Hub; by default the model in the package. A `classifier` in the
                file is the value head.
            device: a torch device; `auto` takes a CUDA GPU if there is one.
            options: those of the class.

        Raises:
            InputError: the model cannot be loaded, or is no Xiangqi GPT.
        """
        model, tokenizer, value_head = load_parts(folder_or_name, device)
        return cls(model, tokenizer, value_head=value_head, **options)

    @property
    def has_value_head(self) -> bool:
        """Whether values come from the model; otherwise they come from material."""
        return self._policy.has_value_head

    def move_probabilities(self, board: Board) -> dict[str, float]:
        """Return the policy's probability of each legal move, the best first; they sum to 1.

        Moves of equal probability stand in the order of `Board.legal_moves`. After mate or stalemate there are none.
        """
        return _probabilities(self._view(board, with_results=False))

    def evaluate(self, board: Board) -> tuple[float, float, float]:
        """Return the probabilities of a win of Red, a draw and a win of Black.

        They come from the value head or, without one or in a position that the model cannot read, from material after
        all captures. An ended game has its result.
        """
        outcome = board.outcome()
        if outcome is None and self.has_value_head and self._policy.can_read(board):
            return _results(board, outcome, self._policy.view(board))
        return _results(board, outcome, None)

    def assess(self, board: Board) -> tuple[dict[str, float], tuple[float, float, float]]:
        """Return what `move_probabilities` and `evaluate` return, from one pass of the model."""
        view = self._view(board, with_results=False)
        return _probabilities(view), _results(board, board.outcome(), view)

    def choose(
        self,
        board: Board,
        *,
        nodes: int | None = None,
        seconds: float | None = None,
        depth: int | None = None,
        temperature: float | None = None,
        exclude: Collection[str] = (),
        stop: threading.Event | None = None,
        ponder_hit: threading.Event | None = None,
        report: Callable[[Progress], object] | None = None,
    ) -> Choice:
        """Choose a move. The board is unchanged; a game that has ended by a draw rule may go on.

        Args:
            nodes: positions to search; by default the player's, unless another limit is given. 0 plays the policy.
            seconds: time to search. The first of the limits ends the search.
            depth: half-moves to search.
            temperature: 0 for the best move; by default the player's, or that of the opening.
            exclude: moves not to consider.
            stop: end the search when it is set, with the best move so far.
            ponder_hit: think until it is set, and then up to the limits, of which `seconds` begin then.
            report: called in this thread after each depth of the search.

        Raises:
            InputError: there is no legal move, all are excluded, or a limit is out of its range.
        """
        started = time.perf_counter()
        limited = seconds is not None or depth is not None
        nodes = whole_number("nodes", (0 if limited else self.nodes) if nodes is None else nodes)
        if seconds is not None:
            number_from_0("seconds", seconds)
        if depth is not None and whole_number("depth", depth) < 1:
            raise InputError(f"depth: expected a whole number from 1, got {depth!r}")
        if temperature is None:
            in_opening = len(board.moves) < self.opening_plies
            temperature = self.opening_temperature if in_opening else self.temperature
        number_from_0("temperature", temperature)
        view = self._view(board, with_results=bool(nodes or limited))
        allowed = [move for move in view.moves if move not in exclude]
        if not allowed:
            raise InputError(
                "expected a legal move to choose, but every one is excluded"
                if view.moves
                else f"the game is over: {'Red' if board.side > 0 else 'Black'} has no legal move; take a move back"
            )
        if not (nodes or limited):
            return self._by_policy(board, view, allowed, temperature, started)
        left = seconds
        if seconds is not None and ponder_hit is None:
            left = max(0.0, seconds - (time.perf_counter() - started))
        limits = Limits(nodes, left, depth, stop, ponder_hit)
        return self._by_search(board, view, allowed, temperature, limits, report, started)

    def _by_policy(self, board: Board, view: View, allowed: list[str], temperature: float, started: float) -> Choice:
        """Choose by the policy alone."""
        known = dict(zip(view.moves, view.log_probabilities, strict=True))
        order = sorted(allowed, key=lambda move: -known[move])
        move = order[drawn_index(board, [known[other] for other in order], temperature, self.seed)]
        score = quiet_score(board)
        value = value_of_score(score) if view.result is None else (view.result[0] - view.result[2]) * board.side
        candidates = [Candidate(other, math.exp(known[other]), 0, value) for other in order]
        return Choice(move, candidates, value, [move], 0, time.perf_counter() - started, score)

    def _by_search(
        self,
        board: Board,
        view: View,
        allowed: list[str],
        temperature: float,
        limits: Limits,
        report: Callable[[Progress], object] | None,
        started: float,
    ) -> Choice:
        """Choose by a search, to which the model adds."""
        known = dict(zip(view.moves, view.log_probabilities, strict=True))
        results = [] if view.results is None else view.results
        # Without a value head there are none.
        after = {move: (red - black) * board.side for move, (red, _, black) in zip(view.moves, results, strict=False)}
        bonuses = {squares_of(move): _bonus(known[move], after.get(move, 0.0)) for move in allowed}
        search = RootSearch(board, bonuses, limits, _DRAW_MARGIN if temperature else 0, report)
        found = {iccs_of(entry.move): entry for entry in search.run()}
        near = _nearly_best(list(found.values()))
        totals = [entry.total / _DRAW_SCALE for entry in near]
        chosen = near[drawn_index(board, totals, temperature, self.seed)]
        values = {move: _value(entry, after.get(move)) for move, entry in found.items()}
        candidates = [
            Candidate(move, math.exp(known[move]), entry.nodes, values[move]) for move, entry in found.items()
        ]
        move = iccs_of(chosen.move)
        line = search.line if search.line[:1] == [move] else [move]
        taken = time.perf_counter() - started
        return Choice(move, candidates, values[move], line, search.nodes, taken, chosen.score, search.depth)

    def _view(self, board: Board, with_results: bool) -> View:
        """Return the model's view, or one by captures in a position that it cannot read."""
        if self._policy.can_read(board):
            return self._policy.view(board, with_results)
        squares, moves = board.squares, board.legal_moves()
        weights = [1.0 + PIECE_VALUE[abs(squares[squares_of(move)[1]])] / 100 for move in moves]
        return View(moves, [math.log(weight / sum(weights)) for weight in weights], None, None)


def _probabilities(view: View) -> dict[str, float]:
    known = dict(zip(view.moves, map(math.exp, view.log_probabilities), strict=True))
    return dict(sorted(known.items(), key=lambda item: -item[1]))


def _results(board: Board, outcome: Outcome | None, view: View | None) -> tuple[float, float, float]:
    """Return the result of an ended game, or that of the model's view, or else one by material."""
    if outcome is not None:
        return {"w": (1.0, 0.0, 0.0), "b": (0.0, 0.0, 1.0), None: (0.0, 1.0, 0.0)}[outcome.winner]
    if view is not None and view.result is not None:
        return view.result
    own, draw, other = results_of_score(quiet_score(board))
    return (own, draw, other) if board.side > 0 else (other, draw, own)


def _nearly_best(found: list[RootMove]) -> list[RootMove]:
    """Return the moves of which one may be drawn: the best, and those that are known to be nearly as good."""
    least = found[0].total - _DRAW_MARGIN
    return [entry for entry in found if entry is found[0] or (entry.exact and entry.total >= least)]


def _bonus(log_probability: float, value: float) -> int:
    """Return the centipawns that the model adds to a move's score."""
    return round(_POLICY_WEIGHT * max(_LEAST_LOG_PROBABILITY, log_probability) + _VALUE_WEIGHT * value)


def _value(entry: RootMove, by_model: float | None) -> float:
    """Return the expected result of a searched move: the mean of the search's and the value head's."""
    value = value_of_score(entry.score)
    return value if by_model is None or abs(value) == 1 else (value + by_model) / 2


__all__ = ["Candidate", "Choice", "XiangqiPlayer"]
