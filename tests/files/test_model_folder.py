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
TENSORFLOW = ["model.ckpt.index", "model.ckpt.data-00000-of-00002", "model.ckpt.meta"]
# Files of a folder -> what the message says.
FOLDERS = {
    "tensorflow": (["bert_config.json", *TENSORFLOW, "vocab.txt"], "weights, model.ckpt; kexue-hf convert "),
    "keras": (["bert_config.json", "best_model.weights"], "weights, best_model.weights; kexue-hf convert "),
    "tta": (["config.json", *TENSORFLOW, "vocab.txt"], "weights, model.ckpt; kexue-hf convert "),
    "arguments": (["bert_config.json", *TENSORFLOW, "training_args.bin"], "weights, model.ckpt; kexue-hf"),
    "adapter": (["adapter_config.json"], "an adapter of PEFT"),
    "training": (["checkpoint-90/config.json", "checkpoint-1000/config.json", "checkpoint-7/x"], "checkpoint-1000"),
    "index": (["faiss.index"], "no config.json here; expected the folder of a transformers model"),
    "empty": ([], "no config.json here; expected the folder of a transformers model"),
}


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


PLACES = {
    "model.ckpt": "a file of original weights; kexue-hf convert",
    "model.ckpt.index": "a file of original weights; kexue-hf convert",
    "model.ckpt.data-00000-of-00002": "a file of original weights; kexue-hf convert",
    "best_model.weights": "a file of original weights; kexue-hf convert",
    "tf_model.h5": "tf_model.h5 is a file; expected the folder",
    "faiss.index": "faiss.index is a file; expected the folder",
    "notes.txt": "notes.txt is a file; expected the folder",
}


@pytest.mark.parametrize("reader", [*OF_NAMES, *OF_FOLDERS])
@pytest.mark.parametrize("name", PLACES)
def test_a_file(reader: str, name: str, tmp_path: Path) -> None:
    written(tmp_path, [*TENSORFLOW, "best_model.weights", "tf_model.h5", "faiss.index", "notes.txt"])
    with pytest.raises(InputError) as caught:
        {**OF_NAMES, **OF_FOLDERS}[reader](str(tmp_path / name))
    assert PLACES[name] in str(caught.value)
    if name.startswith("model.ckpt"):
        assert f"convert {tmp_path / 'model.ckpt'} OUTPUT" in str(caught.value)


@pytest.mark.parametrize("reader", OF_NAMES)
@pytest.mark.parametrize("name", ["missing", "faiss", "x" * 5000, "x\0y", ".index"])
def test_neither_a_path_nor_a_name_on_the_hub(reader: str, name: str, tmp_path: Path) -> None:
    written(tmp_path, ["faiss.index"])
    with pytest.raises(InputError, match="is not a folder; expected the folder of a transformers model"):
        OF_NAMES[reader](str(tmp_path / name))


@pytest.mark.parametrize("reader", OF_NAMES)
def test_an_empty_name(reader: str) -> None:
    with pytest.raises(InputError, match="no model: expected a folder"):
        OF_NAMES[reader](" ")


@pytest.mark.parametrize(
    "weights",
    [["model.safetensors", "model.ckpt.index"], ["pytorch_model.bin"], ["tf_model.h5"]],
    ids=["safetensors", "pickle", "tensorflow"],
)
def test_a_model_folder_is_returned(weights: list[str], tmp_path: Path) -> None:
    assert check_model_place(written(tmp_path, ["config.json", *weights])) == str(tmp_path)
