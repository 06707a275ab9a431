"""Files that try to hang, to fill the memory or to deceive: one line and exit code 2, soon, and nothing at OUTPUT."""

import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from safetensors import SafetensorError, safe_open

from kexue_hf.cli.main import main
from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.formats.tensorflow import TensorFlowCheckpoint
from kexue_hf.conversion.formats.tensorflow_index import MAGIC, BundleHeader, encode_header, read_table, write_varint
from kexue_hf.errors import CheckpointError, ConversionError, InputError
from kexue_hf.files.regular_file import check_folder
from kexue_hf.hub.saved_model import examine_folder
from kexue_hf.models.tta import vocabulary_tta
from kexue_hf.models.wobert import vocabulary_wobert
from kexue_hf.vocabulary.user_dictionary import read_user_dictionary
from tests.conversion.checkpoints import golden_copy, make_bundle, masked
from tests.conversion.test_bad_input import edit_h5, edit_json, run

PREFIX = "bert_model.ckpt"
SOON = 30.0  # seconds, mostly for imports


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < SOON


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "folder"
    convert(golden_copy("wobert_tf_ckpt", tmp_path_factory.mktemp("in")), folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(saved, tmp_path / "folder"))


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 32)


def many_lines(path: Path) -> None:
    path.write_bytes(b"\n" * 50_000_000)


KINDS = {
    "pipe": (pipe, "expected a regular file, got a pipe"),
    "device": (device, "expected a regular file, got a device"),
    "sparse": (sparse, "4,294,967,296 bytes"),
}


@pytest.mark.parametrize("name", ["trainer_state.json", "pairs.json", "corpus.txt", "model.safetensors"])
def test_large_files_that_loaders_read_in_chunks(name: str, tmp_path: Path) -> None:
    sparse(tmp_path / name)
    check_folder(tmp_path)
    (tmp_path / name).unlink()
    pipe(tmp_path / name)
    with pytest.raises(InputError, match="got a pipe"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "config.4.0.0.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "tokenizer.4.0.0.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json",
        "merges.txt", "spiece.model", "model.safetensors.index.json", "preprocessor_config.json",
        "adapter_config.json", "chat_template.json", "chat_template.jinja",
    ],
)  # fmt: skip
def test_files_that_loaders_read_at_once_are_limited(name: str, tmp_path: Path) -> None:
    sparse(tmp_path / name)
    with pytest.raises(InputError, match=r"4,294,967,296 bytes, expected at most 67,108,864"):
        check_folder(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["vocab.txt", "bert_config.json"])
def test_an_endless_source_file(name: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    KINDS[kind][0](source / name)
    assert KINDS[kind][1] in run(capsys, "convert", source, tmp_path / "out")
    if kind != "sparse":
        option = "--vocab" if name == "vocab.txt" else "--config"
        message = run(capsys, "convert", source / PREFIX, tmp_path / "out", option, source / name)
        assert "expected a regular file" in message
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_refused_name_is_not_found_by_pattern(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    (source / "vocab.txt").unlink()
    pipe(source / "my_vocab.txt")
    assert "vocab.txt: missing" in run(capsys, "convert", source, tmp_path / "out")
    pipe(source / "checkpoint")  # read if there are several checkpoints
    (source / "other.ckpt.index").touch()
    assert "holds several checkpoints" in run(capsys, "convert", source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["pipe"])
@pytest.mark.parametrize(
    "name", ["config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors", "added_tokens.json"]
)
@pytest.mark.parametrize("command", ["export", "extend", "doctor", "score", "performer-report"])
def test_a_saved_folder_with_a_special_file(
    command: str, name: str, kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS[kind][0](folder / name)
    text = folder.with_name("text.txt")
    text.write_text("文" * 99, encoding="utf-8")
    more: dict[str, list[object]] = {"score": ["文"], "doctor": [], "performer-report": ["--file", text]}
    arguments = more.get(command, [folder.with_name("out")])
    with pytest.raises(SystemExit) as stop:
        main([command, *map(str, [folder, *arguments])])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and KINDS[kind][1] in error and error.count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_user_dictionaries_and_vocabularies(kind: str, tmp_path: Path) -> None:
    KINDS[kind][0](tmp_path / "words.txt")
    with pytest.raises(InputError, match=KINDS[kind][1]):
        read_user_dictionary(tmp_path / "words.txt")
    for module in (vocabulary_wobert, vocabulary_tta):
        with pytest.raises(ValueError, match=r"expected a regular file|at most for a vocabulary"):
            module.load_vocabulary(tmp_path / "words.txt")


def test_fifty_million_lines(tmp_path: Path) -> None:
    many_lines(tmp_path / "vocab.txt")
    with pytest.raises(ValueError, match="50,000,000 bytes, expected 16,777,216 at most for a vocabulary"):
        vocabulary_wobert.load_vocabulary(tmp_path / "vocab.txt")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("command", ["score", "embed", "correct"])
def test_a_text_file_that_is_not_a_regular_file(
    command: str, kind: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    KINDS[kind][0](tmp_path / "lines.txt")
    message = run(capsys, command, folder, "--file", tmp_path / "lines.txt")
    assert f"{KINDS[kind][1]}; to read a pipe, give - and use stdin" in message


# The index of a TensorFlow checkpoint.


def table(content: bytes, places: bytes, list_restarts: int = 1) -> bytes:
    """Return a table of raw blocks with their trailers, and an index block."""
    index = places + struct.pack(f"<{list_restarts + 1}I", *[0] * list_restarts, list_restarts)
    offset = len(content)
    content += index + b"\0" + struct.pack("<I", masked(index + b"\0"))
    footer = write_varint(0) + write_varint(0) + write_varint(offset) + write_varint(len(index))
    return content + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def block(body: bytes, restarts: int = 1) -> bytes:
    body += struct.pack(f"<{restarts + 1}I", *[0] * restarts, restarts)
    return body + b"\0" + struct.pack("<I", masked(body + b"\0"))


def entry(shared: int, own: bytes, value: bytes) -> bytes:
    return write_varint(shared) + write_varint(len(own)) + write_varint(len(value)) + own + value


def place(key: bytes, offset: int, size: int) -> bytes:
    return entry(0, key, write_varint(offset) + write_varint(size))


def test_keys_with_a_long_shared_prefix(tmp_path: Path) -> None:
    rows = [entry(0, b"", encode_header(BundleHeader())), entry(0, b"k" * 16_378, b"")]
    rows += [entry(16_378, b"%06d" % number, b"") for number in range(150_000)]
    data = block(b"".join(rows))
    assert len(data) < 2_000_000
    (tmp_path / "m.index").write_bytes(table(data, place(b"z", 0, len(data) - 5)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="its keys have more than 16,777,216 bytes"):
        TensorFlowCheckpoint(tmp_path / "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_a_block_listed_many_times() -> None:
    data = block(b"", restarts=1_000_000)
    places = b"".join(place(struct.pack(">I", number), 0, len(data) - 5) for number in range(10_000))
    with pytest.raises(ValueError, match="its blocks overlap or are not in order"):
        list(read_table(table(data, places)))


@pytest.mark.parametrize("rank", [230, 100_000])
def test_absurd_shapes(rank: int, tmp_path: Path) -> None:
    def change(_: str, entry: Any) -> None:
        entry.shape = [2**63 - 1] * rank

    make_bundle(tmp_path / "m", {"x": ("float32", np.zeros(2, "<f4"))}, change=change)
    with pytest.raises(CheckpointError, match="a tensor has more than 32 dimensions"):
        TensorFlowCheckpoint(tmp_path / "m")


# safetensors


def write_raw(path: Path, header: bytes | dict, values: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)


def row(begin: Any, end: Any, shape: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


REFUSED: dict[str, tuple[bytes | dict, int]] = {
    "overlap": ({"a": row(0, 8, [2]), "b": row(4, 12, [2])}, 12),
    "gap": ({"a": row(0, 8, [2]), "b": row(12, 20, [2])}, 20),
    "shifted": ({"a": row(4, 12, [2])}, 12),
    "bytes_after": ({"a": row(0, 8, [2])}, 12),
    "no_tensors": ({}, 4),
    "list": (b"[]", 0),
    "number": (b"5", 0),
    "null": (b"null", 0),
    "text": (b'"x"', 0),
    "float_offset": ({"a": row(0, 8.0, [2])}, 8),
    "float_shape": ({"a": row(0, 8, [2.0])}, 8),
    "bool_shape": ({"a": row(0, 4, [True])}, 4),
    "negative": ({"a": row(0, 8, [-1, -2])}, 8),
    "no_shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, 8),
    "shape_a_number": ({"a": row(0, 8, 2)}, 8),
    "three_offsets": ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4, 8]}}, 8),
    "dtype_a_number": ({"a": row(0, 8, [2], 3)}, 8),
    "dtype_unknown": ({"a": row(0, 8, [2], "F31")}, 8),
    "another_size": ({"a": row(0, 8, [3])}, 8),
    "huge": ({"a": row(0, 8, [2**63, 2**63])}, 8),
    "row_a_list": ({"a": [1]}, 0),
    "metadata": ({"__metadata__": {"format": 3}, "a": row(0, 8, [2])}, 8),
    "metadata_list": ({"__metadata__": ["pt"], "a": row(0, 8, [2])}, 8),
    "not_utf8": (b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
    "surrogate": (b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', 8),
    "nan": (b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', 8),
    "deep": (b"[" * 100_000, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_the_library_refuses(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, size = REFUSED[case]
    write_raw(folder / "model.safetensors", header, bytes(size))
    with pytest.raises(SafetensorError), safe_open(folder / "model.safetensors", "np"):
        pass
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        SafetensorsFile(folder / "model.safetensors")
    assert any("not a readable safetensors file" in problem for problem in examine_folder(folder))
    run(capsys, "export", folder, folder.with_name("out"))


def test_keys_that_occur_twice(tmp_path: Path) -> None:
    text = json.dumps(row(0, 8, [2]))
    write_raw(tmp_path / "m", f'{{"a": {text}, "a": {text}}}'.encode(), bytes(8))
    with pytest.raises(CheckpointError, match="a key occurs twice"):
        SafetensorsFile(tmp_path / "m")


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({}, 0),
        ({"a": row(0, 0, [0, 3]), "b": row(0, 8, [2]), "c": row(8, 8, [0])}, 8),
        ({"b": row(4, 8, []), "a": row(0, 4, [1]), "__metadata__": {"format": "pt"}}, 8),
        (b'{"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}     ', 3),
    ],
    ids=["none", "empty", "order", "padding"],
)
def test_files_that_the_library_accepts(header: bytes | dict, size: int, tmp_path: Path) -> None:
    write_raw(tmp_path / "m", header, bytes(size))
    with safe_open(tmp_path / "m", "np") as file, SafetensorsFile(tmp_path / "m") as ours:
        assert set(ours.tensors) == set(file.keys())


def test_a_shifted_tensor_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    name = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    header[name]["data_offsets"] = [at - 4 for at in header[name]["data_offsets"]]
    write_raw(folder / "model.safetensors", header, raw[8 + size :])
    assert "does not begin where" in run(capsys, "export", folder, folder.with_name("out"))


# JSON


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"architectures": 5}, "architectures should be a list of names, got 5"),
        ("config.json", {"architectures": [5]}, "architectures should be a list of names, got 5"),
        ("config.json", {"model_type": ["wobert"]}, "model_type should be a text"),
        ("config.json", {"id2label": [1]}, "id2label should be an object"),
        ("config.json", {"pooling": {}}, "pooling should be a text"),
        ("config.json", {"tie_word_embeddings": "no"}, "tie_word_embeddings should be true or false"),
        ("config.json", {"id2label": {"0": "\ud800"}}, "with half a surrogate pair"),
        ("config.json", {"hidden_size": 10**400}, "hidden_size should be a positive whole number"),
        ("tokenizer_config.json", {"user_words": ["\ud800x"]}, "with half a surrogate pair"),
        ("tokenizer_config.json", {"user_words": [3]}, "user_words should be a list of words, got 3"),
        ("tokenizer_config.json", {"added_tokens_decoder": 3}, "added_tokens_decoder should be an object"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("command", ["export", "extend"])
def test_values_of_the_wrong_type(
    command: str, name: str, changes: dict, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_json(folder / name, **changes)
    assert message in run(capsys, command, folder, folder.with_name("out"))


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", ".", "../m.safetensors"])
def test_file_names_of_an_index(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    run(capsys, "extend", folder, folder.with_name("out"))


# HDF5


def test_a_chunk_that_is_larger_than_its_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = golden_copy("wobert_keras_h5", tmp_path / "in")
    name = "Embedding-Token/Embedding-Token/embeddings:0"

    def edit(file: h5py.File) -> None:
        values = file[name][:]
        del file[name]
        chunk = {"maxshape": (None, None), "chunks": (500_000, 1000), "compression": "gzip", "fillvalue": 0}
        # HDF5 would need the memory of the chunk if it were written.
        file.create_dataset(name, values.shape, values.dtype, **chunk)

    edit_h5(source / "best_model.weights", edit)
    assert "chunks of [500000, 1000], larger than its shape" in run(capsys, "convert", source, tmp_path / "out")


WRITE_ERRORS = """
import os, resource, sys
import numpy as np
from kexue_hf.conversion.formats.keras import write_keras
from tests.conversion.test_hostile_files import move, Source
weights = Source()
moves = [move(name) for name in weights.tensors]
layers = [(name, [name]) for name in weights.tensors]
size = None
for limit in [None, *range(0, 60_000, 997)]:
    allowed = resource.RLIM_INFINITY if limit is None else limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, resource.RLIM_INFINITY))
    try:
        write_keras("w.h5", weights, moves, layers)
        size = size or os.path.getsize("w.h5")
        print("written", limit)
    except OSError as error:
        assert error.errno == 27 and (size is None or limit < size), (error, limit)
        print("refused")
"""


def move(name: str) -> Any:
    from kexue_hf.conversion.formats.weight_source import BY_NAME, Move

    return Move(name, name, False, (10, 50), BY_NAME["float32"])


def Source() -> Any:
    from tests.conversion.test_round_trip import Arrays

    return Arrays({f"w{number}": ("float32", np.zeros((10, 50), "<f4")) for number in range(20)})


def test_write_errors_of_hdf5_are_errors(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", WRITE_ERRORS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.split("\n")
    assert lines[0] == "written None" and lines.count("refused") > 40


# Names


@pytest.mark.parametrize("name", ["\x1b]0;title\x07", "x" * 16_000, "a\rb", "\u202eevil"])
@pytest.mark.parametrize("kind", ["tensorflow", "safetensors"])
def test_names_are_printed_escaped_and_shortened(
    kind: str, name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "tensorflow":
        source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
        make_bundle(source / PREFIX, {name: ("float32", np.zeros(2, "<f4"))})
        arguments: list[object] = ["convert", source]
    else:
        write_raw(folder / "model.safetensors", {name: row(0, 8, [2])}, bytes(8))
        arguments = ["export", folder]
    message = run(capsys, *arguments, tmp_path / "out")
    assert name not in message and message[:-1].isprintable() and len(message) < 2000
    with pytest.raises((ConversionError, CheckpointError)) as error:
        from kexue_hf.conversion.export import export

        (convert if kind == "tensorflow" else export)(str(arguments[1]), tmp_path / "out")
    assert name not in str(error.value)


@pytest.mark.parametrize("change", [lambda f: edit_json(f / "config.json", hidden_act="\x1b[2J" * 9000)])
def test_values_are_printed_escaped(
    change: Callable[[Path], object], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder)
    message = run(capsys, "export", folder, folder.with_name("out"))
    assert "\x1b" not in message and len(message) < 1000
