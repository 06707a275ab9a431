"""Mutated checkpoints: the reader raises CheckpointError or returns the stored values.

There are 300 mutants by default; set KEXUE_FUZZ=2000 for the full run. They are of two kinds: random damage, which
the checksums must catch, and damage to the index with corrected checksums, which reaches the parsers. Mutants of the
second kind may give other values, but must not crash, hang or request absurd amounts of memory.
"""

import os
import random
import resource
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kexue_hf.conversion.open_source import open_original
from kexue_hf.errors import CheckpointError, KexueError
from tests.conversion.checkpoints import GOLDEN, golden_copy, masked, read_all

MUTANTS = int(os.environ.get("KEXUE_FUZZ", "300"))
BATCHES = 10
INDEX, DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]
HANGS = 600  # seconds; a batch takes less than one, so only an endless parser takes longer
MEMORY = 256 * 1024  # kB by which all mutants of a batch together may grow the process


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return data with one to four random changes: to bits or bytes, moves, repeats, cuts."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if not out:
            break
        at = chance.randrange(len(out))
        size = min(chance.choice([1, 2, 4, 8, 48, 500]), len(out) - at)
        kind = chance.randrange(8)
        if kind == 0:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            out[at] = chance.choice(INTERESTING)
        elif kind == 2:
            out[at : at + size] = chance.randbytes(size)
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            out[at:at] = out[at : at + size]
        elif kind == 5:
            out[at : at + size] = b"\xff" * size
        elif kind == 6:
            del out[at:]
        else:
            other = chance.randrange(len(out))
            out[at : at + size] = out[other : other + size]
    return bytes(out)


def mend(index: bytes) -> bytes:
    """Correct the checksums of the three blocks of an index, if the footer still locates them."""
    out = bytearray(index)
    length = 2461 - 48  # the golden index: data block, meta block, block list
    for start, size in blocks(bytes(out), length):
        if start + size + 5 <= len(out):
            struct.pack_into("<I", out, start + size + 1, masked(bytes(out[start : start + size + 1])))
    return bytes(out)


def blocks(index: bytes, end: int) -> list[tuple[int, int]]:
    from kexue_hf.conversion.formats.tensorflow_index import _read_handle

    footer = (GOLDEN / "wobert_tf_ckpt" / INDEX).read_bytes()[-48:]
    meta_offset, meta_size, at = _read_handle(footer, 0)
    list_offset, list_size, _ = _read_handle(footer, at)
    return [(0, meta_offset - 5), (meta_offset, meta_size), (list_offset, list_size)]


@pytest.fixture(scope="module")
def original() -> dict[str, np.ndarray]:
    return read_all(GOLDEN / "wobert_tf_ckpt" / "bert_model.ckpt")


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    """Fail the test if a parser never ends."""

    def stop(*_: object) -> None:
        pytest.fail(f"still parsing after {HANGS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANGS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_mutant_is_read_as_another_checkpoint(batch: int, original: dict[str, np.ndarray], tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    good = {name: (source / name).read_bytes() for name in (INDEX, DATA)}
    chance = random.Random(1000 + batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for _ in range(MUTANTS // BATCHES):
        for name in (INDEX, DATA):
            (source / name).write_bytes(good[name])
        for name in chance.choice([(INDEX,), (DATA,), (INDEX, DATA)]):
            (source / name).write_bytes(mutate(good[name], chance))
        try:
            values = read_all(source / "bert_model.ckpt")
        except CheckpointError:
            refused += 1
        else:
            for name, array in values.items():
                assert array.dtype == original[name].dtype and array.tobytes() == original[name].tobytes(), name
    assert refused > MUTANTS // BATCHES // 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY


@pytest.mark.parametrize("batch", range(BATCHES))
def test_mutants_with_good_checksums(batch: int, tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    good = (source / INDEX).read_bytes()
    chance = random.Random(2000 + batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parsed = 0
    for _ in range(MUTANTS // BATCHES):
        body = bytearray(good)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(good) - 48)
            size = min(chance.choice([1, 1, 2, 8]), len(good) - 48 - at)
            body[at : at + size] = chance.choice([chance.randbytes(size), bytes([chance.choice(INTERESTING)]) * size])
        (source / INDEX).write_bytes(mend(bytes(body)))
        try:
            with open_original(source):
                parsed += 1
            read_all(source / "bert_model.ckpt")
        except KexueError as error:
            parsed += "checksum of the block" not in str(error)
    assert parsed > MUTANTS // BATCHES // 2, "the mended checksums are not: the parsers were not reached"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
