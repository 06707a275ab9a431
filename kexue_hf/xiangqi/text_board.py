"""Boards as text, for terminals and logs."""

from typing import TYPE_CHECKING

from kexue_hf.xiangqi.coordinates import squares_of
from kexue_hf.xiangqi.pieces import GLYPHS, KING, LETTER_OF
from kexue_hf.xiangqi.squares import FILE_LETTERS, FILES, RANKS

if TYPE_CHECKING:
    from kexue_hf.xiangqi.board import Board

_RED, _BLACK, _DIM, _LAST, _CHECK, _RESET = "\x1b[1;31m", "\x1b[1m", "\x1b[2m", "\x1b[7m", "\x1b[4m", "\x1b[0m"
# Two columns wide, as a Chinese character is in a terminal.
_EMPTY_POINT = "＋"
_RIVER = "楚河　　　　漢界"


def text_board(board: "Board", *, colour: bool = False, ascii: bool = False, flip: bool = False) -> str:
    """Return a board as lines of text, ranks from the top, with ICCS coordinates.

    Args:
        colour: use the colours of an ANSI terminal: Red's pieces are red, the squares of the last move are inverted, a
            king in check is underlined.
        ascii: write FEN letters (upper case for Red) instead of Chinese characters, which need a font whose characters
            are two columns wide.
        flip: put Black at the bottom.

    Without colours the two sides differ by their characters: 俥傌炮相仕帥兵 are Red, 車馬砲象士將卒 Black.
    """
    ranks, files = range(RANKS - 1, -1, -1), range(FILES)
    if flip:
        ranks, files = range(RANKS), range(FILES - 1, -1, -1)
    names = " ".join(FILE_LETTERS[file] + ("" if ascii else " ") for file in files)
    header = f"   {names}".rstrip()
    lines = [header]
    for row, rank in enumerate(ranks):
        if row == RANKS // 2:
            river = "~ " * FILES if ascii else "　" * 4 + _RIVER
            lines.append(f"   {river}".rstrip())
        points = (_point(board, rank * FILES + file, colour, ascii) for file in files)
        lines.append(f"{rank}  {' '.join(points)}  {rank}")
    return "\n".join([*lines, header]) + "\n"


def _point(board: "Board", square: int, colour: bool, ascii: bool) -> str:
    piece = board.squares[square]
    text = LETTER_OF[piece] if ascii else GLYPHS.get(piece, _EMPTY_POINT)
    if not colour:
        return text
    style = (_RED if piece > 0 else _BLACK) if piece else _DIM
    if board.moves and square in squares_of(board.moves[-1]):
        style += _LAST
    if piece == KING * board.side and board.is_check():
        style += _CHECK
    return f"{style}{text}{_RESET}"
