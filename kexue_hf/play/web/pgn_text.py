"""A game as PGN with moves in ICCS, which `kexue_hf.xiangqi.read_games` and other programs read."""

import datetime

from kexue_hf.xiangqi import START, Board

_LONGEST_LINE = 79


def pgn_text(board: Board, *, red: str, black: str, date: datetime.date, event: str) -> str:
    """Return the moves of a board from its first position, with the result of the last one."""
    outcome = board.outcome()
    result = outcome.result if outcome is not None else "*"
    tags = {
        "Game": "Chinese Chess",
        "Event": event,
        "Date": date.strftime("%Y.%m.%d"),
        "Red": red,
        "Black": black,
        "Result": result,
        "Format": "ICCS",
    }
    if board.start_fen != START:
        tags["FEN"] = board.start_fen
    if outcome is not None:
        tags["Termination"] = outcome.reason
    header = "".join(f'[{name} "{_escaped(value)}"]\n' for name, value in tags.items())
    return f"{header}\n{_wrapped([*_move_text(board), result])}\n"


def _move_text(board: Board) -> list[str]:
    fields = board.start_fen.split()
    number, is_red = int(fields[5]), fields[1] == "w"
    words = []
    for index, move in enumerate(board.moves):
        if is_red or not index:
            words.append(f"{number}." if is_red else f"{number}...")
        words.append(f"{move[:2]}-{move[2:]}".upper())
        number += not is_red
        is_red = not is_red
    return words


def _escaped(value: str) -> str:
    """Return a value that is safe between quotation marks on one line."""
    plain = "".join(char if char.isprintable() else " " for char in value)
    return plain.replace("\\", "\\\\").replace('"', '\\"')


def _wrapped(words: list[str]) -> str:
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _LONGEST_LINE:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
