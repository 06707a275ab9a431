"""Key/value caches of games in progress, lent to one thread at a time."""

import threading
from typing import Any

from transformers import DynamicCache

_MOST_BYTES = 64 << 20
# Ids that a cache may lose to another game: some moves taken back.
_MOST_CUT = 16


class HistoryCache:
    """The ids of a game's beginning and their keys and values."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.cache: Any = DynamicCache()

    def crop(self, length: int) -> None:
        """Keep the first tokens only."""
        if length < len(self.ids):
            # transformers 5.24 takes only the number of tokens to remove, as a negative one.
            self.cache.crop(length - self.cache.get_seq_length())
            del self.ids[length:]

    def beginning(self, length: int) -> "HistoryCache":
        """Return a copy of the first tokens."""
        copy = HistoryCache()
        copy.ids = self.ids[:length]
        for number, layer in enumerate(self.cache.layers):
            copy.cache.update(layer.keys[:, :, :length], layer.values[:, :, :length], number)
        return copy


class HistoryCaches:
    """Caches of the games that were asked for last.

    Args:
        config: of the model; it tells how many bytes a token needs.
    """

    def __init__(self, config: Any) -> None:
        token_bytes = 2 * 4 * config.num_hidden_layers * config.hidden_size
        self._most = max(1, min(64, _MOST_BYTES // (token_bytes * config.max_position_embeddings)))
        self._free: list[HistoryCache] = []
        self._lock = threading.Lock()

    def take(self, ids: list[int]) -> HistoryCache:
        """Return a cache of the longest beginning of a game that is known, or an empty one. Give it back afterwards.

        A game that goes another way than a known one gets a copy, so that both keep their caches.
        """
        with self._lock:
            shared = [common_length(cache.ids, ids) for cache in self._free]
            length = max(shared, default=0)
            if length <= 1:
                return HistoryCache()
            cache = self._free[shared.index(length)]
            if len(cache.ids) - length > _MOST_CUT:
                return cache.beginning(length)
            self._free.remove(cache)
        cache.crop(length)
        return cache

    def give_back(self, cache: HistoryCache) -> None:
        """Keep a cache for the next call, in place of the oldest if there are many."""
        with self._lock:
            self._free.append(cache)
            del self._free[: -self._most]


def common_length(first: list[int], second: list[int]) -> int:
    """Return the number of equal ids at the beginning of two lists."""
    length = min(len(first), len(second))
    return next((place for place in range(length) if first[place] != second[place]), length)


__all__ = ["HistoryCache", "HistoryCaches", "common_length"]
