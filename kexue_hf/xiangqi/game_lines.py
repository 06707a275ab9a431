"""Games one a line: plain ICCS moves, or JSON objects.

    h2e2 h9g7 h0g2 1-0                                        the result is optional; lines with # are comments
    {"moves": "h2e2 h9g7 h0g2", "result": "1-0"}              "fen" and other keys are optional; moves may be a list

Moves in Chinese notation are read as well.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from kexue_hf.errors import printable
from kexue_hf.xiangqi.games import GameBuilder
from kexue_hf.xiangqi.outcome import RESULTS


def iccs_records(lines: Iterable[str]) -> Iterator[GameBuilder]:
    """Yield the record of each line of moves."""
    for line in lines:
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        record = GameBuilder()
        if words[-1] in RESULTS:
            record.add_result(words.pop())
        for word in words:
            record.add_move(word)
        yield record


def jsonl_records(lines: Iterable[str]) -> Iterator[GameBuilder]:
    """Yield the record of each JSON object."""
    for line in lines:
        if line.strip():
            record = GameBuilder()
            _read_object(record, line)
            yield record


def _read_object(record: GameBuilder, line: str) -> None:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        record.fail(f"expected a JSON object, got {printable(line.strip(), 60)!r}: {error}")
        return
    moves = value.get("moves") if isinstance(value, dict) else None
    moves = moves.split() if isinstance(moves, str) else moves
    if not isinstance(moves, list) or not all(isinstance(move, str) for move in moves):
        record.fail('expected an object with "moves", ICCS moves in a string or a list')
        return
    record.tags.update({key: other for key, other in value.items() if isinstance(other, str) and key != "moves"})
    if "fen" in value:
        record.start(value["fen"])
    record.add_result(str(value.get("result", "*")))
    for move in moves:
        record.add_move(move)
