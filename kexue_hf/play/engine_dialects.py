"""The two protocols of the engine: UCI (ranks from 1, as fairy-stockfish's) and UCCI (ICCS, ranks from 0)."""

from collections.abc import Callable
from dataclasses import dataclass

from kexue_hf.play.root_search import Progress
from kexue_hf.xiangqi import from_uci, parse_iccs, to_uci


@dataclass(frozen=True)
class Dialect:
    """How a protocol writes.

    Attributes:
        hello: the command that asks who we are; the answer ends with `hello` + "ok".
        to_text, from_text: convert a move from and to ICCS.
        options: lines of the answer that name the options.
        no_move: answer to `go` if there is no legal move.
        farewell: answer to `quit`, if any.
    """

    hello: str
    to_text: Callable[[str], str]
    from_text: Callable[[str], str]
    options: tuple[str, ...]
    no_move: str
    farewell: str | None

    def progress(self, progress: Progress) -> str:
        """Return the info line of a finished depth."""
        milliseconds = round(progress.seconds * 1000)
        score = str(max(-29_999, min(29_999, progress.score)))
        if self.hello == "uci":
            score = f"cp {score}" if progress.mate is None else f"mate {progress.mate}"
        speed = round(progress.nodes / max(progress.seconds, 0.001))
        line = " ".join(map(self.to_text, progress.line))
        work = f"nodes {progress.nodes} nps {speed} time {milliseconds}"
        return f"info depth {progress.depth} score {score} {work} pv {line}"


UCI = Dialect(
    "uci",
    to_uci,
    from_uci,
    (
        "option name UCI_Variant type combo default xiangqi var xiangqi",
        "option name Ponder type check default false",
        "option name Nodes type spin default {nodes} min 0 max 1000000000",
        "option name Temperature type string default {temperature}",
        "option name OpeningPlies type spin default {opening_plies} min 0 max 1000",
    ),
    "bestmove (none)",
    None,
)
UCCI = Dialect(
    "ucci",
    parse_iccs,
    parse_iccs,
    (
        "option usemillisec type check default false",
        "option ponder type check default false",
        "option nodes type spin min 0 max 1000000000 default {nodes}",
        "option temperature type string default {temperature}",
        "option openingplies type spin min 0 max 1000 default {opening_plies}",
    ),
    "nobestmove",
    "bye",
)

__all__ = ["UCCI", "UCI", "Dialect"]
