"""A place that holds no model of transformers: the message says what it holds instead, and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_hf.batch.model_loading import load_encoder, load_masked_lm
from kexue_hf.conversion.saved_folder import open_folder
from kexue_hf.errors import InputError
from kexue_hf.files.model_folder import check_model_place
from kexue_hf.hub.folder_report import folder_report
from kexue_hf.play.model_place import model_place

OF_NAMES: dict[str, Callable[[str], object]] = {
    "masked_lm": load_masked_lm,
    "encoder": load_encoder,
    "player": model_place,
}
OF_FOLDERS: dict[str, Callable[[str], object]] = {
    "doctor": lambda name: folder_report(Path(name)),
    "verify": open_folder,
}
# Files of a folder -> what the message says.
FOLDERS = {
    "tensorflow": (["bert_config.json", "bert_model.ckpt.index", "vocab.txt"], "bert_model.ckpt.index; kexue-hf"),
    "keras": (["bert_config.json", "best_model.weights"], "best_model.weights; kexue-hf"),
    "tta": (["config.json", "model.ckpt.index", "vocab.txt"], "model.ckpt.index; kexue-hf"),
    "adapter": (["adapter_config.json"], "an adapter of PEFT"),
    "training": (["checkpoint-90/config.json", "checkpoint-1000/config.json", "checkpoint-7/x"], "checkpoint-1000"),
    "empty": ([], "no config.json here; expected the folder of a transformers model"),
}  # fmt: skip


def written(folder: Path, names: list[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("reader", [*OF_NAMES, *OF_FOLDERS])
@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_without_a_model(reader: str, case: str, tmp_path: Path) -> None:
    names, message = FOLDERS[case]
    with pytest.raises(InputError) as caught:
        {**OF_NAMES, **OF_FOLDERS}[reader](str(written(tmp_path, names)))
    assert message in str(caught.value) and str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", OF_NAMES)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.ckpt", "a checkpoint of TensorFlow; kexue-hf convert"),
        ("model.ckpt.index", "a file; kexue-hf convert"),
        ("best_model.weights", "a file; kexue-hf convert"),
        ("notes.txt", "a file; expected the folder"),
        ("missing", "is not a folder"),
        ("", "no model: expected a folder"),
    ],
)
def test_what_is_no_folder(reader: str, name: str, message: str, tmp_path: Path) -> None:
    written(tmp_path, ["model.ckpt.index", "best_model.weights", "notes.txt"])
    with pytest.raises(InputError) as caught:
        OF_NAMES[reader](str(tmp_path / name) if name else " ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "weights",
    [["model.safetensors", "model.ckpt.index"], ["pytorch_model.bin"], ["tf_model.h5"]],
    ids=["safetensors", "pickle", "tensorflow"],
)
def test_a_model_folder_is_returned(weights: list[str], tmp_path: Path) -> None:
    assert check_model_place(written(tmp_path, ["config.json", *weights])) == str(tmp_path)
