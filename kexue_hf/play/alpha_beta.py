"""Alpha-beta search: null moves, late move reductions, killer moves, a table of positions, and captures at the end.

Scores are centipawns for the side to move. A mate in n half-moves is worth `MATE - n * MATE_STEP`; stalemate is one,
since it loses too.
"""

from collections.abc import Callable

from kexue_hf.play.captures import pseudo_legal_captures
from kexue_hf.play.piece_values import PIECE_VALUE
from kexue_hf.play.search_position import SIDE_HASH, SearchPosition
from kexue_hf.xiangqi.attacks import king_safety
from kexue_hf.xiangqi.moves import Move, is_safe, pseudo_legal_moves
from kexue_hf.xiangqi.pieces import CANNON, KNIGHT, PAWN, ROOK

MATE = 1_000_000
# More than all bonuses of first moves together, so that a bonus never makes a mate longer.
MATE_STEP = 1000
MATE_BOUND = MATE - 200 * MATE_STEP
LONGEST_LINE = 64
_EXACT, _LOWER, _UPPER = 0, 1, 2
_MOST_POSITIONS = 1_000_000
_FIRST, _CAPTURE, _KILLER = 1 << 40, 1 << 30, 1 << 29
_VALUE = [PIECE_VALUE[abs(piece)] for piece in (*range(8), *range(-7, 0))]
# What a quiet move can add to the score, by remaining depth.
_FUTILITY = {1: 180, 2: 360}
# Half-moves of captures after which only captures on the last square, or of a greater piece, go on.
_FULL_CAPTURES = 4
_MOST_CAPTURES = 16
_MOST_EVASIONS = 3
# Half-moves to search deeper for each check.
_EXTENSION = 1


class Stopped(Exception):
    """The search was stopped: by its number of nodes, the time, or the caller."""


class AlphaBeta:
    """A search of one position.

    Args:
        position: changes meanwhile, and is restored unless the search is stopped.
        poll: called every 128 nodes; it raises `Stopped` to end the search.
        most_nodes: nodes after which `Stopped` is raised; 0 for no limit.
    """

    def __init__(self, position: SearchPosition, poll: Callable[[], object], most_nodes: int = 0) -> None:
        self.position = position
        self.nodes = 0
        self.most_nodes = most_nodes
        self._poll = poll
        # Hash -> depth, kind of bound, score, best move.
        self.table: dict[int, tuple[int, int, int, Move | None]] = {}
        self._killers: list[list[Move | None]] = [[None, None] for _ in range(LONGEST_LINE + 2)]
        self._history: dict[Move, int] = {}

    def search(self, depth: int, alpha: int, beta: int, ply: int, quiet: int, null_allowed: bool = True) -> int:
        """Return the score of the position, exact if it lies between alpha and beta, else a bound.

        Args:
            depth: half-moves to search before captures alone.
            ply: half-moves made since the first position.
            quiet: half-moves since the last capture.
        """
        position = self.position
        squares, side = position.squares, position.side
        attacked, risky_origins, risky_targets = king_safety(squares, side, position.kings[side])
        if quiet >= 4:
            verdict = position.repetition(attacked, quiet)
            if verdict is not None:
                self._count()
                return verdict * (MATE_BOUND - ply)
            if position.limit is not None and quiet >= position.limit:
                self._count()
                return 0
        depth += _EXTENSION * attacked
        if depth <= 0 or ply >= LONGEST_LINE:
            return self._captures(alpha, beta, ply, 0, -1, (attacked, risky_origins, risky_targets))
        self._count()
        alpha, beta = max(alpha, ply * MATE_STEP - MATE), min(beta, MATE - (ply + 1) * MATE_STEP)
        if alpha >= beta:
            return alpha
        entry = self.table.get(position.hash)
        first = None
        if entry is not None:
            known, bound, score, first = entry
            decides = bound == _EXACT or (bound == _LOWER and score >= beta) or (bound == _UPPER and score <= alpha)
            if decides and known >= depth and abs(score) < MATE_BOUND - LONGEST_LINE:
                return score
        static = position.score * side
        narrow = beta - alpha == 1
        if not attacked and narrow and abs(beta) < MATE_BOUND:
            if depth <= 2 and static - 140 * depth >= beta:
                return static
            if null_allowed and depth >= 2 and static >= beta and self._has_attackers():
                score = self._null_move(depth, beta, ply)
                if score >= beta:
                    return min(score, MATE_BOUND - 1)
        futile = not attacked and depth <= 2 and static + _FUTILITY[depth] <= alpha and abs(alpha) < MATE_BOUND
        best, best_move, start_alpha = -MATE, None, alpha
        tried = 0
        king = position.kings[side]
        for move in self._ordered(first, ply):
            origin, target = move
            if (attacked or origin == king or origin in risky_origins or target in risky_targets) and not is_safe(
                squares, side, move
            ):
                continue
            tried += 1
            capture = squares[target]
            if futile and not capture and tried > 1:
                best = max(best, static + _FUTILITY[depth])
                continue
            captured = position.push(move, attacked)
            after = 0 if captured else quiet + 1
            if tried == 1:
                score = -self.search(depth - 1, -beta, -alpha, ply + 1, after)
            else:
                reduction = 0
                if depth >= 3 and tried > 4 and not captured and not attacked:
                    reduction = 1 + (tried > 12) + (depth >= 5 and tried > 6)
                score = -self.search(depth - 1 - reduction, -alpha - 1, -alpha, ply + 1, after)
                if score > alpha and reduction:
                    score = -self.search(depth - 1, -alpha - 1, -alpha, ply + 1, after)
                if alpha < score < beta:
                    score = -self.search(depth - 1, -beta, -alpha, ply + 1, after)
            position.pop(move, captured)
            if score > best:
                best, best_move = score, move
                if score > alpha:
                    alpha = score
                    if alpha >= beta:
                        if not captured:
                            self._remember_cutoff(move, ply, depth)
                        break
        if not tried:
            return ply * MATE_STEP - MATE
        kind = _LOWER if best >= beta else _EXACT if best > start_alpha else _UPPER
        if len(self.table) < _MOST_POSITIONS:
            self.table[position.hash] = (depth, kind, best, best_move or first)
        return best

    def _captures(
        self, alpha: int, beta: int, ply: int, so_far: int, last: int, safety: tuple[bool, set[int], set[int]]
    ) -> int:
        """Return the score when captures alone are searched, and all moves out of the first checks.

        Args:
            so_far: half-moves of captures before this position; `last` is the square of the last one.
            safety: of the king, from `king_safety`.
        """
        self._count()
        position = self.position
        squares, side = position.squares, position.side
        attacked, risky_origins, risky_targets = safety
        static = position.score * side
        all_moves = attacked and so_far < _MOST_EVASIONS
        best = -MATE if all_moves else static
        if not all_moves:
            if static >= beta or so_far >= _MOST_CAPTURES:
                return static
            alpha = max(alpha, static)
        king, tried = position.kings[side], 0
        own = [square for square, piece in enumerate(squares) if piece * side > 0]
        moves = (pseudo_legal_moves if all_moves else pseudo_legal_captures)(squares, side, own)
        moves.sort(key=lambda move: _VALUE[squares[move[0]]] - 16 * _VALUE[squares[move[1]]])
        for move in moves:
            origin, target = move
            gain = _VALUE[squares[target]]
            if not all_moves:
                if static + gain + 120 <= alpha:
                    best = max(best, static + gain + 120)
                    continue
                if so_far >= _FULL_CAPTURES and target != last and gain < _VALUE[squares[origin]]:
                    continue
            if (attacked or origin == king or origin in risky_origins or target in risky_targets) and not is_safe(
                squares, side, move
            ):
                continue
            tried += 1
            captured = position.push(move, attacked)
            other = position.side
            child = king_safety(squares, other, position.kings[other])
            score = -self._captures(-beta, -alpha, ply + 1, so_far + 1, target, child)
            position.pop(move, captured)
            if score > best:
                best = score
                if score > alpha:
                    alpha = score
                    if alpha >= beta:
                        break
        if all_moves and not tried:
            return ply * MATE_STEP - MATE
        return best

    def _count(self) -> None:
        self.nodes += 1
        if self.most_nodes and self.nodes >= self.most_nodes:
            raise Stopped
        if not self.nodes & 127:
            self._poll()

    def _has_attackers(self) -> bool:
        """Return whether the side to move has two pieces that can give check, so that a null move is no zugzwang."""
        side = self.position.side
        return sum(piece * side in (ROOK, KNIGHT, CANNON, PAWN) for piece in self.position.squares) > 1

    def _null_move(self, depth: int, beta: int, ply: int) -> int:
        """Return the score when the side to move passes."""
        position = self.position
        position.hash ^= SIDE_HASH
        position.side = -position.side
        score = -self.search(depth - 3 - (depth >= 6), -beta, 1 - beta, ply + 1, 0, null_allowed=False)
        position.side = -position.side
        position.hash ^= SIDE_HASH
        return score

    def _ordered(self, first: Move | None, ply: int) -> list[Move]:
        """Return the pseudo-legal moves, those first that are likely to be best."""
        squares, side = self.position.squares, self.position.side
        own = [square for square, piece in enumerate(squares) if piece * side > 0]
        moves = pseudo_legal_moves(squares, side, own)
        killers, history = self._killers[ply], self._history

        def rank(move: Move) -> int:
            if move == first:
                return -_FIRST
            victim = squares[move[1]]
            if victim:
                return -_CAPTURE - 16 * _VALUE[victim] + _VALUE[squares[move[0]]]
            if move in killers:
                return -_KILLER
            return -history.get(move, 0)

        moves.sort(key=rank)
        return moves

    def _remember_cutoff(self, move: Move, ply: int, depth: int) -> None:
        killers = self._killers[ply]
        if move != killers[0]:
            killers[0], killers[1] = move, killers[0]
        self._history[move] = min(self._history.get(move, 0) + depth * depth, _KILLER - 1)


__all__ = ["LONGEST_LINE", "MATE", "MATE_BOUND", "MATE_STEP", "AlphaBeta", "Stopped"]
