"""Order rows into batches by the seed alone, independently of the number of processes.

Unlike the samplers of transformers and accelerate, this makes global batches first (the rows of all processes and
accumulated steps together) and then divides them. Two processes with batches of 8, one with 16, and one that
accumulates 4 batches of 4 therefore train on the same rows in each step. An interrupted run continues with the next
row, even on another number of devices. Batches of similar length are made inside windows of the shuffled order, which
works for streams as well as for tables.

Every row is identified by its number and its epoch (the pass over the corpus), from which the collators draw the row's
masks. Both are part of the index, so loader workers get the right ones however far ahead they load.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from kexue_hf.errors import InputError

WINDOW = 64  # number of batches of a table that are sorted by length together
Key = tuple[int, int]  # number of the row in the corpus, epoch
STRATEGIES = ("random", "sequential", "group_by_length")


@dataclass(frozen=True)
class Share:
    """The share of one process in each global batch.

    Args:
        batch_size: rows per forward pass.
        accumulation: gradient accumulation, in forward passes per step.
        process: number of this process, from 0.
        processes: number of processes.
    """

    batch_size: int
    accumulation: int = 1
    process: int = 0
    processes: int = 1

    @property
    def rows(self) -> int:
        """Rows of a global batch."""
        return self.batch_size * self.accumulation * self.processes

    def parts(self) -> Iterator[slice]:
        """Yield the slices of this process in a global batch.

        In each forward pass, the processes take neighbouring rows, which are of similar length.
        """
        for step in range(self.accumulation):
            start = (step * self.processes + self.process) * self.batch_size
            yield slice(start, start + self.batch_size)


def random_generator(seed: int, *numbers: int) -> np.random.Generator:
    """Return a random generator for a seed and up to four non-negative numbers."""
    first, *others = numbers
    # Philox is a function of key and counter without hashing, so different numbers never collide.
    counter = [0, *others, *[0] * (3 - len(others))]
    return np.random.Generator(np.random.Philox(key=[seed, first], counter=counter))


def shuffled(rows: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order of a table's rows in an epoch, [rows]."""
    return random_generator(seed, epoch, 1, 0, 1).permutation(rows)


def group_by_length(order: np.ndarray, lengths: np.ndarray, batch: int, random: np.random.Generator) -> np.ndarray:
    """Return an order [rows] rearranged into batches of similar length, in random order of batches.

    Args:
        lengths: lengths of the rows in `order`, [rows].
        batch: rows per batch.
    """
    batches = order[np.argsort(lengths, kind="stable")].reshape(-1, batch)
    return batches[random.permutation(len(batches))].reshape(-1)


class Batches(Sampler[list[Key]]):
    """The batches of one process over a table, as lists of keys. `set_epoch` selects the epoch.

    Rows that do not fill a global batch at the end of an epoch are left out, different ones in each epoch.

    Args:
        rows: number of rows of the table.
        share: the share of this process.
        seed: seed of the order.
        strategy: random, sequential or group_by_length.
        lengths: lengths of the rows, [rows]; for group_by_length.

    Raises:
        InputError: the table has fewer rows than a global batch, or there is no such strategy.
    """

    def __init__(
        self, rows: int, share: Share, seed: int = 0, strategy: str = "random", lengths: np.ndarray | None = None
    ) -> None:
        _check_strategy(strategy)
        if rows < share.rows:
            raise InputError(
                f"the corpus has {rows} rows, but a step takes {share.rows} (batch size x gradient accumulation x "
                "processes): use smaller batches or more text"
            )
        self.rows, self.share, self.seed, self.strategy = rows, share, seed, strategy
        self.lengths = lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows // self.share.rows * self.share.accumulation

    def __iter__(self) -> Iterator[list[Key]]:
        size, epoch = self.share.rows, self.epoch
        order = np.arange(self.rows) if self.strategy == "sequential" else shuffled(self.rows, self.seed, epoch)
        order = order[: self.rows // size * size]
        for number, start in enumerate(range(0, len(order), WINDOW * size)):
            window = order[start : start + WINDOW * size]
            if self.strategy == "group_by_length" and self.lengths is not None:
                window = group_by_length(
                    window, self.lengths[window], size, random_generator(self.seed, epoch, 1, number, 2)
                )
            for batch in window.reshape(-1, size):
                for part in self.share.parts():
                    yield [(int(row), epoch) for row in batch[part]]


class Table(Dataset[dict[str, Any]]):
    """Rows of a `datasets` table with their key, `row` (number) and `epoch`. A plain index means epoch 0."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def column(self, name: str) -> np.ndarray:
        """Return a numeric column, [rows]."""
        return np.asarray(self.data.select_columns([name]).with_format("numpy")[:][name])

    def __getitem__(self, key: int | Key) -> dict[str, Any]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[int | Key]) -> list[dict[str, Any]]:
        pairs = [(key, 0) if isinstance(key, int) else key for key in keys]
        columns = self.data[[row for row, _ in pairs]]
        return [
            {"row": row, "epoch": epoch, **{name: values[index] for name, values in columns.items()}}
            for index, (row, epoch) in enumerate(pairs)
        ]


class Packing(Protocol):
    """Turns texts into rows, in one step or in two (`split`, `encode`); see `kexue_hf.corpora.packing`."""

    def split(self, texts: Iterable[str]) -> Iterator[dict[str, Any]]: ...


class Stream(IterableDataset[list[dict[str, Any]]]):
    """An endless stream of the batches of one process, epoch after epoch. Each element is a whole batch.

    The stream is split into windows of `window` rows (rounded to whole global batches), which are held in memory and
    shuffled. Every process and every loader worker reads the whole stream and keeps its share. If the packing has an
    `encode` (segments), only that share is encoded.

    Args:
        texts: an iterable that starts again at each iteration.
        packing: turns texts into rows.
        share: the share of this process.
        seed: seed of the order in the windows.
        strategy: random, sequential or group_by_length.
        window: rows per window.
        start: number of this process' batches to skip because an earlier run trained on them.

    Raises:
        InputError: while reading: the corpus has no rows, or reading the texts fails.
    """

    def __init__(
        self,
        texts: Iterable[str],
        packing: Packing,
        share: Share,
        seed: int = 0,
        strategy: str = "random",
        window: int = 10_000,
        start: int = 0,
    ) -> None:
        _check_strategy(strategy)
        self.texts, self.packing, self.share, self.seed, self.strategy = texts, packing, share, seed, strategy
        self.batches = max(1, window // share.rows)  # global batches per window
        self.start = start

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        encode: Callable[[list[str]], list[dict[str, Any]]] | None = getattr(self.packing, "encode", None)
        position = 0  # number of a batch among those of this process
        for index, window in enumerate(self._windows()):
            next_position = position + self.batches * self.share.accumulation
            if next_position <= self.start:
                position = next_position
                continue
            for batch in self._ordered(window, index).reshape(-1, self.share.rows):
                for part in self.share.parts():
                    # Loaders take a batch from each worker in turn.
                    if position >= self.start and (position - self.start) % workers == number:
                        rows = [window[row] for row in batch[part]]
                        if encode:
                            texts = encode([row["text"] for row in rows])
                            rows = [{**row, **text} for row, text in zip(rows, texts, strict=True)]
                        yield rows
                    position += 1

    def _ordered(self, window: list[dict[str, Any]], index: int) -> np.ndarray:
        order = np.arange(len(window))
        if self.strategy == "sequential":
            return order
        random = random_generator(self.seed, index, 1, 0, 3)
        order = random.permutation(order)
        if self.strategy == "group_by_length":
            order = group_by_length(order, np.array([window[row]["length"] for row in order]), self.share.rows, random)
        return order

    def _windows(self) -> Iterator[list[dict[str, Any]]]:
        window: list[dict[str, Any]] = []
        for epoch in count():
            number = -1
            for number, row in enumerate(self.packing.split(self.texts)):
                # A list takes 40 bytes per number, an array 4.
                packed = {name: array("i", value) if isinstance(value, list) else value for name, value in row.items()}
                window.append({"row": number, "epoch": epoch, **packed})
                if len(window) == self.batches * self.share.rows:
                    yield window
                    window = []
            if number < 0:
                raise InputError("the corpus holds no text")


def _check_strategy(strategy: str) -> None:
    if strategy not in STRATEGIES:
        raise InputError(f"the order of rows must be one of {', '.join(STRATEGIES)}, got {strategy!r}")


__all__ = ["Batches", "Share", "Stream", "Table", "group_by_length", "random_generator", "shuffled"]
