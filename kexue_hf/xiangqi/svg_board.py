"""Boards as SVG pictures, self-contained: no scripts, style sheets, pictures or fonts from elsewhere.

Lengths are in units of the view box, where neighbouring lines of the board are 100 units apart.
"""

from html import escape

from kexue_hf.errors import InputError, quoted
from kexue_hf.xiangqi.board import Board
from kexue_hf.xiangqi.coordinates import square_of, squares_of
from kexue_hf.xiangqi.pieces import GLYPHS, KING
from kexue_hf.xiangqi.squares import FILE_LETTERS, FILES, RANKS, SQUARE_NAMES, file_of, rank_of

_CELL = 100
_MARGIN = 70
# With coordinates, for their two rows and columns.
_WIDE_MARGIN = 110
_RADIUS = 44
_FONTS = "'Noto Serif CJK SC','Source Han Serif SC','Songti SC',STKaiti,KaiTi,SimSun,serif"
_LABEL_FONTS = "'DejaVu Sans',Arial,Helvetica,sans-serif"
_WOOD, _LINE, _PIECE = "#f2d9a6", "#5b3a1a", "#fff6e0"
_RED, _BLACK, _LAST, _CHECK, _LEGAL = "#b3150f", "#1c1c1c", "#1f6fb2", "#e02020", "#2c8a3c"
# Where a pawn or cannon begins, the lines carry corner marks.
_MARKED = [(file, rank) for rank in (3, 6) for file in (0, 2, 4, 6, 8)] + [(f, r) for r in (2, 7) for f in (1, 7)]
_COORDINATES = ("iccs", "chinese", None)


def svg_board(
    board: Board,
    *,
    last_move: str | None = None,
    targets_of: str | None = None,
    flip: bool = False,
    coordinates: str | None = "iccs",
    size: int | None = None,
) -> str:
    """Return a board as an SVG document.

    Args:
        last_move: the move to mark, as ICCS; by default the last one pushed. A king in check is always marked.
        targets_of: a square such as "h2", whose piece's legal targets are marked.
        flip: put Black at the bottom.
        coordinates: "iccs" (a to i, 0 to 9), "chinese" (一 to 九 for Red, 1 to 9 for Black), or None.
        size: width in pixels; by default the picture fills what contains it.

    Raises:
        InputError: a square, a move or an option is not as described.
    """
    if coordinates not in _COORDINATES:
        raise InputError(f"coordinates: expected iccs, chinese or None, got {quoted(str(coordinates))}")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise InputError(f"size: expected a positive whole number of pixels, got {size!r}")
    last_move = last_move or (board.moves[-1] if board.moves else None)
    marked = squares_of(last_move) if last_move else ()
    drawing = _Drawing(flip, _WIDE_MARGIN if coordinates else _MARGIN)
    parts = [drawing.background(), drawing.grid()]
    if coordinates:
        parts.append(drawing.labels(coordinates))
    parts += [drawing.last_move_mark(square) for square in marked]
    parts += [drawing.piece(square, piece) for square, piece in enumerate(board.squares) if piece]
    if board.is_check():
        parts.append(drawing.check_mark(board.squares.index(KING * board.side)))
    if targets_of is not None:
        square_of(targets_of)
        for move in board.legal_moves():
            if move[:2] == targets_of.lower():
                target = square_of(move[2:])
                parts.append(drawing.target_mark(target, bool(board.squares[target])))
    width, height = drawing.width, drawing.height
    pixels = f' width="{size}" height="{round(size * height / width)}"' if size else ""
    name, body = escape(board.fen()), "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"{pixels} role="img" '
        f'aria-label="{name}">\n<title>{name}</title>\n{body}\n</svg>\n'
    )


class _Drawing:
    """The parts of the picture, by where the board lies in it."""

    def __init__(self, flip: bool, margin: int) -> None:
        self.flip, self.margin = flip, margin
        self.width = 2 * margin + (FILES - 1) * _CELL
        self.height = 2 * margin + (RANKS - 1) * _CELL

    def point(self, file: float, rank: float) -> tuple[float, float]:
        """Return x and y of a crossing of lines."""
        column, row = (FILES - 1 - file, rank) if self.flip else (file, RANKS - 1 - rank)
        return self.margin + column * _CELL, self.margin + row * _CELL

    def centre(self, square: int) -> tuple[float, float]:
        return self.point(file_of(square), rank_of(square))

    def background(self) -> str:
        return f'<rect width="{self.width}" height="{self.height}" fill="{_WOOD}"/>'

    def grid(self) -> str:
        lines = [self._line((0, rank), (FILES - 1, rank)) for rank in range(RANKS)]
        for file in range(FILES):
            if file in (0, FILES - 1):
                lines.append(self._line((file, 0), (file, RANKS - 1)))
            else:  # the river interrupts the files
                lines += [self._line((file, 0), (file, 4)), self._line((file, 5), (file, RANKS - 1))]
        for rank in (0, 7):
            lines += [self._line((3, rank), (5, rank + 2)), self._line((3, rank + 2), (5, rank))]
        lines += [self._corners(file, rank) for file, rank in _MARKED]
        x, y = self.margin - 12, self.margin - 12
        width, height = self.width - 2 * x, self.height - 2 * y
        frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" stroke-width="6"/>'
        middle = self.height / 2 + 19
        river = "".join(
            f'<text x="{self.margin + column * _CELL}" y="{middle}">{char}</text>'
            for column, char in zip((1, 2, 6, 7), "楚河漢界", strict=True)
        )
        return (
            f'<g fill="none" stroke="{_LINE}" stroke-width="3">{frame}<path d="{"".join(lines)}"/></g>\n'
            f'<g fill="{_LINE}" font-family="{_FONTS}" font-size="52" text-anchor="middle">{river}</g>'
        )

    def labels(self, coordinates: str) -> str:
        texts: list[tuple[float, float, str]] = []
        for file in range(FILES):
            below, above = FILE_LETTERS[file], FILE_LETTERS[file]
            if coordinates == "chinese":
                below, above = "九八七六五四三二一"[file], "123456789"[file]
            x = self.point(file, 0)[0]
            if self.flip:
                below, above = above, below
            texts += [(x, self.height - 20, below), (x, 42, above)]
        if coordinates == "iccs":
            for rank in range(RANKS):
                y = self.point(0, rank)[1] + 11
                texts += [(30, y, str(rank)), (self.width - 30, y, str(rank))]
        body = "".join(f'<text x="{x}" y="{y}">{text}</text>' for x, y, text in texts)
        fonts = _FONTS if coordinates == "chinese" else _LABEL_FONTS
        return f'<g fill="{_LINE}" font-family="{fonts}" font-size="32" text-anchor="middle">{body}</g>'

    def piece(self, square: int, piece: int) -> str:
        x, y = self.centre(square)
        colour = _RED if piece > 0 else _BLACK
        # y is the base line: a character's middle lies 0.36 of its size above it.
        return (
            f'<g id="{SQUARE_NAMES[square]}"><circle cx="{x}" cy="{y}" r="{_RADIUS}" fill="{_PIECE}" stroke="{_LINE}" '
            f'stroke-width="3"/><circle cx="{x}" cy="{y}" r="{_RADIUS - 7}" fill="none" stroke="{colour}" '
            f'stroke-width="2"/><text x="{x}" y="{y + 19}" font-family="{_FONTS}" font-size="54" font-weight="bold" '
            f'text-anchor="middle" fill="{colour}">{GLYPHS[piece]}</text></g>'
        )

    def last_move_mark(self, square: int) -> str:
        x, y = self.centre(square)
        side = 2 * _RADIUS + 8
        return (
            f'<rect class="last-move" x="{x - side / 2}" y="{y - side / 2}" width="{side}" height="{side}" rx="12" '
            f'fill="{_LAST}" fill-opacity="0.25" stroke="{_LAST}" stroke-width="5"/>'
        )

    def check_mark(self, square: int) -> str:
        x, y = self.centre(square)
        return (
            f'<circle class="check" cx="{x}" cy="{y}" r="{_RADIUS + 5}" fill="none" stroke="{_CHECK}" '
            f'stroke-width="9" stroke-opacity="0.85"/>'
        )

    def target_mark(self, square: int, occupied: bool) -> str:
        x, y = self.centre(square)
        if occupied:
            return (
                f'<circle class="target" cx="{x}" cy="{y}" r="{_RADIUS + 3}" fill="none" stroke="{_LEGAL}" '
                f'stroke-width="8" stroke-dasharray="16 9"/>'
            )
        return f'<circle class="target" cx="{x}" cy="{y}" r="14" fill="{_LEGAL}" fill-opacity="0.8"/>'

    def _line(self, first: tuple[int, int], second: tuple[int, int]) -> str:
        (x, y), (other_x, other_y) = self.point(*first), self.point(*second)
        return f"M{x} {y}L{other_x} {other_y}"

    def _corners(self, file: int, rank: int) -> str:
        x, y = self.point(file, rank)
        path = ""
        for across in (-1, 1):
            inside = self.margin <= x + across * _CELL <= self.width - self.margin
            for along in (-1, 1) if inside else ():
                corner_x, corner_y = x + across * 10, y + along * 10
                path += f"M{corner_x + across * 16} {corner_y}H{corner_x}V{corner_y + along * 16}"
        return path
