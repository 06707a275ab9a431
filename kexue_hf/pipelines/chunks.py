"""Split a stream of texts into chunks of bounded size. Within a chunk, texts go through a model sorted by length.

The first chunks are small, so that the first results arrive early.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

MAX_TEXTS = 1024
MAX_CHARACTERS = 1 << 18
_FIRST_TEXTS = 16
_T = TypeVar("_T")


def chunks(
    texts: Iterable[_T],
    texts_at_once: int,
    characters_at_once: int,
    size: Callable[[Any], int] = len,
    done: int = 0,
) -> Iterator[list[_T]]:
    """Yield consecutive texts in chunks that grow up to the given limits.

    Args:
        texts_at_once: maximum number of texts in a chunk.
        characters_at_once: number of characters at which a chunk ends; its last text may exceed it.
        size: number of characters of an item, if the items are not strings.
        done: number of texts in earlier chunks of the same stream; the chunk sizes continue from there.
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


__all__ = ["MAX_CHARACTERS", "MAX_TEXTS", "chunks"]
