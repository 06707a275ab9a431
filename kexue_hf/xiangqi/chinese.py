"""Moves in Chinese notation, such as 炮二平五 (Red) and 马８进７ (Black).

Four characters: the piece, its file, the direction (进 forward, 退 back, 平 sideways), and a number. Each side counts
files from its right. The number is the distance for a king, rook, cannon or pawn that goes forward or back, else the
file of arrival. Red writes 一 to 九, Black full-width digits.

Pieces of one kind on one file are distinguished by their order, the nearest to the opponent first: 前车进一, with
three pawns 前 中 后, with four or five 一 二 三 四 五. Pawns on two such files are named by order and file: 前四平五.
Advisors and elephants are always named by file, because the direction distinguishes them.

Written: simplified characters. Read: also traditional ones and those of the other side (車俥馬傌砲帥將士象...), any
digits for either side, spaces between the characters, and 前 后 for advisors, elephants, and the first and last of
several pawns.
"""

import functools
from typing import NamedTuple

from kexue_hf.errors import InputError, quoted
from kexue_hf.xiangqi.board import Board
from kexue_hf.xiangqi.coordinates import iccs_of, squares_of
from kexue_hf.xiangqi.moves import legal_moves
from kexue_hf.xiangqi.pieces import ADVISOR, CANNON, ELEPHANT, KING, KNIGHT, PAWN, RED, ROOK, SIDE_NAMES
from kexue_hf.xiangqi.squares import FILES, RANKS, file_of, rank_of

_NAMES = dict(zip((*range(1, 8), *range(-1, -8, -1)), "帅仕相马车炮兵将士象马车炮卒", strict=True))
_DIGITS = {1: " 一二三四五六七八九", -1: " １２３４５６７８９"}
_ORDERS = {2: "前后", 3: "前中后", 4: "一二三四", 5: "一二三四五"}
_STRAIGHT = (KING, ROOK, CANNON, PAWN)
# They are never two on one file that could both make the same move forward or back.
_NAMED_BY_FILE = (ADVISOR, ELEPHANT)

_KIND_OF_NAME = {
    **dict.fromkeys("帅将帥將", KING),
    **dict.fromkeys("仕士", ADVISOR),
    **dict.fromkeys("相象", ELEPHANT),
    **dict.fromkeys("马馬傌", KNIGHT),
    **dict.fromkeys("车車俥", ROOK),
    **dict.fromkeys("炮砲包", CANNON),
    **dict.fromkeys("兵卒", PAWN),
}
_NUMBER_OF_DIGIT = {
    digit: number
    for digits in ("一二三四五六七八九", "１２３４５６７８９", "123456789")
    for number, digit in enumerate(digits, 1)
}
_SAME = str.maketrans("進後", "进后")
_ACTIONS = {"进": 1, "平": 0, "退": -1}


def all_chinese(board: Board) -> dict[str, str]:
    """Return the Chinese text of every legal move, by ICCS. No two are equal."""
    squares, side = board.squares, board.side
    texts: dict[str, str] = {}
    previous, name = -1, ""
    for origin, target in legal_moves(list(squares), side):
        if origin != previous:
            previous, name = origin, _piece_text(squares, origin, side)
        texts[iccs_of((origin, target))] = name + _step_text(squares[origin], origin, target)
    return texts


def to_chinese(board: Board, iccs: str) -> str:
    """Return a legal move of the board in Chinese notation.

    Raises:
        InputError: the move is not legal.
    """
    if not board.is_legal(iccs):
        board.copy().push(iccs)  # raises with the reason
    origin, target = squares_of(iccs)
    squares = board.squares
    return _piece_text(squares, origin, board.side) + _step_text(squares[origin], origin, target)


def from_chinese(board: Board, text: str) -> str:
    """Return the legal move of the board, as ICCS, that a text in Chinese notation names.

    Digits of any kind are read for either side, so 车1平2 is 车一平二 for Red and 车１平２ for Black: the side to move
    decides from which side files are counted.

    Raises:
        InputError: the text is not in Chinese notation, or it names no legal move, or several.
    """
    parsed = _parse(text)
    squares, side = board.squares, board.side
    found = []
    for origin in _origins(squares, side, parsed):
        for target in _targets(squares[origin], origin, parsed):
            iccs = iccs_of((origin, target))
            if board.is_legal(iccs):
                found.append(iccs)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{quoted(text)} names {len(found)} legal moves of {SIDE_NAMES[side]}, {', '.join(found)}: "
            "tell the pieces apart with 前 and 后, or write ICCS"
        )
    choice = [chinese for chinese in all_chinese(board).values() if _parse(chinese).kind == parsed.kind]
    raise InputError(
        f"{quoted(text)} names no legal move of {SIDE_NAMES[side]}, which is to move; "
        + (f"moves of this piece: {', '.join(choice)}" if choice else "no piece of this kind can move")
    )


class _Parsed(NamedTuple):
    """The parts of a text; those that it lacks are None."""

    kind: int
    order: str | None
    file: int | None
    action: int
    number: int


def _parse(text: str) -> _Parsed:
    if not isinstance(text, str):
        raise InputError(f"expected a move in Chinese notation as a string, got {type(text).__name__}")
    return _parse_text(text)


# A game has few different texts, and files of games repeat them.
@functools.lru_cache(maxsize=4096)
def _parse_text(text: str) -> _Parsed:
    plain = "".join(text.split()).translate(_SAME)
    if len(plain) == 4 and plain[2] in _ACTIONS and plain[3] in _NUMBER_OF_DIGIT:
        first, second = plain[0], plain[1]
        action, number = _ACTIONS[plain[2]], _NUMBER_OF_DIGIT[plain[3]]
        if first in _KIND_OF_NAME and second in _NUMBER_OF_DIGIT:
            return _Parsed(_KIND_OF_NAME[first], None, _NUMBER_OF_DIGIT[second], action, number)
        if first in "前中后" and second in _NUMBER_OF_DIGIT:
            return _Parsed(PAWN, first, _NUMBER_OF_DIGIT[second], action, number)
        if (first in "前中后" or first in _NUMBER_OF_DIGIT) and second in _KIND_OF_NAME:
            return _Parsed(_KIND_OF_NAME[second], first, None, action, number)
    raise InputError(f"expected a move in Chinese notation such as 炮二平五, 马８进７ or 前车退一, got {quoted(text)}")


def _groups(squares: tuple[int, ...], side: int, kind: int) -> dict[int, list[int]]:
    """Return the squares of a side's pieces of one kind by number of the file, the foremost first."""
    groups: dict[int, list[int]] = {}
    found: list[int] = []
    for _ in range(squares.count(kind * side)):
        found.append(squares.index(kind * side, found[-1] + 1 if found else 0))
    for square in found[::-side]:
        groups.setdefault(_file_number(square, side), []).append(square)
    return groups


def _origins(squares: tuple[int, ...], side: int, parsed: _Parsed) -> list[int]:
    groups = _groups(squares, side, parsed.kind)
    if parsed.file is not None:
        groups = {parsed.file: groups.get(parsed.file, [])}
    if parsed.order is None:
        return [square for group in groups.values() for square in group]
    found = []
    for group in groups.values():
        index = _index(parsed.order, len(group))
        if index is not None:
            found.append(group[index])
    return found


def _index(order: str, size: int) -> int | None:
    """Return the place, from the front, that an order means among several pieces on a file."""
    if size < 2:
        return None
    if order == "中":
        return 1 if size == 3 else None
    index = {"前": 0, "后": size - 1}.get(order, _NUMBER_OF_DIGIT.get(order, 0) - 1)
    return index if 0 <= index < size else None


def _targets(piece: int, origin: int, parsed: _Parsed) -> list[int]:
    """Return the squares where a piece could go by the direction and number; the rules are checked elsewhere."""
    side = RED if piece > 0 else -RED
    kind = abs(piece)
    file, rank = file_of(origin), rank_of(origin)
    if kind in _STRAIGHT and parsed.action:
        rank += side * parsed.action * parsed.number
    else:
        file = FILES - parsed.number if side == RED else parsed.number - 1
        if parsed.action:
            # A knight goes three lines in all, an advisor or elephant as many ranks as files.
            across = abs(file - file_of(origin))
            rank += side * parsed.action * (3 - across if kind == KNIGHT else across)
    return [rank * FILES + file] if 0 <= rank < RANKS else []


def _file_number(square: int, side: int) -> int:
    return FILES - file_of(square) if side == RED else file_of(square) + 1


def _piece_text(squares: tuple[int, ...], origin: int, side: int) -> str:
    piece = squares[origin]
    file = _DIGITS[side][_file_number(origin, side)]
    if abs(piece) in _NAMED_BY_FILE or squares[file_of(origin) :: FILES].count(piece) == 1:
        return _NAMES[piece] + file
    groups = _groups(squares, side, abs(piece))
    group = groups[_file_number(origin, side)]
    order = _ORDERS[len(group)][group.index(origin)]
    shared = sum(len(others) > 1 for others in groups.values())
    return order + (file if shared > 1 else _NAMES[piece])


@functools.cache
def _step_text(piece: int, origin: int, target: int) -> str:
    side = RED if piece > 0 else -RED
    ranks = (rank_of(target) - rank_of(origin)) * side
    action = "进" if ranks > 0 else "退" if ranks < 0 else "平"
    number = abs(ranks) if ranks and abs(piece) in _STRAIGHT else _file_number(target, side)
    return action + _DIGITS[side][number]
