"""A stream in pieces of a bounded size: within one, texts go through a model sorted by length.

The first pieces are small, so that the first results come at once.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

# A stream is read so many texts, or characters, ahead.
TEXTS_AT_ONCE = 1024
CHARACTERS_AT_ONCE = 1 << 18
_FIRST_TEXTS = 16
_T = TypeVar("_T")


def chunks(
    texts: Iterable[_T],
    texts_at_once: int,
    characters_at_once: int,
    size: Callable[[Any], int] = len,
    done: int = 0,
) -> Iterator[list[_T]]:
    """Consecutive texts, at most so many and about so many characters together; at first few, then ever more.

    Args:
        size: characters of one; for something else than strings.
        done: texts in the pieces before these; the sizes go on from there.
    """
    chunk: list[_T] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += size(text)
        if len(chunk) >= min(texts_at_once, max(_FIRST_TEXTS, done)) or characters >= characters_at_once:
            done += len(chunk)
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


__all__ = ["CHARACTERS_AT_ONCE", "TEXTS_AT_ONCE", "chunks"]
