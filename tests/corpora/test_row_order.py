"""The order of rows: processes and accumulated steps take parts of the same global batches."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from kexue_hf.corpora.row_order import (
    STRATEGIES,
    Batches,
    Share,
    Stream,
    Table,
    group_by_length,
    random_generator,
    shuffled,
)
from kexue_hf.errors import InputError

ROWS = 103
LENGTHS = np.random.default_rng(0).integers(4, 60, ROWS)
# Divisions of 8 rows per step: batch size, gradient accumulation, processes.
SHARES = [(8, 1, 1), (4, 1, 2), (2, 2, 2), (1, 8, 1)]


def of_all(batch: int, accumulation: int, processes: int) -> list[Share]:
    return [Share(batch, accumulation, process, processes) for process in range(processes)]


def steps(parts: list[list], accumulation: int) -> list[list]:
    """Return the rows that all processes compute in each step, in the order of the global batch."""
    number = len(parts[0]) // accumulation
    return [
        [row for micro in range(accumulation) for part in parts for row in part[step * accumulation + micro]]
        for step in range(number)
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("shape", SHARES, ids=str)
def test_every_division_computes_the_same_steps(strategy, shape):
    def order(shape: tuple[int, int, int], epoch: int = 0) -> list[list]:
        parts = []
        for share in of_all(*shape):
            batches = Batches(ROWS, share, seed=5, strategy=strategy, lengths=LENGTHS)
            batches.set_epoch(epoch)
            parts.append(list(batches))
            assert len(batches) == len(parts[-1]) == 12 * shape[1]
        return steps(parts, shape[1])

    assert order(shape) == order((8, 1, 1))
    rows = [row for step in order(shape) for row, epoch in step]
    assert len(rows) == len(set(rows)) == 96  # seven rows do not fill a batch
    if strategy != "sequential":
        assert order(shape, epoch=1) != order(shape) and rows != sorted(rows)


def test_batches_of_similar_length_waste_little():
    def padding(strategy: str) -> float:
        lengths = [[LENGTHS[row] for row, _ in batch] for batch in Batches(ROWS, Share(8), 0, strategy, LENGTHS)]
        return sum(max(batch) * len(batch) for batch in lengths) / sum(map(sum, lengths))

    assert padding("group_by_length") < 1.1 < 1.4 < padding("random")


def test_the_order_depends_on_the_seed():
    assert np.array_equal(shuffled(9, 1, 2), shuffled(9, 1, 2))
    assert not np.array_equal(shuffled(50, 1, 2), shuffled(50, 1, 3))
    # This order must never change, so that a later version can resume a run.
    assert shuffled(8, 42, 0).tolist() == [2, 0, 3, 4, 7, 6, 5, 1]
    order = group_by_length(np.arange(8), np.arange(8)[::-1], 2, random_generator(0, 0))
    assert sorted(map(tuple, order.reshape(-1, 2).tolist())) == [(1, 0), (3, 2), (5, 4), (7, 6)]


def test_too_few_rows_and_unknown_orders():
    with pytest.raises(InputError, match="the corpus has 7 rows, but a step takes 8"):
        Batches(7, Share(2, 2, 0, 2))
    with pytest.raises(InputError, match="must be one of random, sequential, group_by_length, got 'batch_rebalance'"):
        Batches(8, Share(2), strategy="batch_rebalance")


def test_a_table_returns_the_keys():
    from datasets import Dataset

    table = Table(Dataset.from_dict({"length": [5, 6, 7]}))
    assert table.__getitems__([(2, 4), (0, 4)]) == [
        {"row": 2, "epoch": 4, "length": 7},
        {"row": 0, "epoch": 4, "length": 5},
    ]
    assert table[1] == {"row": 1, "epoch": 0, "length": 6} and len(table) == 3
    assert table.column("length").tolist() == [5, 6, 7]


class Whole:
    """A packing in which each text is a row."""

    def split(self, texts: list[str]) -> Iterator[dict]:
        return ({"text": text, "length": len(text)} for text in texts)


class Late(Whole):
    """A packing that encodes rows on demand."""

    encoded = 0

    def encode(self, texts: list[str]) -> list[dict]:
        self.encoded += len(texts)
        return [{"input_ids": list(map(ord, text))} for text in texts]


TEXTS = ["字" * length for length in LENGTHS.tolist()]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("shape", SHARES, ids=str)
def test_a_stream_is_divided_the_same_way(strategy, shape):
    def order(shape: tuple[int, int, int]) -> list[list]:
        streams = [Stream(TEXTS, Whole(), share, 5, strategy, window=50) for share in of_all(*shape)]
        return steps([list(islice(stream, 30 * shape[1])) for stream in streams], shape[1])

    assert order(shape) == order((8, 1, 1))
    keys = [(row["row"], row["epoch"]) for step in order(shape) for row in step]
    assert len(set(keys)) == 240 and {epoch for _, epoch in keys} == {0, 1, 2}
    if strategy == "group_by_length":
        spread = [max(row["length"] for row in step) - min(row["length"] for row in step) for step in order(shape)]
        assert np.mean(spread) < 15
    if strategy == "sequential":
        assert keys[:103] == [(row, 0) for row in range(103)]


@pytest.mark.parametrize("start", [0, 1, 6, 7, 23])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_resumes_anywhere_and_with_any_loader(start, workers):
    share = Share(4, 2, 1, 2)
    expected = list(islice(Stream(TEXTS, Whole(), share, window=50), start + 9))[start:]
    stream = Stream(TEXTS, Whole(), share, window=50, start=start)
    loader = DataLoader(stream, batch_size=None, num_workers=workers)
    assert list(islice(loader, 9)) == expected


def test_only_the_share_of_the_process_is_encoded():
    packing = Late()
    first = list(islice(Stream(TEXTS, packing, Share(4, 1, 0, 2), window=48, start=4), 2))
    assert packing.encoded == 8 and first[0][0]["input_ids"]


def test_a_window_holds_four_bytes_a_number():
    class Packed(Whole):
        def split(self, texts: list[str]) -> Iterator[dict]:
            return ({"input_ids": [5] * len(text), "length": len(text)} for text in texts)

    ids = next(iter(Stream(TEXTS, Packed(), Share(2))))[0]["input_ids"]
    assert memoryview(ids).nbytes == 4 * len(ids) and set(ids) == {5}


def test_an_empty_stream_is_refused():
    with pytest.raises(InputError, match="holds no text"):
        next(iter(Stream([], Whole(), Share(2))))
