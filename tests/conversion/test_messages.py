"""Messages about unusable sources and folders name the right cause and what to do."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_hf.cli.main import main
from tests.conversion.checkpoints import GOLDEN, golden_copy


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    """Run a command that must fail with one line; return stdout and stderr."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2 and captured.err.count("\n") == 1, captured.err
    return captured.out, captured.err


def a_zip(folder: Path) -> Path:
    path = folder / "wobert.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bert_model.ckpt.index", "x")
    return path


def a_file_of_pytorch(folder: Path) -> Path:
    path = folder / "pytorch_model.bin"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", "x")
    return path


def an_old_file_of_pytorch(folder: Path) -> Path:
    path = folder / "pytorch_model.bin"
    path.write_bytes(b"\x80\x02]q\x00.")
    return path


def a_file_of_transformers(folder: Path) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(b"\x02" + bytes(7) + b"{}")
    return path


def weights_alone(folder: Path) -> Path:
    (folder / "in").mkdir()
    (folder / "in" / "pytorch_model.bin").write_bytes(b"x")
    return folder / "in"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_zip, "is a zip archive; unpack it first, and give the folder"),
        (a_file_of_pytorch, "for PyTorch, give the folder with pytorch_model.bin, config.json and vocab.txt"),
        (an_old_file_of_pytorch, "for PyTorch, give the folder with"),
        (a_file_of_transformers, "is a transformers file; give the folder that holds it"),
        (weights_alone, "holds no checkpoint: it has pytorch_model.bin, but no config.json"),
    ],
    ids=["zip", "pytorch", "old_pytorch", "safetensors", "weights_alone"],
)
@pytest.mark.parametrize("command", ["convert", "extend"])
def test_sources(
    make: Callable[[Path], Path], message: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in say(capsys, command, make(tmp_path), tmp_path / "out")[1]


def a_training(folder: Path) -> Path:
    for name in ("checkpoint-90", "checkpoint-204"):
        (folder / "papers" / name).mkdir(parents=True)
        (folder / "papers" / name / "config.json").write_text("{}")
    return folder / "papers"


def an_adapter(folder: Path) -> Path:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    return folder / "adapter"


def an_empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_training, "papers: no config.json here; name a checkpoint of the training, like {}/papers/checkpoint-204"),
        (an_adapter, "adapter: an adapter of PEFT; expected a whole model: merge it"),
        (an_empty_folder, "empty: holds no checkpoint: expected bert_model.ckpt.index and bert_model.ckpt.data-... "
         "(TensorFlow), an .h5/.weights file (Keras), or config.json and model.safetensors (transformers)"),
    ],
    ids=["training", "adapter", "empty"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["convert", "extend", "verify"])
def test_folders_without_weights(
    make: Callable[[Path], Path], message: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path)
    if command == "verify":
        main_ok(capsys, "convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
        _, error = say(capsys, "verify", tmp_path / "in", "--against", source)
    else:
        _, error = say(capsys, command, source, tmp_path / "out")
    assert message.format(tmp_path) in error


def test_a_transformers_folder_takes_no_config_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_ok(capsys, "convert", GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
    _, error = say(capsys, "convert", tmp_path / "in", tmp_path / "out", "--config", tmp_path / "in" / "config.json")
    assert "is a transformers folder with its own config.json; leave out --config" in error


def test_verify_names_both_families_and_no_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_ok(capsys, "convert", GOLDEN / "wonezha_tf_ckpt", tmp_path / "out")
    _, error = say(capsys, "verify", tmp_path / "out", "--against", GOLDEN / "wobert_tf_ckpt")
    assert f"{tmp_path / 'out'} is a nezha, but {GOLDEN / 'wobert_tf_ckpt'} looks like wobert" in error
    assert "--family" not in error


def main_ok(capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert not stop.value.code
    capsys.readouterr()


@pytest.mark.parametrize(("kind", "advice"), [("bert", "kexue-hf convert turns one with WoBERT"), ("gpt2", "")])
@pytest.mark.parametrize("command", ["export", "verify"])
def test_a_foreign_folder(
    kind: str, advice: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    rest = ("--against", GOLDEN / "wobert_tf_ckpt") if command == "verify" else (tmp_path / "out",)
    _, error = say(capsys, command, tmp_path, *rest)
    assert f"model_type is '{kind}', expected one of wobert, nezha, " in error and "auto" not in error
    assert advice in error


@pytest.mark.parametrize("damage", [None, "config.json", "model_type"])
def test_doctor_fails_without_other_output(
    damage: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    if damage == "model_type":
        folder.mkdir()
        (folder / "config.json").write_text('{"model_type": ""}')
    elif damage:
        folder.mkdir()
    out, error = say(capsys, "doctor", folder)
    assert out == "" and (damage is not None or "no such folder" in error)


def test_an_original_with_a_pytorch_copy_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    shutil.copyfile(source / "vocab.txt", source / "pytorch_model.bin")
    main_ok(capsys, "convert", source, tmp_path / "out")
