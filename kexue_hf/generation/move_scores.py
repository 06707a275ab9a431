"""Exact scores of all legal moves of a game's positions, in one forward pass.

The score of a move is the sum of the log-probabilities of its tokens, given the moves before it (kexue.fm 7877). Moves
that begin alike share tokens: those of one position form a tree, whose inner nodes stand behind the game's tokens in
the same sequence. A node attends to the game up to its position, to its ancestors and to itself, so the scores equal
those of every game continued by every legal move as a sequence of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

Ids = tuple[int, ...]


@dataclass
class MoveTree:
    """The tokens of legal moves of several positions, as nodes of trees.

    Attributes:
        ids: token of each node.
        places: its position in the game.
        parents: index of the node before it, or None if that is the game's own token.
        scored: for each added position, for each of its moves, the pairs (row, id) whose log-probabilities add up;
            row r >= 0 is token r of the game, row -1 - n is node n.
    """

    ids: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    parents: list[int | None] = field(default_factory=list)
    scored: list[list[list[tuple[int, int]]]] = field(default_factory=list)

    def add(self, last: int, moves: Iterable[Ids]) -> None:
        """Add the moves of the position after token `last` of the game."""
        nodes: dict[Ids, int] = {}
        rows = []
        for ids in moves:
            pairs, parent = [(last, ids[0])], None
            for depth in range(1, len(ids)):
                node = nodes.get(ids[:depth])
                if node is None:
                    node = nodes[ids[:depth]] = len(self.ids)
                    self.ids.append(ids[depth - 1])
                    self.places.append(last + depth)
                    self.parents.append(parent)
                pairs.append((-1 - node, ids[depth]))
                parent = node
            rows.append(pairs)
        self.scored.append(rows)

    def mask(self, length: int) -> torch.Tensor:
        """Return which tokens each token sees, boolean [length + nodes, length + nodes], for a game of that length."""
        total = length + len(self.ids)
        seen = torch.zeros(total, total, dtype=torch.bool)
        seen[:length, :length] = torch.ones(length, length, dtype=torch.bool).tril()
        for node, (place, parent) in enumerate(zip(self.places, self.parents, strict=True)):
            row = length + node
            if parent is None:
                seen[row, :place] = True
            else:
                seen[row] = seen[length + parent]
            seen[row, row] = True
        return seen


@torch.no_grad()
def score_moves(model: Any, game: Sequence[int], positions: Sequence[tuple[int, Sequence[Ids]]]) -> list[torch.Tensor]:
    """Return the log-probability of each move of each position, float32 [moves] on the CPU.

    Args:
        model: a XiangqiGptForCausalLM in evaluation mode.
        game: the ids of the game, its first [PAD] included.
        positions: for each, the index in `game` of the last token before it, and the ids of the moves.
    """
    tree = MoveTree()
    for last, moves in positions:
        tree.add(last, moves)
    length = len(game)
    device, dtype = model.device, model.dtype
    ids = torch.tensor([[*game, *tree.ids]], device=device)
    places = torch.tensor([[*range(length), *tree.places]], device=device)
    seen = tree.mask(length).to(device)
    hidden = torch.zeros(1, 1, *seen.shape, dtype=dtype, device=device)
    hidden.masked_fill_(~seen, torch.finfo(dtype).min)
    logits = model(input_ids=ids, attention_mask=hidden, position_ids=places, use_cache=False).logits
    scores = logits[0].float().log_softmax(-1).cpu()
    found = []
    for rows in tree.scored:
        pairs = torch.tensor(rows, dtype=torch.long)
        places_of_rows, tokens = pairs.unbind(-1)
        places_of_rows = torch.where(places_of_rows < 0, length - 1 - places_of_rows, places_of_rows)
        found.append(scores[places_of_rows, tokens].sum(-1))
    return found


__all__ = ["MoveTree", "score_moves"]
