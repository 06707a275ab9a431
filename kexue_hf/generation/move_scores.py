"""Exact scores of all legal moves of a game's positions, in one forward pass.

The score of a move is the sum of the log-probabilities of its tokens, given the moves before it (kexue.fm 7877). Moves
that begin alike share tokens: those of one position form a tree, see `tree_inputs`. The scores equal those of every
game continued by every legal move as a sequence of its own.
"""

from collections.abc import Sequence
from typing import Any

import torch

from kexue_hf.generation.move_trie import MoveTrie
from kexue_hf.generation.tree_inputs import tree_inputs


@torch.no_grad()
def score_moves(
    model: Any, game: Sequence[int], positions: Sequence[tuple[int, Sequence[Sequence[int]]]]
) -> list[torch.Tensor]:
    """Return the log-probability of each move of each position, float32 [moves] on the CPU.

    Args:
        model: a XiangqiGptForCausalLM in evaluation mode.
        game: the ids of the game, its first [PAD] included.
        positions: for each, the index in `game` of the last token before it, and the ids of the moves.
    """
    tries = [(last, MoveTrie(moves, with_ends=False)) for last, moves in positions]
    starts = [len(game) + sum(len(trie.nodes) for _, trie in tries[:number]) for number in range(len(tries))]
    logits = model(**tree_inputs(model, game, tries), use_cache=False).logits
    scores = logits[0].float().log_softmax(-1).cpu()
    found = []
    for (last, trie), start in zip(tries, starts, strict=True):
        # Node -1 is the game's own token.
        pairs = [[(last if node < 0 else start + node, token) for node, token in path] for path in trie.paths]
        rows, tokens = torch.tensor(pairs, dtype=torch.long).unbind(-1)
        found.append(scores[rows, tokens].sum(-1))
    return found


__all__ = ["score_moves"]
