import pytest
from hypothesis import given, settings

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import (
    START,
    Board,
    Game,
    flip_board,
    flip_fen,
    flip_game,
    flip_move,
    mirror_board,
    mirror_fen,
    mirror_game,
    mirror_move,
)
from tests.xiangqi.positions import SAMPLE, boards

SYMMETRIES = [(mirror_move, mirror_fen, mirror_board), (flip_move, flip_fen, flip_board)]


@pytest.mark.parametrize(("move_image", "fen_image", "board_image"), SYMMETRIES)
@settings(max_examples=40, deadline=None)
@given(board=boards())
def test_images_commute_with_the_rules(move_image, fen_image, board_image, board: Board) -> None:  # type: ignore[no-untyped-def]
    image = board_image(board)
    assert sorted(image.legal_moves()) == sorted(move_image(move) for move in board.legal_moves())
    assert image.is_check() == board.is_check()
    assert image.moves == [move_image(move) for move in board.moves]
    # The number of the move depends on who began.
    assert image.fen().rsplit(" ", 1)[0] == fen_image(board.fen()).rsplit(" ", 1)[0]
    assert board_image(image).fen() == board.fen()
    outcome, other = board.outcome(), image.outcome()
    assert (outcome is None) == (other is None)
    if outcome is not None and other is not None:
        assert outcome.reason == other.reason
        assert (outcome.result == other.result) == (board_image is mirror_board or outcome.winner is None)


def test_moves() -> None:
    assert mirror_move("h2e2") == mirror_move("H2-E2") == "b2e2"
    assert flip_move("h2e2") == "b7e7" and flip_move("a0a1") == "i9i8"
    for move in Board().legal_moves():
        assert mirror_move(mirror_move(move)) == flip_move(flip_move(move)) == move
    with pytest.raises(InputError, match="expected an ICCS move"):
        mirror_move("h2")


def test_positions() -> None:
    assert mirror_fen(START) == START
    assert flip_fen(START) == START.replace(" w ", " b ")
    lopsided = "3k5/9/2n6/9/9/9/9/9/9/R3K4 w - - 3 9"
    assert mirror_fen(lopsided) == "5k3/9/6n2/9/9/9/9/9/9/4K3R w - - 3 9"
    assert flip_fen(lopsided) == "4k3r/9/9/9/9/9/9/6N2/9/5K3 b - - 3 9"
    with pytest.raises(InputError, match="FEN"):
        mirror_fen("9/9 w")


def test_games() -> None:
    game = Game(SAMPLE[0], "1-0", tags={"Event": "x", "Result": "1-0"})
    mirrored, flipped = mirror_game(game), flip_game(game)
    assert mirrored.result == "1-0" and mirrored.fen == START
    assert flipped.result == "0-1" and flipped.tags == {"Event": "x", "Result": "0-1"}
    assert flipped.fen == START.replace(" w ", " b ")
    for image in (mirrored, flipped):
        assert len(list(image.replay())) == len(game.moves)  # every move is legal
    assert mirror_game(mirrored) == flip_game(flipped) == game
    assert flip_game(Game((), "1/2-1/2")).result == "1/2-1/2"
