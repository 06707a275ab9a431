"""The reader of TensorFlow checkpoints, on golden files and on hand-made files that use every feature of the format.

The parity tests of the conversion check the values of golden files. These tests check names, shapes and stored arrays.
"""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from kexue_hf.conversion.formats.tensorflow import TensorFlowCheckpoint
from kexue_hf.conversion.formats.tensorflow_index import (
    BundleEntry,
    BundleHeader,
    build_table,
    encode_entry,
    encode_header,
    read_table,
)
from kexue_hf.conversion.formats.weight_source import ELEMENT_TYPES
from kexue_hf.errors import CheckpointError
from tests.conversion.checkpoints import GOLDEN, make_bundle, masked, read_all
from tests.shared_data import SHARED, needs_shared

RANDOM = np.random.default_rng(7)


@pytest.mark.parametrize("case", ["wobert_tf_ckpt", "wobert_mlm_only_tf_ckpt"])
def test_golden_names_and_shapes(case: str) -> None:
    expected = json.loads((GOLDEN / case / "case.json").read_text())["tf_checkpoint_variables"]
    values = read_all(GOLDEN / case / "bert_model.ckpt")
    assert {name: list(array.shape) for name, array in values.items()} == expected
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in values.values())


@needs_shared
def test_every_shared_checkpoint_is_readable() -> None:
    assert SHARED is not None
    prefixes = sorted(path.with_suffix("") for path in (SHARED / "golden").glob("*/*.index"))
    assert len(prefixes) >= 7
    for prefix in prefixes:
        assert read_all(prefix)


@pytest.mark.parametrize("kind", ELEMENT_TYPES, ids=lambda kind: kind.name)
def test_every_numeric_type(kind, tmp_path: Path) -> None:
    raw = RANDOM.integers(0, 2 if kind.name == "bool" else 256, size=15 * kind.size, dtype=np.uint8)
    values = raw.view(kind.numpy).reshape(3, 5)
    make_bundle(tmp_path / "m", {"x": (kind.name, values)})
    with TensorFlowCheckpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.tensors["x"].type == kind
        assert checkpoint.read("x").tobytes() == values.tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4, 5)], ids=str)
def test_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = RANDOM.standard_normal(shape).astype("<f4")
    make_bundle(tmp_path / "m", {"x": ("float32", np.asarray(values))})
    assert read_all(tmp_path / "m")["x"].shape == shape


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_several_data_files(shards: int, tmp_path: Path) -> None:
    tensors = {
        f"v{number:02d}": ("float32", RANDOM.standard_normal((number + 1, 3)).astype("<f4")) for number in range(9)
    }
    make_bundle(tmp_path / "m", tensors, shards=shards)
    for name, values in read_all(tmp_path / "m").items():
        np.testing.assert_array_equal(values, tensors[name][1])


def test_larger_than_a_chunk(tmp_path: Path) -> None:
    values = RANDOM.standard_normal((700, 1001)).astype("<f4")
    make_bundle(tmp_path / "m", {"a": ("int8", np.int8([1, 2, 3])), "x": ("float32", values)})
    with TensorFlowCheckpoint(tmp_path / "m") as checkpoint:
        assert len(list(checkpoint.chunks("x"))) > 2
        np.testing.assert_array_equal(checkpoint.read("x"), values)


@pytest.mark.parametrize("blocks", [1, 300, 5000], ids=["one_entry", "one_block", "several_blocks"])
def test_index_of_any_length(blocks: int) -> None:
    rows = [(f"layer_{number:06d}/kernel".encode(), bytes([number % 251]) * 40) for number in range(blocks)]
    assert list(read_table(build_table(rows))) == rows


@pytest.mark.parametrize(("kind", "name"), [(1, "snappy"), (2, "type 2")])
def test_a_compressed_index_is_refused(kind: int, name: str, tmp_path: Path) -> None:
    header = encode_header(BundleHeader())
    index = build_table([(b"", header)])
    # One entry: three lengths of one byte each and the value; then two restart words.
    size = 3 + len(header) + 8
    kind_byte = bytes([kind])
    trailer = kind_byte + struct.pack("<I", masked(index[:size] + kind_byte))
    (tmp_path / "m.index").write_bytes(index[:size] + trailer + index[size + len(trailer) :])
    message = rf"m\.index: expected uncompressed blocks, .* got a compressed one \({name}\); .* save it again$"
    with pytest.raises(CheckpointError, match=message):
        read_all(tmp_path / "m")


def test_a_string_variable_is_listed_and_not_read(tmp_path: Path) -> None:
    def as_string(name: str, entry: BundleEntry) -> None:
        entry.dtype = 7

    make_bundle(tmp_path / "m", {"_CHECKPOINTABLE_OBJECT_GRAPH": ("uint8", np.zeros(9, "u1"))}, change=as_string)
    with TensorFlowCheckpoint(tmp_path / "m") as checkpoint:
        assert checkpoint.tensors["_CHECKPOINTABLE_OBJECT_GRAPH"].type is None
        with pytest.raises(CheckpointError, match="type string, which holds no weights"):
            checkpoint.read("_CHECKPOINTABLE_OBJECT_GRAPH")


def test_a_partitioned_variable_is_refused_by_name(tmp_path: Path) -> None:
    sliced = encode_entry(BundleEntry(dtype=1, shape=[4, 2])) + b"\x3a\x00\x3a\x00"  # two empty TensorSliceProtos
    rows = {b"part": sliced, b"\x00part\x00\x01slice": encode_entry(BundleEntry(dtype=1, shape=[2, 2]))}
    make_bundle(tmp_path / "m", {"whole": ("float32", np.ones(2, "<f4"))}, extra=rows)
    with TensorFlowCheckpoint(tmp_path / "m") as checkpoint:
        assert set(checkpoint.tensors) == {"part", "whole"}
        with pytest.raises(CheckpointError, match="'part' is stored in 2 slices"):
            checkpoint.read("part")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (BundleHeader(endianness=1), "big-endian"),
        (BundleHeader(shards=3), r"missing; it is a data file"),
        (BundleHeader(shards=0), "data file 0 of 0"),
    ],
    ids=["big_endian", "more_shards_than_files", "no_shards"],
)
def test_headers_that_are_refused(header: BundleHeader, message: str, tmp_path: Path) -> None:
    make_bundle(tmp_path / "m", {"x": ("float32", np.ones(2, "<f4"))}, header=header)
    with pytest.raises(CheckpointError, match=message):
        TensorFlowCheckpoint(tmp_path / "m")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 2**62, "should have 8 bytes"),
        ("shape", [2**40, 2**40], "the index says 8"),
        ("shape", [2**63 - 1] * 30, "the index says 8"),
        ("shape", [1] * 33, "the file is damaged"),
        ("offset", 2**60, "the file is truncated"),
        ("shard", 10**9, "data file 1000000000 of 1"),
        ("crc", 0, "checksum of tensor 'x' does not match"),
    ],
    ids=["size", "shape", "shape_of_rank_30", "rank", "offset", "shard", "crc"],
)
def test_absurd_entries_are_refused_before_memory_is_asked_for(field, value, message: str, tmp_path: Path) -> None:
    make_bundle(
        tmp_path / "m", {"x": ("float32", np.ones(2, "<f4"))}, change=lambda _, entry: setattr(entry, field, value)
    )
    with pytest.raises(CheckpointError, match=message):
        read_all(tmp_path / "m")


def test_a_flipped_bit_anywhere_in_the_data_is_found(tmp_path: Path) -> None:
    make_bundle(tmp_path / "m", {"x": ("float32", RANDOM.standard_normal(40).astype("<f4"))})
    path = tmp_path / "m.data-00000-of-00001"
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(CheckpointError, match="checksum"):
            read_all(tmp_path / "m")


def test_a_long_chain_of_shared_keys_is_refused() -> None:
    """In a hostile table each key may extend the one before, so their total size would be quadratic."""
    rows = [(b"x" * number, b"") for number in range(1, 40_000, 400)]
    with pytest.raises(ValueError, match="runs past its block"):
        list(read_table(build_table(rows)))
