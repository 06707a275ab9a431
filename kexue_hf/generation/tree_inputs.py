"""The inputs of one pass over a game and the trees of moves behind some of its positions.

The nodes stand behind the game's tokens in the same sequence. Each attends to the game up to its tree's position, to
the nodes above it and to itself.
"""

from collections.abc import Sequence
from typing import Any

import torch

from kexue_hf.generation.move_trie import MoveTrie
from kexue_hf.models.xiangqi_gpt.boards_xiangqi_gpt import boards_after, boards_of


def tree_inputs(
    model: Any, game: Sequence[int], tries: Sequence[tuple[int, MoveTrie]], past: int = 0
) -> dict[str, torch.Tensor]:
    """Return the arguments of a Xiangqi GPT's forward pass over the new tokens of a game, and then the nodes.

    Args:
        game: the ids of the game, its first [PAD] included.
        tries: for each tree, the index in `game` of the last token before it, and the tree.
        past: tokens of the game that the cache holds.
    """
    length, nodes = len(game), [node for _, trie in tries for node in trie.nodes]
    ids = [*game[past:], *(node.token for node in nodes)]
    positions = [*range(past, length), *(last + 1 + node.depth for last, trie in tries for node in trie.nodes)]
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": _mask(past, length - past, tries, model.dtype),
    }
    if model.config.board_input:
        size = model.config.ids_per_square
        after = boards_of(torch.tensor([list(game)]), size)[0]
        behind = [boards_after(after[last], trie.beginnings, size) for last, trie in tries]
        inputs["boards"] = torch.cat([after[past:], *behind])[None]
    return {name: value.to(model.device) for name, value in inputs.items()}


def _mask(past: int, new: int, tries: Sequence[tuple[int, MoveTrie]], dtype: torch.dtype) -> torch.Tensor:
    """Return the additive mask [1, 1, new + nodes, past + new + nodes]: 0 for what a token sees."""
    total = new + sum(len(trie.nodes) for _, trie in tries)
    seen = torch.zeros(total, past + total, dtype=torch.bool)
    seen[:new, : past + new] = torch.ones(new, past + new, dtype=torch.bool).tril(past)
    pairs, start = [], new
    for last, trie in tries:
        end = start + len(trie.nodes)
        seen[start:end, : last + 1] = True
        pairs += [
            (start + node, past + start + above) for node in range(end - start) for above in trie.ancestors(node)
        ]
        start = end
    if pairs:
        rows, columns = torch.tensor(pairs).T
        seen[rows, columns] = True
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[None, None]


__all__ = ["tree_inputs"]
