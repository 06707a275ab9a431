"""`verify` against the source of another model, and what it says about a folder that was trained since."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kexue_hf.cli.main import main
from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.verify import verify
from tests.conversion.checkpoints import GOLDEN

# Saved type -> its source.
OWN = {
    "cln_matcher": "sohu_matcher_keras_h5",
    "nezha": "wonezha_tf_ckpt",
    "roformer": "roformer_tf_ckpt",
    "tta": "tta_tf_ckpt",
    "wobert": "wobert_tf_ckpt",
    "xiangqi_gpt": "cchess_lm_keras_h5",
}
# Golden source -> its type.
SOURCES = {source: family for family, source in OWN.items()} | {
    "cchess_from_bert": "wobert",
    "wobert_from_bert": "wobert",
    "wobert_keras_h5": "wobert",
    "wobert_mlm_only_tf_ckpt": "wobert",
}
# The chess model starts from this BERT: the weights are equal.
EQUAL = ("xiangqi_gpt", "cchess_from_bert")
PAIRS = [(saved, source) for saved in OWN for source, family in SOURCES.items() if family != saved]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each type, by its name."""
    place = tmp_path_factory.mktemp("saved")
    for family, source in OWN.items():
        convert(GOLDEN / source, place / family)
    return place


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """Return the lines on stderr of a command that must fail."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert stop.value.code == 2 and captured.out == ""
    return captured.err.splitlines()


@pytest.mark.parametrize(("saved", "source"), [pair for pair in PAIRS if pair != EQUAL])
def test_the_source_of_another_type(
    saved: str, source: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = output_of(capsys, "verify", folders / saved, "--against", GOLDEN / source)
    assert f"{folders / saved} is a {saved}, but {GOLDEN / source} looks like {SOURCES[source]} (" in line
    assert line.endswith("): give the source of the folder")


def test_every_golden_source_is_a_pair() -> None:
    named = {path.name for path in GOLDEN.iterdir() if list(path.glob("*.index")) or list(path.glob("*.weights"))}
    assert named == set(SOURCES)


def test_a_chess_model_that_equals_its_start(folders: Path) -> None:
    assert verify(folders / EQUAL[0], GOLDEN / EQUAL[1]).differences == []


def test_another_model_of_the_type_is_compared(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = output_of(capsys, "verify", folders / "wobert", "--against", GOLDEN / "wobert_mlm_only_tf_ckpt")
    assert "config.json: hidden_size is 48, from the source 32" in lines[1] and "trained" not in lines[-1]


def changed(folder: Path, names: list[str], left_out: str = "") -> int:
    """Change values of the tensors, and leave out those whose names begin with a text; return how many there were."""
    tensors = load_file(folder / "model.safetensors")
    for name in names or list(tensors):
        tensors[name] = tensors[name] + np.float32(1)
    kept = {name: values for name, values in tensors.items() if not left_out or not name.startswith(left_out)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return len(tensors)


def test_a_folder_that_was_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, source = tmp_path / "out", GOLDEN / "wobert_tf_ckpt"
    convert(source, folder)
    count = changed(folder, [])
    summary = f"{count} of {count} tensors differ, in their values only: the folder may have been trained since"
    lines = output_of(capsys, "verify", folder, "--against", source)
    assert len(lines) == 15 and lines[-1] == summary
    assert lines[-2] == f"  ... and {count - 12} more; --all prints them"
    every = output_of(capsys, "verify", folder, "--against", source, "--all")
    assert len(every) == count + 2 and every[-1] == summary and all(" differ" in line for line in every)


def test_a_folder_with_another_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, source = tmp_path / "out", GOLDEN / "wobert_tf_ckpt"
    convert(source, folder)
    changed(folder, ["bert.pooler.dense.bias"], "cls.")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["WoBertModel"]}), "utf-8")
    lines = output_of(capsys, "verify", folder, "--against", source)
    # The heads are listed before the values.
    assert "cls.predictions.bias is missing" in lines[1] and "bert.pooler.dense.bias: 48 of 48" in lines[-2]
    assert lines[-1] == (
        "8 of 62 tensors differ: 7 are only in one, the others differ in their values only; the folder may have been "
        "trained since, with another head"
    )


@pytest.mark.parametrize("change", ["shape", "config"])
def test_no_training_explains_it(change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, source = tmp_path / "out", GOLDEN / "wobert_tf_ckpt"
    convert(source, folder)
    if change == "shape":
        tensors = load_file(folder / "model.safetensors")
        tensors["bert.pooler.dense.bias"] = tensors["bert.pooler.dense.bias"][:-1]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        changed(folder, ["bert.pooler.dense.weight"])
    else:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.5}), "utf-8")
    lines = output_of(capsys, "verify", folder, "--against", source)
    assert lines[-1] == f"{2 if change == 'shape' else 0} of 62 tensors differ"


def edited(folder: Path, copy: Path, **changes: np.ndarray | None) -> Path:
    """Return a copy of a folder with tensors replaced or, by None, removed; their names have __ for a dot."""
    shutil.copytree(folder, copy)
    tensors = load_file(copy / "model.safetensors")
    for name, value in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if value is not None:
            tensors[name.replace("__", ".")] = value
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    return copy


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_a_tensor_stored_beside_its_twin(other: float, folders: Path, tmp_path: Path) -> None:
    """transformers ties the two only if they are equal."""
    embeddings = load_file(folders / "wobert" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    copy = edited(
        folders / "wobert", tmp_path / "copy", cls__predictions__decoder__weight=embeddings + np.float32(other)
    )
    report = verify(copy, GOLDEN / OWN["wobert"])
    assert [line.partition(" differs from ")[0] for line in report.differences] == (
        ["tensor cls.predictions.decoder.weight"] if other else []
    )


def test_tensors_in_neither_are_no_sign_of_a_training(folders: Path, tmp_path: Path) -> None:
    embeddings = load_file(folders / "wobert" / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    copy = edited(folders / "wobert", tmp_path / "copy", bert__embeddings__word_embeddings__weight=embeddings + 1)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "architectures": ["WoBertForSequenceClassification"]}))
    summary = verify(copy, GOLDEN / OWN["wobert"]).summary
    assert summary.endswith("tensors differ, and 2 that config.json requires are in neither")
