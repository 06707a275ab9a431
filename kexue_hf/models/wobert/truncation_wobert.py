"""Truncation of sequences to the room in a row, and windows over the overflow.

Differs from transformers in `longest_first` on pairs: tokens are dropped one at a time from the longer sequence, or
from the first if they are equally long, as in the original (bert4keras). Overflowing windows are those of the Rust
tokenizers: each starts `stride` tokens before the end of the previous one.
"""

from collections.abc import Sequence

from .encoding_wobert import Window


def truncated_windows(
    lengths: Sequence[int], room: int, strategy: str, side: str, stride: int, overflow: bool
) -> list[tuple[Window, ...]]:
    """Return the windows of the rows that one sample becomes; one row unless `overflow`.

    Args:
        lengths: of the sample's one or two sequences, in tokens.
        room: number of tokens that fit in a row, special tokens not counted.
        strategy: `"longest_first"`, `"only_first"` or `"only_second"`.
        side: `"right"` or `"left"`, where tokens are dropped.
        stride: number of tokens by which windows overlap.
        overflow: whether to return the rows of the dropped tokens.

    Raises:
        ValueError: the sequence to truncate is too short, or the stride is not shorter than the window.
    """
    excess = sum(lengths) - room
    if excess <= 0:
        return [tuple(Window(0, length) for length in lengths)]
    kept = list(lengths)
    if strategy == "longest_first" and len(lengths) == 2:
        first, second = lengths
        from_longer = min(abs(first - second), excess)
        rest = excess - from_longer
        kept[0] -= (from_longer if first > second else 0) + (rest + 1) // 2
        kept[1] -= (from_longer if second > first else 0) + rest // 2
        kept = [max(0, length) for length in kept]
    elif strategy == "longest_first":
        kept[0] = max(0, room)
    else:
        which = 0 if strategy == "only_first" else 1
        if which >= len(lengths):
            return [tuple(Window(0, length) for length in lengths)]
        kept[which] -= excess
        if kept[which] < 0 or (kept[which] == 0 and len(lengths) == 2):
            other = lengths[1 - which] if len(lengths) == 2 else 0
            raise ValueError(
                f"truncation={strategy!r} would have to leave {kept[which]} tokens of a sequence of {lengths[which]}: "
                f"the other has {other} and there is room for {room}; use truncation='longest_first', or a larger "
                f"max_length"
            )
    choices = [
        _windows(length, keep, side, stride) if overflow else _windows(length, keep, side, 0)[:1]
        for length, keep in zip(lengths, kept, strict=True)
    ]
    if len(choices) == 1:
        return [(window,) for window in choices[0]]
    return [(first_window, second_window) for first_window in choices[0] for second_window in choices[1]]


def _windows(length: int, size: int, side: str, stride: int) -> list[Window]:
    if length <= size:
        return [Window(0, length)]
    if size == 0:
        return [Window(0, 0) if side == "right" else Window(length, length)]
    if stride >= size:
        raise ValueError(f"stride must be less than the {size} tokens that fit in a row, got {stride}")
    windows = []
    for start in range(0, length, size - stride):
        stop = min(start + size, length)
        windows.append(Window(start, stop) if side == "right" else Window(length - stop, length - start))
        if stop == length:
            break
    return windows


__all__ = ["truncated_windows"]
