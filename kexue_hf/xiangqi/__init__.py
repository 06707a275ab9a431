"""Xiangqi (Chinese chess): rules, notations, files of games, pictures and symmetries. Standard library only.

from kexue_hf.xiangqi import Board, to_chinese

board = Board()
to_chinese(board, "h2e2")  # 炮二平五
board.push("h2e2")
board.legal_moves()        # ["a9a8", ...]
"""

from kexue_hf.xiangqi.board import Board
from kexue_hf.xiangqi.chinese import all_chinese, from_chinese, to_chinese
from kexue_hf.xiangqi.coordinates import from_uci, parse_iccs, to_uci
from kexue_hf.xiangqi.fen import START
from kexue_hf.xiangqi.games import Game, GameError
from kexue_hf.xiangqi.outcome import Outcome
from kexue_hf.xiangqi.pgn_writing import pgn_text
from kexue_hf.xiangqi.reading import read_games
from kexue_hf.xiangqi.svg_board import svg_board
from kexue_hf.xiangqi.symmetry import (
    flip_board,
    flip_fen,
    flip_game,
    flip_move,
    mirror_board,
    mirror_fen,
    mirror_game,
    mirror_move,
)
from kexue_hf.xiangqi.text_board import text_board

__all__ = [
    "START",
    "Board",
    "Game",
    "GameError",
    "Outcome",
    "all_chinese",
    "flip_board",
    "flip_fen",
    "flip_game",
    "flip_move",
    "from_chinese",
    "from_uci",
    "mirror_board",
    "mirror_fen",
    "mirror_game",
    "mirror_move",
    "parse_iccs",
    "pgn_text",
    "read_games",
    "svg_board",
    "text_board",
    "to_chinese",
    "to_uci",
]
