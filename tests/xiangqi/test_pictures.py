import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import START, Board, svg_board, text_board
from tests.xiangqi.positions import boards, played

SVG = "{http://www.w3.org/2000/svg}"
CHECK = "4k4/9/9/9/4r4/9/9/9/9/4K4 w"


def test_the_start_as_text() -> None:
    lines = text_board(Board()).splitlines()
    assert lines[0] == lines[-1] == "   a  b  c  d  e  f  g  h  i"
    assert lines[1] == "9  車 馬 象 士 將 士 象 馬 車  9"
    assert lines[6] == "   　　　　楚河　　　　漢界"
    assert lines[11] == "0  俥 傌 相 仕 帥 仕 相 傌 俥  0"
    assert len(lines) == 13


def test_str_shows_the_board_and_repr_the_fen() -> None:
    board = played(["h2e2"])
    assert str(board) == text_board(board)
    assert repr(board) == f"Board('{board.fen()}')"


def test_ascii_and_flip() -> None:
    lines = text_board(played(["h2e2"]), ascii=True, flip=True).splitlines()
    assert lines[0] == "   i h g f e d c b a"
    assert lines[1] == "0  R N B A K A B N R  0"
    assert lines[3] == "2  . . . . C . . C .  2"
    assert lines[11] == "9  r n b a k a b n r  9"
    assert "".join(lines).isascii()


def test_colours() -> None:
    text = text_board(played(["h2e2"]), colour=True)
    assert "\x1b[1;31m俥\x1b[0m" in text and "\x1b[1m車\x1b[0m" in text
    assert text.count("\x1b[7m") == 2 and "\x1b[1;31m\x1b[7m炮\x1b[0m" in text
    assert re.sub("\x1b[^m]*m", "", text) == text_board(played(["h2e2"]))
    assert "\x1b[1;31m\x1b[4m帥" in text_board(Board(CHECK), colour=True)
    assert "\x1b" not in text_board(Board(CHECK))


def drawing(board: Board, **options: object) -> ElementTree.Element:
    return ElementTree.fromstring(svg_board(board, **options))  # type: ignore[arg-type]


def marks(picture: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [element for element in picture.iter() if element.get("class") == name]


@settings(max_examples=20, deadline=None)
@given(boards())
def test_every_piece_is_drawn(board: Board) -> None:
    picture = drawing(board)
    drawn = {group.get("id") for group in picture.iter(f"{SVG}g") if group.get("id")}
    assert drawn == {f"{file}{rank}" for file in "abcdefghi" for rank in range(10) if board.piece_at(f"{file}{rank}")}
    assert picture.findtext(f"{SVG}title") == board.fen()


def test_the_picture_needs_nothing_else() -> None:
    text = svg_board(Board(), size=400)
    assert re.findall("https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search("<(script|style|image|use|foreignObject)|url\\(|@import", text)
    picture = drawing(Board(), size=400)
    _, _, width, height = map(int, picture.get("viewBox", "").split())
    assert (picture.get("width"), picture.get("height")) == ("400", str(round(400 * height / width)))
    assert drawing(Board()).get("width") is None


def test_marks() -> None:
    assert marks(drawing(Board()), "last-move") == [] and marks(drawing(Board()), "check") == []
    assert len(marks(drawing(played(["h2e2"])), "last-move")) == 2
    assert len(marks(drawing(Board(), last_move="h9g7"), "last-move")) == 2
    (check,) = marks(drawing(Board(CHECK)), "check")
    king = drawing(Board(CHECK)).find(f".//{SVG}g[@id='e0']/{SVG}circle")
    assert king is not None and (check.get("cx"), check.get("cy")) == (king.get("cx"), king.get("cy"))
    targets = marks(drawing(Board(), targets_of="b0"), "target")
    assert len(targets) == 2
    targets = marks(drawing(Board(), targets_of="H2"), "target")
    assert len(targets) == 12 and sum(target.get("stroke-dasharray") is not None for target in targets) == 1
    assert marks(drawing(Board(), targets_of="e5"), "target") == []


def test_flip_and_coordinates() -> None:
    def place(picture: ElementTree.Element, square: str) -> tuple[float, float]:
        circle = picture.find(f".//{SVG}g[@id='{square}']/{SVG}circle")
        assert circle is not None
        return float(circle.get("cx", "")), float(circle.get("cy", ""))

    upright, flipped = drawing(Board()), drawing(Board(), flip=True)
    assert place(upright, "a0") == place(flipped, "i9") and place(upright, "b2") == place(flipped, "h7")
    assert place(upright, "a0")[1] > place(upright, "a9")[1]
    texts = [element.text for element in upright.iter(f"{SVG}text")]
    assert texts.count("a") == 2 and texts.count("7") == 2
    texts = [element.text for element in drawing(Board(), coordinates="chinese").iter(f"{SVG}text")]
    assert texts.count("九") == 1 and texts.count("9") == 1 and texts.count("a") == 0
    assert len(list(drawing(Board(), coordinates=None).iter(f"{SVG}text"))) == 32 + 4


def test_bad_options() -> None:
    with pytest.raises(InputError, match="expected a square from a0 to i9, got 'z1'"):
        svg_board(Board(), targets_of="z1")
    with pytest.raises(InputError, match="expected an ICCS move"):
        svg_board(Board(), last_move="h2")
    with pytest.raises(InputError, match="coordinates: expected iccs, chinese or None, got 'uci'"):
        svg_board(Board(), coordinates="uci")
    with pytest.raises(InputError, match="size: expected a positive whole number of pixels, got 0"):
        svg_board(Board(START), size=0)
