"""Legal moves against counts and digests from Fairy-Stockfish, and against the program itself where it is installed.

KEXUE_SLOW=1 adds depth 4 from the start, and depth 3 from the other positions.
"""

import random

import pytest

from kexue_hf.xiangqi import Board
from tests.xiangqi.oracle import Oracle, needs_oracle
from tests.xiangqi.positions import SAMPLE, SLOW, dev_games, digest_of_legal_moves, needs_dev_games, positions_of

slow = pytest.mark.skipif(not SLOW, reason="takes minutes: set KEXUE_SLOW=1")

# Positions of real games: FEN, and the sequences of one, two and three legal moves, counted by Fairy-Stockfish.
PERFT: dict[str, tuple[int, int, int]] = {
    "4k1b2/4a4/4b4/7P1/4nN1P1/9/1p7/4B4/4A4/3AK4 w - - 15 59": (18, 349, 6_327),
    "5k3/n5R2/9/p1P5p/7r1/P8/1r2n3c/R2CB4/8C/2BAKA3 b - - 8 32": (47, 2_449, 108_666),
    "4kab2/4a4/1c4n1b/1CN1p3p/2n6/2B2N3/P3P3P/9/4A4/2BAK4 b - - 4 28": (22, 698, 15_880),
    "4kab2/4a4/4b4/p7p/4R4/1r2c2CP/n4cP2/3CB3N/4A4/3AK1B2 b - - 6 25": (45, 1_746, 75_558),
    "2baka3/9/4b4/1R6p/2p1pnr2/1c3p3/P1P1P3P/NC2B4/4A4/4KAB2 b - - 3 22": (29, 909, 28_210),
    "1r1akab2/9/nC2N1n1c/p3p3p/4c4/2P6/P3P3P/7C1/4AN3/2BAK1R2 b - - 2 15": (31, 1_622, 50_953),
    "2bakab2/9/2n1c1c1n/p3p2Rp/3r5/6B1P/P3P1P2/2N1BCN2/C3A4/1r1AK4 w - - 0 16": (44, 2_241, 95_024),
    "4kab2/r2na4/2c1b2cn/p1p1p1p2/3R4p/2PN5/Pr2P1P1P/C1N1C4/9/1RBAKAB2 b - - 23 12": (49, 1_969, 91_932),
    "4k4/9/4P4/8p/6b2/2B1C4/8P/2n6/5C3/4KcBc1 b - - 4 56": (2, 63, 1_518),
    "C4ab2/2R1k4/3a2n2/p3p3p/2b5c/6p2/Pr4r2/BCR6/9/3AKAB2 b - - 13 27": (2, 77, 3_315),
}
# SHA-256 of all legal moves (positions.py says how), from Fairy-Stockfish.
SAMPLE_DIGEST = "56f3f87261d94c1ca9d608365c51137c3fbc4da662c78389df53091ba761b612"
DEV_DIGEST = "9f80c972b8c63184525534b4f99f11a071db22b1784e1e95ed1ac7b05ee43594"


@pytest.mark.parametrize(("depth", "sequences"), [(0, 1), (1, 44), (2, 1_920), (3, 79_666)])
def test_sequences_from_the_start(depth: int, sequences: int) -> None:
    assert Board().perft(depth) == sequences


@slow
def test_sequences_of_four_moves_from_the_start() -> None:
    assert Board().perft(4) == 3_290_240


@pytest.mark.parametrize("fen", PERFT)
def test_sequences_from_real_positions(fen: str) -> None:
    board = Board(fen)
    depths = 3 if SLOW else 2
    assert tuple(board.perft(depth) for depth in range(1, depths + 1)) == PERFT[fen][:depths]
    assert board.fen() == fen


def test_legal_moves_of_the_sample() -> None:
    assert digest_of_legal_moves(SAMPLE, Board.legal_moves) == SAMPLE_DIGEST


@needs_dev_games
def test_legal_moves_of_500_games() -> None:
    assert digest_of_legal_moves(dev_games(), Board.legal_moves) == DEV_DIGEST


@needs_oracle
def test_the_stored_counts_are_the_oracles() -> None:
    with Oracle() as oracle:
        for fen, counts in PERFT.items():
            assert tuple(oracle.perft(fen, depth)[0] for depth in (1, 2, 3)) == counts
        assert digest_of_legal_moves(SAMPLE, lambda board: oracle.perft(board.fen(), 1)[1]) == SAMPLE_DIGEST


@needs_oracle
@slow
@needs_dev_games
def test_the_stored_digest_is_the_oracles() -> None:
    with Oracle() as oracle:
        assert digest_of_legal_moves(dev_games(), lambda board: oracle.perft(board.fen(), 1)[1]) == DEV_DIGEST


@needs_oracle
def test_legal_moves_of_random_positions() -> None:
    """Random play reaches positions that people avoid: exposed kings, wandering pawns, many checks."""
    choice = random.Random(7)
    with Oracle() as oracle:
        for _ in range(20):
            board = Board()
            for _ in range(120):
                legal = board.legal_moves()
                assert sorted(legal) == sorted(oracle.perft(board.fen(), 1)[1]), board.fen()
                if not legal:
                    break
                board.push(choice.choice(legal))


def test_legal_moves_are_distinct() -> None:
    for board in positions_of(SAMPLE[:3]):
        legal = board.legal_moves()
        assert len(set(legal)) == len(legal)
