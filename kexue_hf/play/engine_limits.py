"""The limits of a `go` command: depth, nodes, or time of a move or of the clock."""

from collections.abc import Callable
from dataclasses import dataclass

from kexue_hf.errors import InputError, quoted
from kexue_hf.play.alpha_beta import LONGEST_LINE

# Of the clock's time: moves to think of if the clock does not tell, and what the connection may cost.
_MOVES_TO_GO, _OVERHEAD, _LEAST = 30, 0.05, 0.01
_NUMBERS = (
    *("depth", "nodes", "mate", "movetime", "wtime", "btime", "winc", "binc", "movestogo"),
    *("time", "increment", "opptime", "oppincrement", "oppmovestogo"),
)
_MOST_PROBLEMS = 3
_FLAGS = ("infinite", "ponder", "draw")


@dataclass(frozen=True)
class GoLimits:
    """What a `go` command asks for.

    Attributes:
        searched: the only moves to consider, as ICCS; None for all.
        infinite: search until `stop`.
        ponders: the opponent has not moved yet; the limits hold from `ponderhit` on.
        problems: what was wrong with the words that were ignored, a line each.
        limited: whether the command names a limit at all.
    """

    depth: int | None
    nodes: int | None
    seconds: float | None
    searched: frozenset[str] | None
    infinite: bool
    ponders: bool
    problems: tuple[str, ...] = ()

    @property
    def limited(self) -> bool:
        return self.infinite or any(limit is not None for limit in (self.depth, self.nodes, self.seconds))


def read_limits(words: list[str], side: int, from_text: Callable[[str], str], unit: float) -> GoLimits:
    """Parse the words after `go`. Wrong ones are ignored, since the program waits for a move.

    Args:
        side: the side to move, whose clock counts.
        unit: seconds of a unit of time.
    """
    given: dict[str, int] = {}
    flags: set[str] = set()
    searched: set[str] = set()
    problems: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in _FLAGS:
            flags.add(word)
        elif word in _NUMBERS:
            # UCCI's `depth infinite` is no depth, and `infinite` follows.
            text = rest.pop(0) if rest and rest[0] not in (*_FLAGS, *_NUMBERS) else ""
            number = _number(text)
            if number is not None:
                given[word] = number
            elif not (word == "depth" and rest[:1] == ["infinite"]):
                problems.append(f"go: expected a whole number after {word}, got {quoted(text)}")
        elif word == "searchmoves":
            while rest and rest[0] not in (*_FLAGS, *_NUMBERS):
                try:
                    searched.add(from_text(rest.pop(0)))
                except InputError as error:
                    problems.append(f"go: searchmoves: {error}")
        else:
            problems.append(f"go: expected one of {', '.join((*_FLAGS, *_NUMBERS))}, got {quoted(word)}")
    mine = ("wtime", "winc") if side > 0 else ("btime", "binc")
    clock = given.get("time", given.get(mine[0]))
    seconds = None if "movetime" not in given else max(_LEAST, given["movetime"] * unit)
    if seconds is None and clock is not None:
        increment = given.get("increment", given.get(mine[1], 0)) * unit
        seconds = _share(clock * unit, increment, given.get("movestogo", _MOVES_TO_GO))
    depth = 2 * given["mate"] if "mate" in given else given.get("depth")
    return GoLimits(
        None if depth is None else max(1, min(depth, LONGEST_LINE)),
        given.get("nodes"),
        seconds,
        frozenset(searched) or None,
        "infinite" in flags,
        "ponder" in flags,
        tuple(problems[:_MOST_PROBLEMS]),
    )


def _share(remaining: float, increment: float, moves_to_go: int) -> float:
    """Return the seconds for one move of a clock."""
    wanted = remaining / max(1, min(moves_to_go, 2 * _MOVES_TO_GO)) + 0.8 * increment
    return max(_LEAST, min(wanted, 0.5 * remaining) - _OVERHEAD)


def _number(text: str) -> int | None:
    """Return a number or None; negative ones, which clocks of some programs show, count as 0."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 12):
        return None
    return 0 if text.startswith("-") else int(text)


__all__ = ["GoLimits", "read_limits"]
