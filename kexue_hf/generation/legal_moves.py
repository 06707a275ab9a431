"""Legal moves of xiangqi for `generate`: a model that continues games never plays an illegal move."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor

from kexue_hf.errors import InputError
from kexue_hf.xiangqi import Board
from kexue_hf.xiangqi.squares import SQUARE_NAMES

Ids = tuple[int, ...]


@dataclass(frozen=True)
class _Position:
    """A board, and the ids that continue each beginning of a legal move; only the end if the game is over."""

    board: Board
    next_ids: dict[Ids, list[int]]


class LegalMoves(LogitsProcessor):
    """Allows only tokens that continue a legal move, in every row; after the end of a game, only [PAD].

    A game ends by the rules of `Board.outcome`: without a legal move, or by a draw rule. [PAD] then gets the score 0,
    so an ended game is neither better nor worse than before for beam search. One object serves any number of calls
    of `generate`, with any number of rows and beams.

    Args:
        tokenizer: a `XiangqiTokenizer` with either vocabulary.
        start: the position before the first move; its options, such as `no_capture_limit`, hold for the games too.

    Raises:
        InputError: on a call, if a row holds something else than legal moves.

    Example:
        >>> encoded = tokenizer(["h2e2 h9g7", ""], padding=True, return_tensors="pt")
        >>> model.generate(**encoded, max_new_tokens=40, logits_processor=[LegalMoves(tokenizer)])
    """

    def __init__(self, tokenizer: Any, start: Board | None = None) -> None:
        self._start = Board() if start is None else start
        self._end: int = tokenizer.pad_token_id
        self._length: int = tokenizer.ids_per_move
        half = self._length // 2
        self._ids = {name: tuple(tokenizer.move_ids(name + name)[:half]) for name in SQUARE_NAMES}
        self._names = {ids: name for name, ids in self._ids.items()}
        # The positions of the last call, by the ids of their moves.
        self._positions: dict[Ids, _Position] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the new scores [rows, vocabulary] for ids [rows, length] and scores [rows, vocabulary]."""
        before, self._positions = self._positions, {}
        allowed = [self._allowed(row, tokens, before) for row, tokens in enumerate(input_ids.tolist())]
        rows = [row for row, ids in enumerate(allowed) for _ in ids]
        columns = [index for ids in allowed for index in ids]
        ended = [row for row, ids in enumerate(allowed) if ids == [self._end]]
        new = torch.full_like(scores, -torch.inf)
        new[rows, columns] = scores[rows, columns]
        new[ended, self._end] = 0.0
        return new

    def _allowed(self, row: int, tokens: list[int], before: Mapping[Ids, _Position]) -> list[int]:
        """Return the ids that may follow the tokens of a row."""
        first = next((place for place, index in enumerate(tokens) if index != self._end), len(tokens))
        ids = tuple(tokens[first:])
        if ids and ids[-1] == self._end:
            return [self._end]
        whole = len(ids) - len(ids) % self._length
        position = self._position(row, ids[:whole], before)
        allowed = position.next_ids.get(ids[whole:])
        if allowed is None:
            raise InputError(
                f"row {row}, ply {whole // self._length + 1}: expected the beginning of a legal move, got the ids "
                f"{list(ids[whole:])}"
            )
        return allowed

    def _position(self, row: int, moves: Ids, before: Mapping[Ids, _Position]) -> _Position:
        """Return the position after the moves, found among those of this call and the last, or made from one."""
        found = self._positions.get(moves) or before.get(moves)
        if found is None:
            parent = before.get(moves[: -self._length]) if moves else None
            played = len(moves) - self._length if parent else 0
            board = (parent.board if parent else self._start).copy()
            for place in range(played, len(moves), self._length):
                self._push(board, moves[place : place + self._length], row, place // self._length + 1)
            found = _Position(board, self._next_ids(board))
        self._positions[moves] = found
        return found

    def _push(self, board: Board, move: Ids, row: int, ply: int) -> None:
        half = self._length // 2
        names = [self._names.get(ids) for ids in (move[:half], move[half:])]
        try:
            if None in names:
                raise InputError(f"expected a move, got the ids {list(move)}")
            board.push("".join(map(str, names)))
        except InputError as error:
            raise InputError(f"row {row}, ply {ply}: {error}") from None

    def _next_ids(self, board: Board) -> dict[Ids, list[int]]:
        """Return the ids that continue each beginning of a legal move; only the end if the game is over."""
        moves = board.legal_moves() if board.outcome() is None else []
        following: dict[Ids, set[int]] = {}
        for move in moves:
            ids = self._ids[move[:2]] + self._ids[move[2:]]
            for place, index in enumerate(ids):
                following.setdefault(ids[:place], set()).add(index)
        return {begun: sorted(ids) for begun, ids in following.items()} or {(): [self._end]}


__all__ = ["LegalMoves"]
