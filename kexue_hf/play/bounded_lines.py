"""Lines of a stream that nobody vouches for: their length is bounded, and so is the memory."""

from collections.abc import Iterator
from typing import BinaryIO

# A position with 10,000 moves has about 50,000 characters.
LONGEST_LINE = 1 << 17


def bounded_lines(stream: BinaryIO, longest: int = LONGEST_LINE) -> Iterator[str | None]:
    """Yield the lines of a stream as text, without their ends; None, at once, for a line that is too long.

    Bytes that are no UTF-8 become U+FFFD. The rest of a line that is too long is read and dropped.
    """
    while line := stream.readline(longest + 1):
        if len(line) <= longest:
            yield line.decode("utf-8", "replace").strip()
            continue
        if not line.endswith(b"\n"):
            yield None
            while (rest := stream.readline(longest)) and not rest.endswith(b"\n"):
                pass
        else:
            yield None


__all__ = ["LONGEST_LINE", "bounded_lines"]
