"""What stands, hangs and can move on a board, as rows of an embedding table; for whole batches, on any device.

A batch of boards is one uint8 tensor [10 ranks, 9 files, N], so that a step over the board moves blocks of memory. Its
bits are layers that move together: the pieces of Red and of Black, and the chosen piece alone, Red's or Black's.
"""

import torch
from torch.nn.functional import pad

from .boards_xiangqi_gpt import PIECES, SQUARES

_RED, _BLACK, _CHOSEN = 1, 2, 4
_SIDES = _RED | _BLACK
_RED_LAYERS, _BLACK_LAYERS = _RED * 5, _BLACK * 5
_KING, _ADVISOR, _ELEPHANT, _KNIGHT, _ROOK, _CANNON, _PAWN = _KINDS = range(7)
# Of king, advisor, elephant, knight, rook, cannon and pawn; only the order counts.
_WORTH = (6, 2, 2, 3, 5, 3, 1)
_STRAIGHT = ((1, 0), (-1, 0), (0, 1), (0, -1))
_DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))
# Rows of a point: a piece (14) that is attacked by none, by dearer pieces only or by a cheaper one (3), guarded or not
# (2); a target of the chosen piece, empty or a piece (15), guarded or not (2); a piece that has a good capture (14).
_STANDING, _TARGETS, _CAPTURING = PIECES * 6, (PIECES + 1) * 2, PIECES
_ROWS = _STANDING + _TARGETS + _CAPTURING
NUM_FEATURES = 1 + SQUARES * _ROWS


def features_of(boards: torch.Tensor) -> torch.Tensor:
    """Return the rows that describe each of the boards [..., 90], int64 [..., 270]; row 0 stands for nothing."""
    flat = boards.reshape(-1, SQUARES).T.contiguous().view(10, 9, -1)
    chosen = flat > PIECES
    classes = torch.where(chosen, flat - PIECES, flat)
    layers = torch.where(classes > 7, _BLACK, _RED).to(torch.uint8)
    layers = torch.where(chosen, layers * 5, layers)
    layers = torch.where(classes > 0, layers, 0)
    empty = torch.where(classes > 0, 0, 255).to(torch.uint8)
    kinds = (classes + 6) % 7
    pieces = [torch.where(kinds == kind, layers, 0) for kind in _KINDS]
    seen = [_seen(kind, pieces[kind], empty) for kind in _KINDS]
    seen_by_any = _union(seen)
    guarded = layers & seen_by_any & _SIDES
    attacked = layers & _exchanged(seen_by_any)
    by_cheaper, capturing = torch.zeros_like(layers), torch.zeros_like(layers)
    for kind in _KINDS:
        cheaper = [seen[other] for other in _KINDS if _WORTH[other] < _WORTH[kind]]
        if cheaper:
            by_cheaper |= pieces[kind] & _exchanged(_union(cheaper))
        dearer = [pieces[other] for other in _KINDS if _WORTH[other] > _WORTH[kind]]
        prey = _union([layers & ~guarded, *dearer])
        capturing |= pieces[kind] & _seen(kind, _exchanged(prey), empty, backwards=True)
    quiet = _rays(pieces[_CANNON], empty, behind=False) & empty
    going = _union([*seen[:_CANNON], seen[_CANNON] & ~empty, quiet, seen[_PAWN]]) >> 2
    mover = _union(list((layers >> 2).flatten(0, 1)))
    going = torch.where(layers & mover > 0, 0, going)
    watched = _exchanged(seen_by_any) & mover
    first = 1 + _ROWS * torch.arange(SQUARES, device=boards.device).view(10, 9, 1)
    level = (attacked > 0).long() + (by_cheaper > 0).long()
    rows = [
        torch.where(classes > 0, first + (classes.long() - 1) * 6 + level * 2 + (guarded > 0), 0),
        torch.where(going > 0, first + _STANDING + classes.long() * 2 + (watched > 0), 0),
        torch.where(capturing > 0, first + _STANDING + _TARGETS + classes.long() - 1, 0),
    ]
    return torch.stack(rows).flatten(0, 2).T.reshape(*boards.shape[:-1], 3 * SQUARES)


def _seen(kind: int, plane: torch.Tensor, empty: torch.Tensor, backwards: bool = False) -> torch.Tensor:
    """Return what the pieces of a kind attack or guard, each layer by itself; or backwards, from where they would."""
    if kind in (_ROOK, _CANNON):
        return _rays(plane, empty, behind=kind == _CANNON)
    if kind == _KNIGHT:
        hops = [(leg, (leg[0] + side * leg[1], leg[1] + side * leg[0])) for leg in _STRAIGHT for side in (1, -1)]
        if backwards:
            hops = [((-r, -f), (-leg[0], -leg[1])) for leg, (r, f) in hops]
        return _union([_shifted(_shifted(plane, first) & empty, then) for first, then in hops])
    if kind == _ELEPHANT:
        half = _by_half(plane, _RED_LAYERS, _BLACK_LAYERS)
        return _union([_shifted(_shifted(plane & half, step) & empty, step) for step in _DIAGONAL]) & half
    if kind == _PAWN:
        ahead = -1 if backwards else 1
        crossed = plane & _by_half(plane, _BLACK_LAYERS, _RED_LAYERS)
        forward = [_shifted(plane & _RED_LAYERS, (ahead, 0)), _shifted(plane & _BLACK_LAYERS, (-ahead, 0))]
        return _union([*forward, _shifted(crossed, (0, 1)), _shifted(crossed, (0, -1))])
    inside = _in_palaces(plane)
    return _in_palaces(_union([_shifted(inside, step) for step in (_STRAIGHT if kind == _KING else _DIAGONAL)]))


def _rays(plane: torch.Tensor, empty: torch.Tensor, behind: bool) -> torch.Tensor:
    """Return the points on the lines of the pieces: up to the first other piece, or from there to the second."""
    found = []
    for step in _STRAIGHT:
        before, after = plane, torch.zeros_like(plane)
        for _ in range(9 if step[0] else 8):
            before, after = _shifted(before, step), _shifted(after, step)
            found.append(after if behind else before)
            before, after = before & empty, after & empty | before & ~empty
    return _union(found)


def _shifted(plane: torch.Tensor, step: tuple[int, int]) -> torch.Tensor:
    """Return the plane moved by ranks and files; what leaves the board is lost."""
    (up, down), (right, left) = ((max(count, 0), max(-count, 0)) for count in step)
    return pad(plane[down : 10 - up, left : 9 - right], (0, 0, right, left, up, down))


def _exchanged(plane: torch.Tensor) -> torch.Tensor:
    """Return the layers of Red and Black exchanged, without those of the chosen piece."""
    return (plane & _RED) << 1 | (plane & _BLACK) >> 1


def _in_palaces(plane: torch.Tensor) -> torch.Tensor:
    files = plane[:, 3:6]
    return pad(torch.cat([files[:3], torch.zeros_like(files[3:7]), files[7:]]), (0, 0, 3, 3))


def _union(planes: list[torch.Tensor]) -> torch.Tensor:
    result = planes[0]
    for plane in planes[1:]:
        result = result | plane
    return result


def _by_half(plane: torch.Tensor, red_half: int, black_half: int) -> torch.Tensor:
    """Return a mask of layers, [10, 1, 1]: one for ranks 0 to 4, one for 5 to 9."""
    return torch.where(torch.arange(10, device=plane.device) < 5, red_half, black_half).to(torch.uint8).view(10, 1, 1)


__all__ = ["NUM_FEATURES", "features_of"]
