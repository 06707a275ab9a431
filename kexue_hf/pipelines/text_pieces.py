"""A stream in pieces of a bounded size: within one, texts go through a model sorted by length."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

# A stream is read so many texts, or characters, ahead.
TEXTS_AT_ONCE = 1024
CHARACTERS_AT_ONCE = 1 << 18
_T = TypeVar("_T")


def chunks(
    texts: Iterable[_T], texts_at_once: int, characters_at_once: int, size: Callable[[Any], int] = len
) -> Iterator[list[_T]]:
    """Consecutive texts, at most so many and about so many characters together.

    Args:
        size: characters of one; for something else than strings.
    """
    chunk: list[_T] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += size(text)
        if len(chunk) >= texts_at_once or characters >= characters_at_once:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


__all__ = ["CHARACTERS_AT_ONCE", "TEXTS_AT_ONCE", "chunks"]
