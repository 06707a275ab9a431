"""Games as PGN that `kexue_hf.xiangqi.read_games` reads."""

from collections.abc import Mapping

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import START, Board, to_chinese
from kexue_hf.xiangqi.outcome import RESULTS, UNKNOWN

_LONGEST_LINE = 80


def pgn_text(board: Board, result: str = UNKNOWN, tags: Mapping[str, str] | None = None, chinese: bool = False) -> str:
    """Return the game of a board as PGN.

    Args:
        result: "1-0", "0-1", "1/2-1/2" or "*".
        tags: names and values of the header, such as Red and Black; Result and FEN are added.
        chinese: write the moves in Chinese notation instead of ICCS.

    Raises:
        InputError: the result is none.
    """
    if result not in RESULTS:
        raise InputError(f"expected one of {', '.join(RESULTS)} as the result, got {result!r}")
    header = {"Event": "?", "Red": "?", "Black": "?", **(tags or {}), "Result": result}
    replay = Board(board.start_fen)
    if board.start_fen != START:
        header["FEN"] = board.start_fen
    words = []
    number = int(board.start_fen.split()[5])
    for index, move in enumerate(board.moves):
        if replay.side > 0:
            words.append(f"{number}.")
        elif index == 0:
            words.append(f"{number}...")
        number += replay.side < 0
        words.append(to_chinese(replay, move) if chinese else move)
        replay.push(move)
    lines = [f'[{name} "{_escaped(value)}"]' for name, value in header.items()]
    return "\n".join([*lines, "", *_wrapped([*words, result])]) + "\n"


def _escaped(value: str) -> str:
    return " ".join(value.replace("\\", "\\\\").replace('"', '\\"').split())


def _wrapped(words: list[str]) -> list[str]:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) >= _LONGEST_LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


__all__ = ["pgn_text"]
