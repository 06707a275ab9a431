"""Exact scores of all legal moves of a game's positions, in one forward pass.

The score of a move is the sum of the log-probabilities of its tokens, given the moves before it (kexue.fm 7877). Moves
that begin alike share tokens: those of one position form a tree, whose inner nodes stand behind the game's tokens in
the same sequence. A node attends to the game up to its position, to its ancestors and to itself, so the scores equal
those of every game continued by every legal move as a sequence of its own.
"""

from collections.abc import Sequence
from typing import Any

import torch

from kexue_hf.generation.move_trie import MoveTrie
from kexue_hf.models.xiangqi_gpt.boards_xiangqi_gpt import boards_after, boards_of


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
    length, device = len(game), model.device
    total = length + sum(len(trie.nodes) for _, trie in tries)
    ids, places = list(game), list(range(length))
    seen = torch.zeros(total, total, dtype=torch.bool)
    seen[:length, :length] = torch.ones(length, length, dtype=torch.bool).tril()
    starts = []
    for last, trie in tries:
        start = len(ids)
        starts.append(start)
        seen[start : start + len(trie.nodes), : last + 1] = True
        for number, node in enumerate(trie.nodes):
            ids.append(node.token)
            places.append(last + 1 + node.depth)
            seen[start + number, [start + above for above in trie.ancestors(number)]] = True
    mask = torch.zeros(1, 1, total, total, dtype=model.dtype, device=device)
    mask.masked_fill_(~seen.to(device), torch.finfo(model.dtype).min)
    input_ids = torch.tensor([ids], device=device)
    reads_boards = {}
    if model.config.board_input:
        size = model.config.ids_per_square
        after = boards_of(input_ids[:, :length], size)
        nodes = [boards_after(after[0, last], trie.beginnings, size) for last, trie in tries]
        reads_boards["boards"] = torch.cat([after[0], *nodes])[None]
    logits = model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=torch.tensor([places], device=device),
        use_cache=False,
        **reads_boards,
    ).logits
    scores = logits[0].float().log_softmax(-1).cpu()
    found = []
    for (last, trie), start in zip(tries, starts, strict=True):
        # Node -1 is the game's own token.
        pairs = [[(last if node < 0 else start + node, token) for node, token in path] for path in trie.paths]
        rows, tokens = torch.tensor(pairs, dtype=torch.long).unbind(-1)
        found.append(scores[rows, tokens].sum(-1))
    return found


__all__ = ["score_moves"]
