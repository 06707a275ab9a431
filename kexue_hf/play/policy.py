"""The model's view of a position: exact probabilities of the legal moves and, with a value head, of the results.

The moves of the game stand in a cache. One forward pass reads those that are new together with a tree of all legal
moves, whose tokens see the history and their own beginning only.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kexue_hf.errors import InputError
from kexue_hf.generation.move_trie import MoveTrie
from kexue_hf.generation.tree_inputs import tree_inputs
from kexue_hf.models.xiangqi_gpt.cache_name_xiangqi_gpt import CACHE
from kexue_hf.models.xiangqi_gpt.configuration_xiangqi_gpt import RESULTS
from kexue_hf.play.history_caches import HistoryCaches
from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.fen import is_start
from kexue_hf.xiangqi.squares import SQUARE_NAMES


@dataclass(frozen=True)
class View:
    """What the model says of a position.

    Attributes:
        log_probabilities: of each legal move, in the order of `moves`; their exponentials sum to 1.
        result: probabilities of a win of Red, a draw and a win of Black; None without a value head.
        results: the same after each of the moves; None without a value head, or if not asked for.
    """

    moves: list[str]
    log_probabilities: list[float]
    result: tuple[float, float, float] | None
    results: list[tuple[float, float, float]] | None


class Policy:
    """A causal language model of games, with or without a value head on its trunk. Several threads may use it.

    It keeps what the model computed for the games so far: after a change of the weights, make a new one.

    Args:
        model: a `XiangqiGptForCausalLM`.
        tokenizer: its `XiangqiTokenizer`.
        value_head: a layer that maps the last token's state [batch, hidden] to scores of the results, in the order of
            the configuration's `id2label`; by default the model's own, if it has one.

    Raises:
        InputError: the tokenizer has another vocabulary than the model, or the labels are no results.
    """

    def __init__(self, model: Any, tokenizer: Any, value_head: torch.nn.Module | None = None) -> None:
        if model.config.vocab_size != len(tokenizer):
            raise InputError(
                f"expected a tokenizer of {model.config.vocab_size} tokens, as the model has, got {len(tokenizer)}; "
                "load both from the same folder"
            )
        if value_head is None:
            value_head = model.classifier
        self._model = model.eval()
        self._value_head = None if value_head is None else value_head.eval()
        self._columns = _result_columns(model.config) if value_head is not None else []
        half = tokenizer.ids_per_move // 2
        self._ids = {name: tuple(tokenizer.move_ids(name + name)[:half]) for name in SQUARE_NAMES}
        self._bos: int = tokenizer.pad_token_id
        self._move_length: int = tokenizer.ids_per_move
        self._caches = HistoryCaches(model.config)

    @property
    def has_value_head(self) -> bool:
        return self._value_head is not None

    def can_read(self, board: Board) -> bool:
        """Return whether the model can read a game: from the usual start, and not longer than its positions."""
        length = 1 + len(board.moves) * self._move_length
        if length + self._move_length > self._model.config.max_position_embeddings:
            return False
        return is_start(board.start_fen)

    def view(self, board: Board, with_results: bool = False) -> View:
        """Return the probabilities of a position that the model can read.

        Args:
            with_results: also return the results after each move.
        """
        moves = board.legal_moves()
        game = [self._bos, *itertools.chain.from_iterable(map(self._move_ids, board.moves))]
        with_results = with_results and self._value_head is not None
        trie = MoveTrie(map(self._move_ids, moves), with_results)
        states = self._states(game, trie)
        with torch.inference_mode():
            # State 0 belongs to the last token of the history, so node i has the index i + 1.
            scores = self._model.cls(states[: 1 + len(trie.nodes)]).float().log_softmax(-1).cpu().double()
            rows = torch.tensor([[node + 1 for node, _ in path] for path in trie.paths], dtype=torch.long)
            columns = torch.tensor([[token for _, token in path] for path in trie.paths], dtype=torch.long)
            sums = scores[rows, columns].sum(-1) if moves else torch.empty(0, dtype=torch.double)
            log_probabilities = sums.log_softmax(-1).tolist() if moves else []
            result = results = None
            if self._value_head is not None:
                places = [0, *(end + 1 for end in trie.ends)] if with_results else [0]
                found = self._value_head(states[places]).float().softmax(-1)[:, self._columns].tolist()
                result = _triple(found[0])
                results = [_triple(row) for row in found[1:]] if with_results else None
        return View(moves, log_probabilities, result, results)

    def _move_ids(self, move: str) -> tuple[int, ...]:
        return self._ids[move[:2]] + self._ids[move[2:]]

    def _states(self, game: list[int], trie: MoveTrie) -> torch.Tensor:
        """Return the states [1 + nodes, hidden] of the game's last token and of the nodes."""
        history = self._caches.take(game)
        # The last token is always read again, since its state is not kept.
        history.crop(len(game) - 1)
        past, new = len(history.ids), len(game) - len(history.ids)
        inputs = tree_inputs(self._model, game, [(len(game) - 1, trie)], past)
        with torch.inference_mode():
            outputs = self._model.bert(**inputs, use_cache=True, **{CACHE: history.cache})
        history.ids = [*game, *(node.token for node in trie.nodes)]
        history.crop(len(game))
        self._caches.give_back(history)
        return outputs.last_hidden_state[0, new - 1 :]


def _result_columns(config: Any) -> list[int]:
    """Return the classes of a win of Red, a draw and a win of Black."""
    classes = {label: int(index) for index, label in config.id2label.items()}
    if set(classes) != set(RESULTS.values()):
        raise InputError(
            f"expected a value head with the classes {', '.join(RESULTS.values())}, got {', '.join(sorted(classes))}; "
            "set id2label in the configuration"
        )
    return [classes[RESULTS[index]] for index in range(3)]


def _triple(row: Sequence[float]) -> tuple[float, float, float]:
    red, draw, black = row
    return red, draw, black


__all__ = ["Policy", "View"]
