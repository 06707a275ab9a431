"""Which rows make up which batch: one order of all rows, a function of the seed and nothing else.

What is different from the samplers of transformers and accelerate: batches are first made globally, of as many rows as
all processes and accumulated steps take together, and are only then shared out. Two processes with batches of 8, one
with 16, and one that accumulates 4 of 4 therefore train on the same rows in each step, and a run that was stopped
goes on with the row after the last one, even on another number of devices. Batches of similar length are made inside
windows of the shuffled order, which a stream knows as well as a table.

Every row is handed over as what identifies it: its number and the pass over the corpus (the epoch), from which the
collators draw the row's masks. As part of the index it reaches loader workers, however far ahead they load.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset, IterableDataset, Sampler, get_worker_info

from kexue_hf.errors import InputError

WINDOW = 64  # batches of a table whose rows are sorted among each other
Key = tuple[int, int]  # number of a row in the corpus, pass over the corpus
STRATEGIES = ("random", "sequential", "group_by_length")


@dataclass(frozen=True)
class Share:
    """What one process takes of each global batch.

    Args:
        batch_size: rows that the process computes at a time.
        accumulation: how many of these it adds up to a step.
        process, processes: which one of how many it is.
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
        """Where this process' batches lie in a global one: neighbours (of like length) are computed side by side."""
        for step in range(self.accumulation):
            start = (step * self.processes + self.process) * self.batch_size
            yield slice(start, start + self.batch_size)


def random_of(seed: int, *numbers: int) -> np.random.Generator:
    """Random numbers that belong to a seed and up to four numbers, none negative."""
    first, *others = numbers
    # Philox is a function of key and counter: nothing is hashed, so different numbers never coincide.
    counter = [0, *others, *[0] * (3 - len(others))]
    return np.random.Generator(np.random.Philox(key=[seed, first], counter=counter))


def shuffled(rows: int, seed: int, epoch: int) -> np.ndarray:
    """The order of a table's rows in a pass, [rows]."""
    return random_of(seed, epoch, 1, 0, 1).permutation(rows)


def alike(order: np.ndarray, lengths: np.ndarray, batch: int, random: np.random.Generator) -> np.ndarray:
    """An order [rows] rearranged to whole batches of similar length, the batches in random order.

    Args:
        lengths: of the rows in `order`, [rows].
    """
    batches = order[np.argsort(lengths, kind="stable")].reshape(-1, batch)
    return batches[random.permutation(len(batches))].reshape(-1)


class Batches(Sampler[list[Key]]):
    """The batches of one process over a table, as lists of keys; `set_epoch` says which pass.

    Rows that fill no global batch at the end of a pass are left out; which ones, differs between passes.

    Args:
        rows: of the table.
        share: what this process takes.
        seed: of the order.
        strategy: random, sequential or group_by_length.
        lengths: of the rows, [rows]; for group_by_length.

    Raises:
        InputError: the table has fewer rows than a global batch, or there is no such strategy.
    """

    def __init__(
        self, rows: int, share: Share, seed: int = 0, strategy: str = "random", lengths: np.ndarray | None = None
    ) -> None:
        _check(strategy)
        if rows < share.rows:
            raise InputError(
                f"the corpus makes {rows} rows, a step takes {share.rows} (rows of a batch x accumulated batches x "
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
                window = alike(window, self.lengths[window], size, random_of(self.seed, epoch, 1, number, 2))
            for batch in window.reshape(-1, size):
                for part in self.share.parts():
                    yield [(int(row), epoch) for row in batch[part]]


class Table(Dataset[dict[str, Any]]):
    """Rows of a `datasets` table with their key: `row` (number) and `epoch`. A plain number is a row of pass 0."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def column(self, name: str) -> np.ndarray:
        """A column of numbers, [rows]."""
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
    """How texts become rows, at once or in two steps; see `kexue_hf.corpora.packing`."""

    def split(self, texts: Iterable[str]) -> Iterator[dict[str, Any]]: ...


class Stream(IterableDataset[list[dict[str, Any]]]):
    """The batches of one process over a stream of texts: endless, pass after pass. Elements are whole batches.

    The stream is cut into windows of `window` rows (rounded to whole global batches), which are held in memory and
    shuffled. Every process, and every loader worker, reads the whole stream and keeps its share; where the packing has
    an `encode` (segments), it encodes no more than that share.

    Args:
        texts: an iterable that starts anew at each iteration.
        packing: makes rows of the texts.
        share: what this process takes.
        seed: of the order in the windows.
        strategy: random, sequential or group_by_length.
        window: rows.
        start: batches of this process to leave out, those that an earlier run has trained on.

    Raises:
        InputError: while it is read: no rows at all, or what reading the texts raises.
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
        _check(strategy)
        self.texts, self.packing, self.share, self.seed, self.strategy = texts, packing, share, seed, strategy
        self.batches = max(1, window // share.rows)  # global ones in a window
        self.start = start

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        encode: Callable[[list[str]], list[dict[str, Any]]] | None = getattr(self.packing, "encode", None)
        place = 0  # of a batch among this process'
        for index, window in enumerate(self._windows()):
            following = place + self.batches * self.share.accumulation
            if following <= self.start:
                place = following
                continue
            for batch in self._ordered(window, index).reshape(-1, self.share.rows):
                for part in self.share.parts():
                    # Loaders take a batch from each worker in turn.
                    if place >= self.start and (place - self.start) % workers == number:
                        rows = [window[position] for position in batch[part]]
                        if encode:
                            texts = encode([row["text"] for row in rows])
                            rows = [{**row, **text} for row, text in zip(rows, texts, strict=True)]
                        yield rows
                    place += 1

    def _ordered(self, window: list[dict[str, Any]], index: int) -> np.ndarray:
        order = np.arange(len(window))
        if self.strategy == "sequential":
            return order
        random = random_of(self.seed, index, 1, 0, 3)
        order = random.permutation(order)
        if self.strategy == "group_by_length":
            order = alike(order, np.array([window[row]["length"] for row in order]), self.share.rows, random)
        return order

    def _windows(self) -> Iterator[list[dict[str, Any]]]:
        window: list[dict[str, Any]] = []
        for epoch in count():
            number = -1
            for number, row in enumerate(self.packing.split(self.texts)):
                # A list of numbers takes 40 bytes for each of them.
                packed = {name: array("i", value) if isinstance(value, list) else value for name, value in row.items()}
                window.append({"row": number, "epoch": epoch, **packed})
                if len(window) == self.batches * self.share.rows:
                    yield window
                    window = []
            if number < 0:
                raise InputError("the corpus holds no text")


def _check(strategy: str) -> None:
    if strategy not in STRATEGIES:
        raise InputError(f"the order of rows must be one of {', '.join(STRATEGIES)}, got {strategy!r}")


__all__ = ["Batches", "Share", "Stream", "Table", "alike", "random_of", "shuffled"]
