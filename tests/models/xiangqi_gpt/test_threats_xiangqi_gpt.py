"""What the model sees on a board, against the package's rules; and that exporters get the same."""

import random

import pytest
import torch

from kexue_hf.models.xiangqi_gpt.board_encoder_xiangqi_gpt import BoardEncoder
from kexue_hf.models.xiangqi_gpt.boards_xiangqi_gpt import PIECES
from kexue_hf.models.xiangqi_gpt.configuration_xiangqi_gpt import XiangqiGptConfig
from kexue_hf.models.xiangqi_gpt.threats_xiangqi_gpt import NUM_FEATURES, features_of
from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.moves import pseudo_legal_moves
from kexue_hf.xiangqi.pieces import PAWN
from tests.xiangqi.sample_games import GAMES

ROWS = 6 * PIECES + 2 * (PIECES + 1) + PIECES
# Of king, advisor, elephant, knight, rook, cannon and pawn.
WORTH = (None, 6, 2, 2, 3, 5, 3, 1)
Squares = tuple[int, ...]


def code(piece: int) -> int:
    return piece if piece >= 0 else 7 - piece


def positions() -> list[tuple[Squares, int | None]]:
    """Positions of real and of random games, where pieces stand in odd places, each with a chosen piece or none."""
    rng = random.Random(0)
    found: list[tuple[Squares, int | None]] = []
    for moves in [game.split() for game, _ in GAMES] + [None] * 12:
        board = Board(no_capture_limit=None, occurrences=None)
        for ply in range(len(moves) if moves else 120):
            legal = board.legal_moves()
            if not legal:
                break
            board.push(moves[ply] if moves else rng.choice(legal))
            if ply % 6 == 5:
                origins = [square for square in range(90) if board.squares[square] * board.side > 0]
                found.append((board.squares, rng.choice([None, *origins])))
    return found


def attackers(squares: Squares, side: int, target: int) -> list[int]:
    """Return the kinds of the side's pieces that could take on a point, whatever stands there."""
    origins = [square for square in range(90) if squares[square] * side > 0 and square != target]
    changed = [*squares[:target], -side * PAWN, *squares[target + 1 :]]
    return [abs(squares[origin]) for origin, end in pseudo_legal_moves(changed, side, origins) if end == target]


def expected_rows(squares: Squares, chosen: int | None) -> list[int]:
    rows = [0] * 270
    for point, piece in enumerate(squares):
        if not piece:
            continue
        side = 1 if piece > 0 else -1
        enemies = attackers(squares, -side, point)
        level = bool(enemies) + any(WORTH[kind] < WORTH[abs(piece)] for kind in enemies)
        rows[point] = 1 + ROWS * point + (code(piece) - 1) * 6 + 2 * level + bool(attackers(squares, side, point))
        for _, target in pseudo_legal_moves(squares, side, [point]):
            victim = squares[target]
            guarded = bool(attackers(squares, -side, target))
            if point == chosen:
                rows[90 + target] = 1 + ROWS * target + 6 * PIECES + 2 * code(victim) + guarded
            if victim and (not guarded or WORTH[abs(victim)] > WORTH[abs(piece)]):
                rows[180 + point] = 1 + ROWS * point + 6 * PIECES + 2 * (PIECES + 1) + code(piece) - 1
    return rows


def boards_of_positions() -> torch.Tensor:
    boards = []
    for squares, chosen in positions():
        classes = [code(piece) for piece in squares]
        if chosen is not None:
            classes[chosen] += PIECES
        boards.append(classes)
    return torch.tensor(boards, dtype=torch.uint8)


def test_features_are_those_of_the_rules() -> None:
    found = features_of(boards_of_positions())
    assert found.max() < NUM_FEATURES
    places = positions()
    assert len(places) > 200 and (found[:, 90:180] > 0).any() and (found[:, 180:] > 0).any()
    for number, (squares, chosen) in enumerate(places):
        assert found[number].tolist() == expected_rows(squares, chosen), number


def test_shapes_and_impossible_boards() -> None:
    """A sequence of ids that is no game leads to any board."""
    boards = torch.randint(0, 2 * PIECES + 1, (3, 5, 90), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    found = features_of(boards)
    assert found.shape == (3, 5, 270) and found.min() >= 0 and found.max() < NUM_FEATURES
    torch.testing.assert_close(found[1, 2], features_of(boards[1, 2]))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["compile", "export"])
def test_the_encoder_is_the_same_when_compiled_and_exported(how: str) -> None:
    torch.manual_seed(0)
    encoder = BoardEncoder(XiangqiGptConfig(hidden_size=16, num_attention_heads=2, board_hidden_size=8)).eval()
    # Whatever stands in the row of nothing counts for nothing.
    torch.nn.init.normal_(encoder.embeddings.weight)
    boards = boards_of_positions()[None, :40]
    expected = encoder(boards)
    if how == "compile":
        found = torch.compile(encoder, backend="aot_eager", fullgraph=True)(boards)
    else:
        dynamic = {"boards": {1: torch.export.Dim("length", min=2, max=512)}}
        found = torch.export.export(encoder, (boards[:, :7],), dynamic_shapes=dynamic).module()(boards)
    torch.testing.assert_close(found, expected)
