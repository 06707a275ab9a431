import pytest
from hypothesis import given, settings

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import START, Board
from tests.xiangqi.positions import boards

BARE = "4k4/9/9/9/9/9/9/9/9/3K5"


def test_the_start() -> None:
    assert Board().fen() == Board(START).fen() == START
    assert Board().turn == "w" and Board().piece_at("h2") == "C" and Board().piece_at("e5") is None


def test_the_spellings_of_other_programs() -> None:
    other = START.replace("n", "h").replace("b", "e").replace("N", "H").replace("B", "E").replace(" w", " r")
    assert Board(other).fen() == START
    assert Board(START.split(" - ")[0]).fen() == START
    assert Board(START.replace("- - 0 1", "- - - -")).fen() == START
    assert Board("  ".join(START.split())).fen() == START
    assert Board(f"{BARE} b - - 7 31").fen() == f"{BARE} b - - 7 31"


@settings(max_examples=60, deadline=None)
@given(boards())
def test_a_fen_reads_back(board: Board) -> None:
    again = Board(board.fen())
    assert again.fen() == board.fen()
    assert again.legal_moves() == board.legal_moves()


FAULTS = {
    "": "expected a FEN, got an empty text",
    BARE: "expected w, r or b as the side to move, got nothing",
    f"{BARE} x": "expected w, r or b as the side to move, got 'x'",
    f"{BARE} w - - 0 1 2": "expected at most 6 fields, got 7",
    f"{BARE} w - - x": "expected half-moves without a capture as a whole number in field 5, got 'x'",
    f"{BARE} w - - -1": "in field 5, got '-1'",
    f"{BARE} w - - ٣": "in field 5, got '٣'",
    f"{BARE} w - - 0 {'9' * 5000}": "expected the number of the move as a whole number in field 6",
    "4k4/9/9/9/9/9/9/9/3K5 w": "expected 10 ranks separated by /, got 9",
    "4k4/9/9/9/9/9/9/9/9/9/3K5 w": "expected 10 ranks separated by /, got 11",
    "4k4/9/9/9/9/9/9/9/3K5q w": "got 9; 'q' is no piece (letters of KABNRCP); '3K5q' has 10 files instead of 9",
    "x/y/z w": "got 3; 'x' is no piece (letters of KABNRCP); 'y' is no piece (letters of KABNRCP); and 4 more faults",
    "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1": "got 8; this is a position of Western chess",
    "start w": f"expected 10 ranks separated by /, got 1; a position looks like {START}",
    "4k4/9/9/8/9/9/9/9/9/3K5 w": "expected 9 files in rank 6, got 8",
    "4k4/9/9/9r/9/9/9/9/9/3K5 w": "expected 9 files in rank 6, got 10",
    "4k4/9/9/99/9/9/9/9/9/3K5 w": "expected 9 files in rank 6, got 18",
    "4k4/9/9/4q4/9/9/9/9/9/3K5 w": "expected a digit from 1 to 9 or a letter of KABNRCP, got 'q'",
    "4k4/9/9/0r8/9/9/9/9/9/3K5 w": "a letter of KABNRCP, got '0'",
    "4k4/9/9/²r6/9/9/9/9/9/3K5 w": "a letter of KABNRCP, got '²'",
    "4k4/9/9/9/9/9/9/9/9/9 w": "expected one king of each side, got 0 of Red",
    "9/9/9/9/9/9/9/9/9/3K5 w": "expected one king of each side, got 0 of Black",
    "4k4/9/9/9/9/9/9/9/9/3KK4 w": "expected one king of each side, got 2 of Red",
    "4k4/9/pppp5/pppp5/pppp5/9/9/9/9/3K5 w": "Black has 12 pawns; a side has at most 5",
    "4k4/9/9/9/rrr6/9/9/9/9/3K5 b": "Black has 3 rooks; a side has at most 2",
    "4k4/9/9/9/9/9/9/9/P8/3K5 w": "a Red pawn can never stand on a1",
    "4k4/9/9/9/9/9/1P7/9/9/3K5 w": "a Red pawn can never stand on b3",
    "4k4/9/9/1p7/9/9/9/9/9/3K5 w": "a Black pawn can never stand on b6",
    "4k4/9/9/9/9/9/9/9/9/3KA4 w": "a Red advisor can never stand on e0",
    "4k4/9/9/9/9/9/9/9/B8/3K5 w": "a Red elephant can never stand on a1",
    "4k4/9/9/9/2B6/9/9/9/9/3K5 w": "a Red elephant can never stand on c5",
    "4k4/9/9/9/9/9/9/9/9/2K6 w": "a Red king can never stand on c0",
    "4k4/9/9/9/9/9/3K5/9/9/9 w": "a Red king can never stand on d3",
    "9/9/9/9/9/9/9/9/4k4/3K5 w": "a Black king can never stand on e1",
    "4k4/9/9/9/9/P8/P8/9/9/3K5 w": "expected at most one Red pawn before the river on file a, got 2",
    "4k4/9/9/9/9/9/9/9/9/4K4 w": "the kings face each other on file e; put a piece between them",
    "4k4/9/9/9/9/9/9/9/4R4/3K5 w": "Black is in check but Red is to move; expected b to move",
}


@pytest.mark.parametrize("fen", FAULTS)
def test_an_impossible_fen_is_refused_in_one_line(fen: str) -> None:
    with pytest.raises(InputError) as caught:
        Board(fen)
    assert FAULTS[fen] in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_another_type_is_refused() -> None:
    with pytest.raises(InputError, match="expected a FEN as a string, got NoneType"):
        Board(None)  # type: ignore[arg-type]


def test_doubled_pawns_beyond_the_river_are_possible() -> None:
    Board("4k4/9/P8/P8/P8/9/9/9/9/3K5 w")
