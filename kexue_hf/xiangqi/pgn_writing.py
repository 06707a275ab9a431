"""Games as PGN, which `read_games` and other programs read."""

from collections.abc import Iterator, Mapping

from kexue_hf.errors import InputError
from kexue_hf.xiangqi.board import Board
from kexue_hf.xiangqi.chinese import to_chinese
from kexue_hf.xiangqi.fen import START
from kexue_hf.xiangqi.outcome import RESULTS, UNKNOWN

_LONGEST_LINE = 79


def pgn_text(
    board: Board, result: str | None = None, tags: Mapping[str, str] | None = None, *, chinese: bool = False
) -> str:
    """Return the game of a board as PGN.

    Args:
        result: "1-0", "0-1", "1/2-1/2" or "*"; by default that of the last position.
        tags: names and values of the header, such as Red, Black and Date; Game, Result, Format and, if needed, FEN and
            Termination are added.
        chinese: write the moves in Chinese notation instead of ICCS.

    Raises:
        InputError: the result is not one of these.
    """
    outcome = board.outcome()
    if result is None:
        result = UNKNOWN if outcome is None else outcome.result
    if result not in RESULTS:
        raise InputError(f"expected one of {', '.join(RESULTS)} as the result, got {result!r}")
    header = {"Game": "Chinese Chess", "Event": "?", "Red": "?", "Black": "?", **(tags or {}), "Result": result}
    header["Format"] = "Chinese" if chinese else "ICCS"
    if board.start_fen != START:
        header["FEN"] = board.start_fen
    if outcome is not None:
        header["Termination"] = outcome.reason
    lines = "".join(f'[{name} "{_escaped(value)}"]\n' for name, value in header.items())
    return f"{lines}\n{_wrapped([*_words(board, chinese), result])}\n"


def _words(board: Board, chinese: bool) -> Iterator[str]:
    """Yield the moves and their numbers."""
    replay = Board(board.start_fen)
    number = int(board.start_fen.split()[5])
    for index, move in enumerate(board.moves):
        is_red = replay.turn == "w"
        if is_red or not index:
            yield f"{number}." if is_red else f"{number}..."
        yield to_chinese(replay, move) if chinese else f"{move[:2]}-{move[2:]}".upper()
        number += not is_red
        replay.push(move)


def _escaped(value: str) -> str:
    """Return a value that is safe between quotation marks on one line."""
    plain = "".join(character if character.isprintable() else " " for character in value)
    return plain.replace("\\", "\\\\").replace('"', '\\"')


def _wrapped(words: list[str]) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _LONGEST_LINE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


__all__ = ["pgn_text"]
