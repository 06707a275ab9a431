"""Games of xiangqi as rows of ids, and a collator that turns them by the symmetries of the rules."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from kexue_hf.corpora.row_order import random_generator
from kexue_hf.errors import InputError
from kexue_hf.models.xiangqi_gpt.configuration_xiangqi_gpt import RESULTS
from kexue_hf.xiangqi.fen import is_start
from kexue_hf.xiangqi.games import Game
from kexue_hf.xiangqi.outcome import RED_WINS
from kexue_hf.xiangqi.symmetry import FLIPPED, MIRRORED

# Class of each result.
CLASSES = {result: index for index, result in RESULTS.items()}
_DRAW = 1
_IGNORED = -100


def game_rows(games: Iterable[Game], tokenizer: Any, max_length: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each game: `input_ids` with [PAD] before the first and after the last move, `result`, `length`.

    Longer games are cut to `max_length` ids. `result` is 0 (Red won), 1 (draw), 2 (Black won) or -100 (unknown). Games
    that start from another position are left out, as the moves do not tell it.
    """
    for game in games:
        if game.moves and is_start(game.fen):
            ids = tokenizer(" ".join(game.moves), truncation=False)["input_ids"]
            ids = [*ids, tokenizer.eos_token_id][:max_length]
            yield {"input_ids": ids, "result": CLASSES.get(game.result, _IGNORED), "length": len(ids)}


class GamesCollator:
    """Pad games to one length, some of them mirrored or with the colours exchanged.

    Which games are changed is a function of the seed and of each game's `row` and `epoch` (as in `OrderedTrainer`),
    whatever the batch, the process or the worker; without these columns, of the seed and the place in the batch.

    Args:
        tokenizer: a XiangqiTokenizer.
        mirror: fraction of the games with left and right exchanged.
        flip: fraction of the games with the colours exchanged: Black then begins, and the result changes sides.
        results: return `results`, for a model with a value head.
        winner_only: only the moves of the winner are labels; both sides' in a draw, and none if the result is unknown.
        seed: seed of the choice.

    Raises:
        InputError: a fraction is not from 0 to 1.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        mirror: float = 0.5,
        flip: float = 0.0,
        results: bool = True,
        winner_only: bool = False,
        seed: int = 0,
    ) -> None:
        for name, share in (("mirror", mirror), ("flip", flip)):
            if not 0 <= share <= 1:
                raise InputError(f"{name} must be from 0 to 1, got {share}")
        self.mirror, self.flip, self.winner_only, self.seed = mirror, flip, winner_only, seed
        self.results = results
        self.pad_token_id: int = tokenizer.pad_token_id
        self.ids_per_move: int = tokenizer.ids_per_move
        tokens = tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size))
        number = {token: index for index, token in enumerate(tokens)}
        self._mirrored, self._flipped = (
            np.array([number.get(token.translate(table), index) for index, token in enumerate(tokens)])
            for table in (MIRRORED, FLIPPED)
        )

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Return `input_ids`, `attention_mask`, `labels` [batch, length] and `results` [batch] as int64.

        A result is 0, 1, 2, or -100 if it is unknown.
        """
        longest = max(len(feature["input_ids"]) for feature in features)
        ids = np.full((len(features), longest), self.pad_token_id, dtype=np.int64)
        labels, mask = np.full_like(ids, _IGNORED), np.zeros_like(ids)
        results = np.full(len(features), _IGNORED, dtype=np.int64)
        for row, feature in enumerate(features):
            # The 4 separates these numbers from those that order rows and make views.
            random = random_generator(self.seed, int(feature.get("epoch", 0)), 4, int(feature.get("row", row)))
            mirrored, flipped = random.random(2) < (self.mirror, self.flip)
            game, result = np.asarray(feature["input_ids"], dtype=np.int64), int(feature.get("result", _IGNORED))
            # Before the colours change, the first to move is Red.
            is_label = self._is_label(len(game), result)
            if mirrored:
                game = self._mirrored[game]
            if flipped:
                game = self._flipped[game]
                result = 2 - result if result >= 0 else result
            ids[row, : len(game)], mask[row, : len(game)], results[row] = game, 1, result
            labels[row, : len(game)] = np.where(is_label, game, _IGNORED)
        arrays: dict[str, np.ndarray] = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if self.results:
            arrays["results"] = results
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _is_label(self, length: int, result: int) -> np.ndarray:
        """Return which tokens are labels, boolean [length]."""
        # Token 0 is [PAD]; the [PAD] after the last move counts as a move, by the side that resigned or was mated.
        plies = (np.arange(length) - 1) // self.ids_per_move
        if not self.winner_only or result == _DRAW:
            return plies >= 0
        if result == _IGNORED:
            return np.zeros(length, dtype=bool)
        first_won = result == CLASSES[RED_WINS]
        return (plies >= 0) & ((plies % 2 == 0) == first_won)


__all__ = ["CLASSES", "GamesCollator", "game_rows"]
