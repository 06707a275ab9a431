"""The ids of all legal moves as one tree, so that moves with a common beginning share its tokens."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Node(NamedTuple):
    """A token of the tree: its id, the index of the token before it (-1 for the root), and its place in the move."""

    token: int
    parent: int
    depth: int


class MoveTrie:
    """A tree over moves of equal length.

    Attributes:
        nodes: every token, parents first; those of the last ids are included only if asked for.
        beginnings: for each node, the ids of the move up to it.
        paths: for each move, its steps (node that the id is predicted at, id); -1 is the last token of the history.
        ends: for each move, the node of its last token; -1 if those are not included.
    """

    def __init__(self, moves: Iterable[Sequence[int]], with_ends: bool) -> None:
        self.nodes: list[Node] = []
        self.paths: list[list[tuple[int, int]]] = []
        self.ends: list[int] = []
        self.beginnings: list[tuple[int, ...]] = []
        index: dict[tuple[int, ...], int] = {(): -1}
        for ids in moves:
            path, node = [], -1
            for place, token in enumerate(ids):
                path.append((node, token))
                if place == len(ids) - 1 and not with_ends:
                    node = -1
                    break
                begun = tuple(ids[: place + 1])
                if begun not in index:
                    index[begun] = len(self.nodes)
                    self.nodes.append(Node(token, node, place))
                    self.beginnings.append(begun)
                node = index[begun]
            self.paths.append(path)
            self.ends.append(node)

    def ancestors(self, node: int) -> list[int]:
        """Return a node and those above it."""
        found = []
        while node >= 0:
            found.append(node)
            node = self.nodes[node].parent
        return found


__all__ = ["MoveTrie", "Node"]
