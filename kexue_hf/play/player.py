"""XiangqiPlayer: chooses moves by the policy of a Xiangqi GPT, alone or with a search.

player = XiangqiPlayer.from_pretrained()      # the model in the package; or a folder, or a name on the Hub
board = Board()
choice = player.choose(board, seconds=1)
board.push(choice.move)
"""

import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from kexue_hf.errors import InputError
from kexue_hf.play.choice import Candidate, Choice, results_of_score, value_of_score
from kexue_hf.play.loading import load_parts
from kexue_hf.play.piece_values import PIECE_VALUE, material
from kexue_hf.play.policy import Policy
from kexue_hf.play.quiet_score import quiet_score
from kexue_hf.play.root_search import Limits, Progress, RootMove, RootSearch
from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.coordinates import iccs_of, squares_of

# Centipawns for a nat of log-probability, and for an expected result of 1 by the value head.
_POLICY_WEIGHT, _VALUE_WEIGHT = 10.0, 60.0
# A move less probable than this gets no further malus.
_LEAST_LOG_PROBABILITY = -7.0
# When moves are drawn: how much worse than the best one a move may be, and the centipawns of a nat.
_DRAW_MARGIN, _DRAW_SCALE = 60, 20.0
_Views = tuple[dict[str, float], list[tuple[float, float, float]] | None]


class XiangqiPlayer:
    """A player of xiangqi. Several threads and games may use one; none affects another.

    The policy is the probability of each legal move's ids after the moves of the game. The search is alpha-beta over
    material, in which the policy and the value head, if the model has one, add to the scores of the first moves.

    The model reads games from the usual start that fit its `max_position_embeddings`. In other positions (another FEN,
    a longer game) the policy knows no more than that captures of greater pieces come first, and the search decides.

    Args:
        model: a `XiangqiGptForCausalLM`.
        tokenizer: its `XiangqiTokenizer`.
        value_head: a layer on the trunk's states, from hidden size to 3 classes (`XiangqiGptForSequenceClassification`
            calls it `classifier`).
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
        self.nodes = _whole("nodes", nodes)
        self.temperature = _not_negative("temperature", temperature)
        self.opening_plies = _whole("opening_plies", opening_plies)
        self.opening_temperature = _not_negative("opening_temperature", opening_temperature)
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
            device: a torch device; `auto` takes a GPU if there is one.
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
        probabilities, _ = self._views(board, with_results=False)
        return dict(sorted(probabilities.items(), key=lambda item: -item[1]))

    def evaluate(self, board: Board) -> tuple[float, float, float]:
        """Return the probabilities of a win of Red, a draw and a win of Black.

        They come from the value head or, without one or in a position that the model cannot read, from material after
        all captures. An ended game has its result.
        """
        outcome = board.outcome()
        if outcome is not None:
            return {"w": (1.0, 0.0, 0.0), "b": (0.0, 0.0, 1.0), None: (0.0, 1.0, 0.0)}[outcome.winner]
        if self.has_value_head and self._policy.can_read(board):
            result = self._policy.view(board).result
            assert result is not None  # there is a value head
            return result
        own, draw, other = results_of_score(quiet_score(board))
        return (own, draw, other) if board.side > 0 else (other, draw, own)

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
            report: called in this thread after each depth of the search.

        Raises:
            InputError: there is no legal move, all are excluded, or a limit is out of its range.
        """
        started = time.perf_counter()
        limited = seconds is not None or depth is not None
        nodes = _whole("nodes", (0 if limited else self.nodes) if nodes is None else nodes)
        if seconds is not None:
            _not_negative("seconds", seconds)
        if depth is not None and _whole("depth", depth) < 1:
            raise InputError(f"depth: expected a whole number from 1, got {depth!r}")
        if temperature is None:
            in_opening = len(board.moves) < self.opening_plies
            temperature = self.opening_temperature if in_opening else self.temperature
        _not_negative("temperature", temperature)
        probabilities, results = self._views(board, with_results=bool(nodes or limited))
        allowed = [move for move in probabilities if move not in exclude]
        if not allowed:
            raise InputError(
                "expected a legal move to choose, but every one is excluded"
                if probabilities
                else f"the game is over: {'Red' if board.side > 0 else 'Black'} has no legal move; take a move back"
            )
        if not (nodes or limited):
            return self._by_policy(board, probabilities, allowed, temperature, started)
        bonuses = self._bonuses(board.side, probabilities, results)
        search = RootSearch(
            board,
            {squares_of(move): bonuses[move] for move in allowed},
            Limits(nodes, seconds, depth, stop),
            _DRAW_MARGIN if temperature else 0,
            report,
        )
        found = search.run()
        chosen = self._draw_entry(board, found, temperature)
        candidates = [
            Candidate(iccs_of(entry.move), probabilities[iccs_of(entry.move)], entry.nodes, _value(entry))
            for entry in found
        ]
        line = search.line if search.line[:1] == [iccs_of(chosen.move)] else [iccs_of(chosen.move)]
        seconds_taken = time.perf_counter() - started
        return Choice(
            iccs_of(chosen.move),
            candidates,
            _value(chosen),
            line,
            search.nodes,
            seconds_taken,
            chosen.score,
            search.depth,
        )

    def _by_policy(
        self, board: Board, probabilities: Mapping[str, float], allowed: list[str], temperature: float, started: float
    ) -> Choice:
        """Choose by the policy alone."""
        red, _, black = self.evaluate(board)
        value = (red - black) * board.side
        order = sorted(allowed, key=lambda move: -probabilities[move])
        logits = [math.log(max(probabilities[move], 1e-300)) for move in order]
        move = order[self._draw(board, logits, temperature)]
        candidates = [Candidate(other, probabilities[other], 0, value) for other in order]
        score = material(board.squares) * board.side
        return Choice(move, candidates, value, [move], 0, time.perf_counter() - started, score)

    def _views(self, board: Board, with_results: bool) -> _Views:
        """Return the probability of each legal move and, if asked for and known, the results after each."""
        if self._policy.can_read(board):
            view = self._policy.view(board, with_results)
            return dict(zip(view.moves, map(math.exp, view.log_probabilities), strict=True)), view.results
        squares = board.squares
        weights = {move: 1.0 + PIECE_VALUE[abs(squares[squares_of(move)[1]])] / 100 for move in board.legal_moves()}
        total = sum(weights.values())
        return {move: weight / total for move, weight in weights.items()}, None

    def _bonuses(
        self,
        side: int,
        probabilities: Mapping[str, float],
        results: list[tuple[float, float, float]] | None,
    ) -> dict[str, int]:
        """Return the centipawns that the model adds to each move's score."""
        values = [(red - black) * side for red, _, black in results] if results else itertools.repeat(0.0)
        return {
            move: round(
                _POLICY_WEIGHT * max(_LEAST_LOG_PROBABILITY, math.log(max(probability, 1e-300)))
                + _VALUE_WEIGHT * value
            )
            for (move, probability), value in zip(probabilities.items(), values, strict=False)
        }

    def _draw_entry(self, board: Board, found: list[RootMove], temperature: float) -> RootMove:
        """Return the best move of a search or, at a temperature, one nearly as good."""
        best = found[0].total
        near = [entry for entry in found if entry is found[0] or (entry.exact and entry.total >= best - _DRAW_MARGIN)]
        return near[self._draw(board, [entry.total / _DRAW_SCALE for entry in near], temperature)]

    def _draw(self, board: Board, logits: list[float], temperature: float) -> int:
        """Return the first index at temperature 0, else a drawn one, which depends on the game and the seed only."""
        if temperature == 0 or len(logits) == 1:
            return 0
        source: random.Random = random.SystemRandom()
        if self.seed is not None:
            source = random.Random(f"{self.seed} {board.start_fen} {' '.join(board.moves)}")
        weights = [math.exp(max(-700.0, (logit - max(logits)) / temperature)) for logit in logits]
        return source.choices(range(len(logits)), weights)[0]


def _value(entry: RootMove) -> float:
    return value_of_score(entry.score)


def _whole(name: str, number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InputError(f"{name}: expected a whole number from 0, got {number!r}")
    return number


def _not_negative(name: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise InputError(f"{name}: expected a number from 0, got {number!r}")
    return float(number)


__all__ = ["Candidate", "Choice", "XiangqiPlayer"]
