"""Any problem with a source or an output: one line, exit code 2, no traceback, nothing at OUTPUT."""

import errno
import gzip
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kexue_hf.cli.main import main
from kexue_hf.conversion.formats import safetensors
from tests.conversion.checkpoints import GOLDEN, edit_bundle, golden_copy

PREFIX = "bert_model.ckpt"
DATA = f"{PREFIX}.data-00000-of-00001"


class Bomb:
    """Unpickling it leaves a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle-was-loaded",)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail; return its line on stderr."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("kexue-hf: error: ") and "Traceback" not in captured.err
    return captured.err


def overwrite(path: Path, position: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[position : position + len(data) if position + len(data) else None] = data
    path.write_bytes(content)


def edit_json(path: Path, **changes: Any) -> None:
    fields = json.loads(path.read_text())
    fields.update(changes)
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not ...}))


def truncate(path: Path, size: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(size)


def replace_tensor(folder: Path, name: str, array: np.ndarray | None) -> None:
    def edit(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        if array is None:
            del tensors[name]
        else:
            tensors[name] = ("float32", array)

    edit_bundle(folder / PREFIX, edit)


CHECKPOINT_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing_index": (lambda f: (f / f"{PREFIX}.index").unlink(), "bert_model.ckpt.index: missing"),
    "missing_shard": (lambda f: (f / DATA).unlink(), f"{DATA}: missing"),
    "truncated_shard": (lambda f: truncate(f / DATA, 1000), "the file is truncated"),
    "empty_shard": (lambda f: truncate(f / DATA, 0), "the file is truncated"),
    "flipped_byte": (lambda f: overwrite(f / DATA, 5000, b"\xff\xfe\xfd"), "checksum of tensor"),
    "empty_index": (lambda f: truncate(f / f"{PREFIX}.index", 0), "it has 0 bytes, expected at least 48"),
    "truncated_index": (lambda f: truncate(f / f"{PREFIX}.index", 1500), "wrong magic number"),
    "wrong_magic": (lambda f: overwrite(f / f"{PREFIX}.index", -8, b"\0" * 8), "wrong magic number"),
    "flipped_index_byte": (lambda f: overwrite(f / f"{PREFIX}.index", 700, b"\xff"), "checksum of the block at 0"),
    "absurd_block": (
        lambda f: overwrite(f / f"{PREFIX}.index", -48, b"\xff\xff\xff\xff\xff\xff\x7f" * 4),
        "lies outside its",
    ),
    "index_is_a_folder": (
        lambda f: ((f / f"{PREFIX}.index").unlink(), (f / f"{PREFIX}.index").mkdir()),
        "expected a regular file",
    ),
    "index_is_a_pipe": (
        lambda f: ((f / f"{PREFIX}.index").unlink(), os.mkfifo(f / f"{PREFIX}.index")),
        "expected a regular file",
    ),
    "index_is_a_pickle": (
        lambda f: (f / f"{PREFIX}.index").write_bytes(pickle.dumps(Bomb()) + b" " * 50),
        "wrong magic number",
    ),
    "missing_tensor": (
        lambda f: replace_tensor(f, "bert/encoder/layer_1/output/LayerNorm/beta", None),
        "1 tensors are missing: bert/encoder/layer_1/output/LayerNorm/beta",
    ),
    "tensor_of_another_shape": (
        lambda f: replace_tensor(f, "bert/pooler/dense/kernel", np.zeros((48, 47), "<f4")),
        "bert/pooler/dense/kernel is [48, 47], expected [48, 48]",
    ),
    "unknown_tensor": (lambda f: replace_tensor(f, "mine", np.zeros(3, "<f4")), "unknown to a wobert model"),
    "no_config": (
        lambda f: (f / "bert_config.json").unlink(),
        "name the configuration of the checkpoint with --config",
    ),
    "config_not_json": (lambda f: (f / "bert_config.json").write_text("{oops"), "not a JSON file"),
    "config_not_text": (lambda f: (f / "bert_config.json").write_bytes(b"\xff\xfe\x80"), "not a JSON file"),
    "config_a_list": (lambda f: (f / "bert_config.json").write_text("[1]"), "expected a JSON object"),
    "config_very_deep": (lambda f: (f / "bert_config.json").write_text("[" * 100_000), "not a JSON file"),
    "config_lacks_a_key": (lambda f: edit_json(f / "bert_config.json", hidden_size=...), "lacks hidden_size"),
    "config_without_activation": (lambda f: edit_json(f / "bert_config.json", hidden_act=...), "lacks hidden_act"),
    "unknown_activation": (lambda f: edit_json(f / "bert_config.json", hidden_act="magic"), "got 'magic'"),
    "size_is_text": (lambda f: edit_json(f / "bert_config.json", hidden_size="48"), "positive whole number, got '48'"),
    "size_is_negative": (lambda f: edit_json(f / "bert_config.json", num_hidden_layers=-1), "positive whole number"),
    "absurd_layers": (lambda f: edit_json(f / "bert_config.json", num_hidden_layers=10**12), "layers 0 to 2"),
    "absurd_size": (lambda f: edit_json(f / "bert_config.json", intermediate_size=10**18), "do not have the shape"),
    "heads_do_not_divide": (lambda f: edit_json(f / "bert_config.json", num_attention_heads=5), "not a multiple"),
    "factorised_embedding": (lambda f: edit_json(f / "bert_config.json", embedding_size=8), "embedding_size is 8"),
    "other_network": (
        lambda f: edit_json(f / "bert_config.json", use_relative_position=True),
        "unknown to a nezha model",
    ),
    "fewer_layers": (lambda f: edit_json(f / "bert_config.json", num_hidden_layers=2), "has layers 0 to 2"),
    "vocab_size_differs": (lambda f: edit_json(f / "bert_config.json", vocab_size=346), "is [347, 48], expected [346"),
    "no_vocab": (lambda f: (f / "vocab.txt").unlink(), "--vocab"),
    "vocab_too_long": (lambda f: (f / "vocab.txt").open("a").write("x\n"), "has 348 tokens"),
    "vocab_empty": (lambda f: truncate(f / "vocab.txt", 0), "has 0 tokens"),
    "vocab_not_utf8": (lambda f: overwrite(f / "vocab.txt", 0, b"\xff"), "not UTF-8"),
    "vocab_without_specials": (lambda f: overwrite(f / "vocab.txt", 0, b"[PUD]"), "lacks [PAD]"),
}


@pytest.mark.parametrize("damage", CHECKPOINT_DAMAGE)
def test_damaged_checkpoints(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    change, message = CHECKPOINT_DAMAGE[damage]
    change(source)
    assert message in run(capsys, "convert", source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def edit_h5(path: Path, edit: Callable[[h5py.File], object]) -> None:
    with h5py.File(path, "r+") as file:
        edit(file)


def external_link(file: h5py.File) -> None:
    del file["dense_13"]
    file["dense_13"] = h5py.ExternalLink("/etc/other.h5", "/dense_13")


def soft_link(at: str) -> Callable[[h5py.File], object]:
    """Replace `at` by a link to a link to another file, which exists and is valid."""

    def edit(file: h5py.File) -> None:
        other = Path(file.filename).with_name("other")
        with h5py.File(other, "w") as new:
            file.copy(at, new, "there")
        del file[at]
        file["far"] = h5py.ExternalLink(str(other), "/there")
        file[at] = h5py.SoftLink("/far")

    return edit


def link_inside(file: h5py.File) -> None:
    file.move("dense_13", "other")
    file["dense_13"] = h5py.SoftLink("/other")


def virtual(file: h5py.File) -> None:
    del file["dense_13/dense_13/bias:0"]
    layout = h5py.VirtualLayout((5,), "<f4")
    layout[:] = h5py.VirtualSource("/etc/other.h5", "x", (5,), "<f4")
    file["dense_13"].create_virtual_dataset("dense_13/bias:0", layout)


def external_storage(file: h5py.File) -> None:
    del file["dense_13/dense_13/bias:0"]
    file["dense_13"].create_dataset("dense_13/bias:0", (5,), "<f4", external=[("/etc/hostname", 0, 20)])


def unallocated(file: h5py.File) -> None:
    del file["dense_13/dense_13/bias:0"]
    file["dense_13"].create_dataset("dense_13/bias:0", (2**40,), "<f4", chunks=(1024,))


KERAS_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "not_h5": (lambda p: p.write_bytes(b"hello there, no weights"), "is not an HDF5 file"),
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps(Bomb())), "is a Python pickle"),
    "old_pickle": (lambda p: p.write_bytes(pickle.dumps(Bomb(), protocol=0)), "is not an HDF5 file"),
    "zip": (lambda p: zipfile.ZipFile(p, "w").writestr("data.pkl", pickle.dumps(Bomb())), "is a zip archive"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(p.read_bytes())), "unpack it first"),
    "truncated": (lambda p: truncate(p, 100_000), "not a readable HDF5 file"),
    "only_a_signature": (lambda p: truncate(p, 8), "not a readable HDF5 file"),
    "no_layer_names": (lambda p: edit_h5(p, lambda f: f.attrs.pop("layer_names")), "no attribute layer_names"),
    "missing_group": (lambda p: edit_h5(p, lambda f: f.pop("Embedding-Norm")), "not a readable Keras weight file"),
    "missing_weight": (
        lambda p: edit_h5(p, lambda f: f.pop("Embedding-Norm/Embedding-Norm/beta:0")),
        "not a readable Keras weight file",
    ),
    "group_for_a_weight": (
        lambda p: edit_h5(
            p, lambda f: (f.pop("dense_13/dense_13/bias:0"), f.create_group("dense_13/dense_13/bias:0"))
        ),
        "is not a data set",
    ),
    "link_to_another_file": (lambda p: edit_h5(p, external_link), "is a link, possibly to another file"),
    "link_to_a_link": (lambda p: edit_h5(p, soft_link("dense_13")), "is a link, possibly to another file"),
    "link_in_a_layer": (
        lambda p: edit_h5(p, soft_link("dense_13/dense_13/bias:0")),
        "is a link, possibly to another file",
    ),
    "link_inside_the_file": (lambda p: edit_h5(p, link_inside), "is a link, possibly to another file"),
    "virtual_data": (lambda p: edit_h5(p, virtual), "lies in another file"),
    "data_in_another_file": (lambda p: edit_h5(p, external_storage), "lies in another file"),
    "absurd_shape": (lambda p: edit_h5(p, unallocated), "cannot fit into"),
    "layer_lost": (
        lambda p: edit_h5(
            p, lambda f: f.attrs.create("layer_names", [n for n in f.attrs["layer_names"] if n != b"Embedding-Token"])
        ),
        "no word embeddings",
    ),
    "head_lost": (
        lambda p: edit_h5(
            p, lambda f: f["Transformer-1-FeedForward-Norm"].attrs.create("weight_names", np.array([], "S1"))
        ),
        "2 tensors are missing: Transformer-1-FeedForward-Norm, weight 1",
    ),
}


@pytest.mark.parametrize("damage", KERAS_DAMAGE)
def test_damaged_keras_files(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = golden_copy("wobert_keras_h5", tmp_path / "in")
    change, message = KERAS_DAMAGE[damage]
    change(source / "best_model.weights")
    monkeypatch.chdir(tmp_path)
    assert message in run(capsys, "convert", source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "no such file, folder or checkpoint prefix"),
        ("empty", "holds no checkpoint"),
        ("empty/bert_model.ckpt", "no such file"),
    ],
)
def test_no_source_at_all(source: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert message in run(capsys, "convert", tmp_path / source, tmp_path / "out")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("--dtype", "int8"), "choose one of float32, float16, bfloat16"),
        (("--family", "bort"), "unknown family"),
        (("--config", "nowhere.json"), "no such file (the configuration, --config)"),
        (("--vocab", "nowhere.txt"), "no such file (the vocabulary, --vocab)"),
        (("--license", "foo: bar"), "expected a licence identifier of the Hub, like apache-2.0"),
        (("--license", "mit\ntags: x"), "expected a licence identifier of the Hub, like apache-2.0"),
        (("--license", ""), "expected a licence identifier of the Hub, like apache-2.0"),
    ],
    ids=lambda value: value[0][2:] if isinstance(value, tuple) else "",
)
def test_wrong_options(command: tuple[str, str], message: str, tmp_path: Path, capsys: Any) -> None:
    assert message in run(capsys, "convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "out", *command)
    assert list(tmp_path.iterdir()) == []


def a_file(path: Path) -> Path:
    path.write_text("mine")
    return path


NO_NAME = ""
PLACES: dict[str, tuple[Callable[[Path], Path | str], str]] = {
    "a_file": (lambda t: a_file(t / "file"), "is a file"),
    "below_a_file": (lambda t: a_file(t / "file") / "out", "cannot be written"),
    "in_proc": (lambda t: Path("/proc/kexue/out"), "cannot be written"),
    "no_name": (lambda t: NO_NAME, "OUTPUT is empty; name the folder to make"),
    "the_root": (lambda t: Path("/"), "cannot be a model folder"),
    "name_too_long": (lambda t: t / ("x" * 300), "File name too long"),
    "in_use": (lambda t: a_file(t / "file").parent, "exists and is not empty"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", ["convert", "export"])
def test_outputs_that_cannot_be_written(command: str, place: str, tmp_path: Path, capsys: Any) -> None:
    source: Path = GOLDEN / "wobert_tf_ckpt"
    if command == "export":
        main_ok("convert", source, tmp_path / "folder")
        source = tmp_path / "folder"
    where, message = PLACES[place]
    (tmp_path / "w").mkdir()
    target = where(tmp_path / "w")
    before = sorted(path.name for path in (tmp_path / "w").iterdir())
    assert message in run(capsys, command, source, target)
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == before


def main_ok(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments), "--quiet"])
    assert not stop.value.code


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in run(capsys, "convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "locked" / "out")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=["full", "quota", "broken"])
def test_a_write_that_fails_half_way(code: int, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    written = 0

    def write_all(file: Any, data: Any) -> None:
        nonlocal written
        written += len(data)
        if written > 100_000:
            raise OSError(code, os.strerror(code))
        file.write(data)

    monkeypatch.setattr(safetensors, "write_all", write_all)
    line = run(capsys, "convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "deep" / "out")
    assert ("the disk is full" in line) == (code != errno.EIO) and os.strerror(code) in line
    assert list(tmp_path.iterdir()) == []


def test_a_write_error_of_the_kernel(tmp_path: Path) -> None:
    """The kernel refuses the write: the process may not write files of more than 100 kB."""
    command = [
        sys.executable,
        "-m",
        "kexue_hf.cli.main",
        "convert",
        str(GOLDEN / "wobert_tf_ckpt"),
        str(tmp_path / "out"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert done.returncode == 2
    assert "the disk is full (File too large)" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_refused_at_once(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    assert "the disk has 1,000 left" in run(capsys, "convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_source_name(tmp_path: Path, capsys: Any) -> None:
    assert "SOURCE is empty" in run(capsys, "convert", "", tmp_path / "out")
    assert "FOLDER is empty" in run(capsys, "export", "", tmp_path / "out")


def drop_lines(path: Path, count: int) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-count]), encoding="utf-8")


def tokenizer(**fields: Any) -> Callable[[Path], object]:
    """Return an edit of a folder: tokenizer settings, and one more row of embeddings than tokens."""

    def edit(folder: Path) -> None:
        drop_lines(folder / "vocab.txt", 1)
        edit_json(folder / "config.json", vocab_fingerprint=...)
        edit_json(folder / "tokenizer_config.json", **fields)

    return edit


def lose_tokens(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_fingerprint=...)
    drop_lines(folder / "vocab.txt", 128)


FOLDER_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no_config": (lambda f: (f / "config.json").unlink(), "no config.json here"),
    "no_weights": (lambda f: (f / "model.safetensors").unlink(), "cannot be read: No such file"),
    "no_vocab": (lambda f: (f / "vocab.txt").unlink(), "No such file"),
    "other_model": (
        lambda f: edit_json(f / "config.json", model_type="gpt2"),
        "model_type is 'gpt2', expected one of wobert",
    ),
    "no_model_type": (lambda f: edit_json(f / "config.json", model_type=...), "lacks model_type"),
    "truncated_weights": (lambda f: truncate(f / "model.safetensors", 100_000), "lies outside it: truncated?"),
    "absurd_header": (lambda f: overwrite(f / "model.safetensors", 0, b"\xff" * 8), "does not fit into"),
    "header_not_json": (lambda f: overwrite(f / "model.safetensors", 8, b"oops"), "not a readable safetensors file"),
    "weights_are_a_pickle": (
        lambda f: (f / "model.safetensors").write_bytes(pickle.dumps(Bomb())),
        "not a readable safetensors file",
    ),
    "untied": (lambda f: edit_json(f / "config.json", tie_word_embeddings=False), "expected an output layer tied"),
    "absurd_layers": (
        lambda f: edit_json(f / "config.json", num_hidden_layers=10**8),
        "says num_hidden_layers 100000000, the checkpoint has layers 0 to 2; correct config.json",
    ),
    "absurd_vocabulary": (lambda f: edit_json(f / "config.json", vocab_size=10**15), "expected [1000000000000000"),
    "too_many_tokens": (
        lambda f: (f / "vocab.txt").open("a").write("x\n"),
        "has 348 tokens, the model has embeddings for 347: it belongs to another model",
    ),
    "a_token_lost": (
        lambda f: drop_lines(f / "vocab.txt", 1),
        "is not the vocabulary of this model, which has 347 embeddings: its fingerprint is",
    ),
    "many_tokens_lost": (lose_tokens, "128 of them have no token in it or among the added tokens"),
    "added_tokens_a_list": (tokenizer(added_tokens_decoder=[1]), "added_tokens_decoder should be an object"),
    "added_token_without_id": (tokenizer(added_tokens_decoder={"x": "y"}), "should be 0 or more, got 'x'"),
    "added_token_no_text": (tokenizer(added_tokens_decoder={"346": {"content": 5}}), "should be a text, got 5"),
    "added_token_of_two_lines": (
        tokenizer(added_tokens_decoder={"346": {"content": "a\nb"}}),
        "has a line end in it: vocab.txt cannot hold it",
    ),
    "added_token_known": (
        tokenizer(added_tokens_decoder={"346": {"content": "[CLS]"}}),
        "'[CLS]' has an id in vocab.txt already",
    ),
    "added_token_half_a_character": (
        tokenizer(added_tokens_decoder={"346": {"content": "\ud800"}}),
        "is no valid Unicode: vocab.txt cannot hold it",
    ),
    "user_words_a_number": (tokenizer(user_words=5), "user_words should be a list"),
    "tokenizer_not_json": (
        lambda f: (f / "tokenizer_config.json").write_text("{oops"),
        "tokenizer_config.json: not a JSON file",
    ),
    "in_several_files": (
        lambda f: (f / "model.safetensors.index.json").write_text("{}"),
        "expected one weight file, got several",
    ),
}


@pytest.mark.parametrize("damage", FOLDER_DAMAGE)
def test_folders_that_cannot_be_exported(damage: str, tmp_path: Path, capsys: Any) -> None:
    main_ok("convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
    change, message = FOLDER_DAMAGE[damage]
    change(tmp_path / "in")
    assert message in run(capsys, "export", tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_keras_has_no_question_answering_head(tmp_path: Path, capsys: Any) -> None:
    import kexue_hf

    main_ok("convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
    kexue_hf.WoBertForQuestionAnswering.from_pretrained(tmp_path / "in").save_pretrained(tmp_path / "qa")
    shutil.copyfile(tmp_path / "in" / "vocab.txt", tmp_path / "qa" / "vocab.txt")
    capsys.readouterr()
    line = run(capsys, "export", tmp_path / "qa", tmp_path / "out", "--to", "keras")
    assert "bert4keras has no layer for the head qa_outputs" in line and "--to tf" in line
    main_ok("export", tmp_path / "qa", tmp_path / "out", "--to", "tf")


def test_export_to_an_unknown_format(tmp_path: Path, capsys: Any) -> None:
    assert "choose tf or keras" in run(capsys, "export", tmp_path, tmp_path / "out", "--to", "onnx")


def test_verify_lists_every_difference_and_exits_with_2(tmp_path: Path, capsys: Any) -> None:
    main_ok("convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    edit_json(tmp_path / "out" / "config.json", intermediate_size=113, vocab_fingerprint="x")
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(tmp_path / "out"), "--against", str(GOLDEN / "wobert_tf_ckpt")])
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(lines) == 4
    assert "intermediate_size is 113, from the source 112" in lines[1]
