"""How long the model thinks about a move, by the names that the page offers."""

from typing import TypedDict


class Limits(TypedDict, total=False):
    """Keyword arguments of `Player.choose`."""

    nodes: int
    seconds: float


STRENGTHS: dict[str, Limits] = {
    "policy": {"nodes": 0},
    "nodes-50": {"nodes": 50},
    "nodes-200": {"nodes": 200},
    "nodes-800": {"nodes": 800},
    "seconds-1": {"seconds": 1.0},
    "seconds-3": {"seconds": 3.0},
}
DEFAULT_STRENGTH = "nodes-200"
