"""The readers read what the writers write, for any names, shapes, types, chunks and transposed matrices."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_hf.conversion.formats.keras import KerasWeights, write_keras
from kexue_hf.conversion.formats.safetensors import SafetensorsFile, write_safetensors
from kexue_hf.conversion.formats.tensorflow import TensorFlowCheckpoint, write_tensorflow
from kexue_hf.conversion.formats.weight_source import BY_NAME, Move, StoredTensor, WeightSource

FLOATS = ("float32", "float16", "float64")


class Arrays(WeightSource):
    """Arrays in memory as a source, in chunks of five values."""

    def __init__(self, arrays: dict[str, tuple[str, np.ndarray]]) -> None:
        self.arrays = arrays
        super().__init__(
            "memory", {n: StoredTensor(n, BY_NAME[kind], a.shape, a.nbytes) for n, (kind, a) in arrays.items()}
        )

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        flat = self.arrays[name][1].reshape(-1)
        yield from (flat[start : start + 5] for start in range(0, len(flat), 5))

    def moves(self) -> list[Move]:
        """Return moves that transpose every matrix."""
        return [
            Move(name, f"new/{name}", a.ndim == 2, a.T.shape if a.ndim == 2 else a.shape, BY_NAME[kind])
            for name, (kind, a) in self.arrays.items()
        ]


@st.composite
def sources(draw: st.DrawFn, kinds: tuple[str, ...] = FLOATS) -> Arrays:
    names = draw(st.lists(st.text("abc_0/词", min_size=1, max_size=9), min_size=1, max_size=6, unique=True))
    arrays = {}
    for name in names:
        shape = tuple(draw(st.lists(st.integers(0, 150), max_size=2)))
        kind = draw(st.sampled_from(kinds))
        seed = draw(st.integers(0, 2**31))
        bits = np.random.default_rng(seed).integers(0, 256, int(np.prod(shape)) * BY_NAME[kind].size, dtype=np.uint8)
        arrays[name] = (kind, bits.view(BY_NAME[kind].numpy).reshape(shape))
    return Arrays(arrays)


def check(opened: WeightSource, source: Arrays) -> None:
    with opened:
        assert set(opened.tensors) >= {move.target for move in source.moves()}
        for move in source.moves():
            expected = source.arrays[move.source][1]
            expected = expected.T if move.transposed else expected
            values = opened.read(move.target)
            assert values.shape == expected.shape
            assert values.tobytes() == expected.tobytes()


@settings(max_examples=60, deadline=None)
@given(sources((*FLOATS, "bfloat16", "int64", "bool")))
def test_tensorflow(source: Arrays) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_tensorflow(f"{folder}/m", source, source.moves())
        check(TensorFlowCheckpoint(f"{folder}/m"), source)


@settings(max_examples=60, deadline=None)
@given(sources((*FLOATS, "bfloat16")))
def test_safetensors(source: Arrays) -> None:
    with tempfile.TemporaryDirectory() as folder:
        size = write_safetensors(f"{folder}/m", source, source.moves())
        assert size == Path(f"{folder}/m").stat().st_size
        check(SafetensorsFile(f"{folder}/m"), source)


@settings(max_examples=25, deadline=None)
@given(sources())
def test_keras(source: Arrays) -> None:
    # Keras names have no empty parts, and a group cannot also be a data set.
    source = Arrays({f"w{number}": row for number, row in enumerate(source.arrays.values())})
    layers = [("layer", [move.target for move in source.moves()])]
    with tempfile.TemporaryDirectory() as folder:
        write_keras(f"{folder}/m", source, source.moves(), layers)
        reader = KerasWeights(f"{folder}/m")
        assert reader.layers == layers
        check(reader, source)


def test_the_safetensors_package_reads_our_file(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    source = Arrays({"x": ("float32", np.arange(6, dtype="<f4").reshape(2, 3)), "y": ("float16", np.ones(3, "<f2"))})
    write_safetensors(tmp_path / "m", source, source.moves())
    loaded = load_file(tmp_path / "m")
    np.testing.assert_array_equal(loaded["new/x"], source.arrays["x"][1].T)
    assert loaded["new/y"].dtype == np.float16


def test_names_too_long_for_one_attribute_are_split_and_joined(tmp_path: Path) -> None:
    import h5py

    layers = [(f"layer_{number:05d}_" + "x" * 60, [f"n{number}/kernel:0"]) for number in range(1500)]
    source = Arrays({names[0]: ("float32", np.float32([number])) for number, (_, names) in enumerate(layers)})
    moves = [Move(name, name, False, (1,), BY_NAME["float32"]) for name in source.arrays]
    write_keras(tmp_path / "m.h5", source, moves, layers)
    with h5py.File(tmp_path / "m.h5") as file:
        assert "layer_names" not in file.attrs and "layer_names1" in file.attrs
    with KerasWeights(tmp_path / "m.h5") as reader:
        assert reader.layers == layers


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("transposed", [False, True], ids=["straight", "transposed"])
def test_casts_equal_torch(kind: str, transposed: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(3).standard_normal((70, 90)).astype("<f4") * np.logspace(-6, 4, 90, dtype="<f4")
    values[0, :4] = [np.inf, -np.inf, np.nan, -0.0]
    move = Move("x", "x", transposed, values.T.shape if transposed else values.shape, BY_NAME["float32"])
    write_safetensors(tmp_path / "m", Arrays({"x": ("float32", values)}), [move], BY_NAME[kind])
    expected = torch.from_numpy(values.T.copy() if transposed else values).to(getattr(torch, kind))
    with SafetensorsFile(tmp_path / "m") as opened:
        found = torch.from_numpy(opened.read("x").view("<i4" if kind == "float32" else "<i2"))
    bits = expected.contiguous().view(torch.int32 if kind == "float32" else torch.int16)
    nan = torch.isnan(expected)
    assert torch.equal(found[~nan], bits[~nan])
    assert torch.isnan(found.view(expected.dtype)[nan]).all()
