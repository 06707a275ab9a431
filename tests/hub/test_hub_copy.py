"""What we save is loaded by every Auto class in a fresh process, with this package and without it, to equal outputs.

The process without the package has `kexue_hf` blocked and passes `trust_remote_code=True`. Oracle: the outputs and
encodings in this process.
"""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import transformers

import kexue_hf
from kexue_hf.integrations.auto_classes import MODEL_TYPES
from tests.fresh_process import run_elsewhere
from tests.hub.hub_types import TOKENS, TYPES, WORD_TEXTS, word_tokenizer
from tests.hub.loading import Texts, encodings, model_outputs
from tests.models.tiny_models import tiny_model, trained_model

LOAD = "from tests.hub.loading import main; main()"
SERVE = "from tests.hub.loading import serve_every_auto_class; serve_every_auto_class()"


def auto_classes(model_type: str) -> dict[str, str]:
    """{Auto class: our class}, the configuration's excepted."""
    auto_map = importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}").AUTO_MAP
    return {auto: reference.split(".")[1] for auto, reference in auto_map.items() if auto != "AutoConfig"}


class Saved(NamedTuple):
    model_type: str
    folders: list[tuple[str, Path]]
    outputs: list[list[np.ndarray]]
    encodings: list[Any]


def save_models(model_type: str, root: Path) -> list[tuple[str, Path]]:
    """(Auto class, folder) of a model of every class, and of what can be made of the last one."""
    kind = TYPES[model_type]
    tokenizer, folders = kind.tokenizer(), []
    for number, (auto, name) in enumerate(auto_classes(model_type).items()):
        sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
        model = trained_model(name, **sizes, **kind.options(number))
        if model_type == "performer_bert":
            batches = [tokenizer(*texts, padding=True, return_tensors="pt") for texts in kind.texts]
            kexue_hf.calibrate_performer(model, batches)
        folders.append((auto, root / name))
        model.save_pretrained(root / name)
    if hasattr(model, "fold_task"):
        folders.insert(0, (auto, root / "folded"))
        model.fold_task(1).save_pretrained(root / "folded")
    for _, folder in folders:
        tokenizer.save_pretrained(folder)
    return folders


@pytest.fixture(scope="module", params=MODEL_TYPES)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, converted: Callable[[str], Path]
) -> Saved:
    kind = TYPES[request.param]
    folders = save_models(request.param, tmp_path_factory.mktemp("hub"))
    if kind.checkpoint is not None:
        auto, case = kind.checkpoint
        folders.insert(0, (auto, converted(case)))
    outputs, encoded = [], []
    for auto, folder in folders:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = getattr(transformers, auto).from_pretrained(folder)
        outputs.append(model_outputs(model, tokenizer, kind.texts))
        encoded.append(encodings(tokenizer, kind.texts))
    return Saved(request.param, folders, outputs, encoded)


def load_elsewhere(mode: str, folders: list[tuple[str, Path]], texts: Texts, target: Path) -> dict[str, np.ndarray]:
    """Outputs of the folders' models in a fresh process with or without the package."""
    pairs = [f"{auto}={folder}" for auto, folder in folders]
    run_elsewhere(LOAD, target, mode, json.dumps(texts), target, *pairs)
    return dict(np.load(target / "outputs.npz"))


def files_of_code(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.py")}


@pytest.mark.parametrize("mode", ["with", "without"])
def test_every_auto_class_loads_what_was_saved_or_converted(mode: str, saved: Saved, tmp_path: Path) -> None:
    texts = TYPES[saved.model_type].texts
    found = load_elsewhere(mode, saved.folders, texts, tmp_path)
    expected = {
        f"{number}_{place}": output
        for number, outputs in enumerate(saved.outputs)
        for place, output in enumerate(outputs)
    }
    assert found.keys() == expected.keys()
    for name, output in expected.items():
        np.testing.assert_allclose(found[name], output, rtol=1e-5, atol=1e-5, err_msg=name)
    assert json.loads((tmp_path / "tokenizations.json").read_text()) == saved.encodings
    # Code and auto_map travel on where somebody without the package saves a model again.
    auto, folder = saved.folders[-1]
    again = getattr(transformers, auto).from_pretrained(tmp_path / "again")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert encodings(tokenizer, texts) == saved.encodings[-1]
    for one, other in zip(model_outputs(again, tokenizer, texts), saved.outputs[-1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert files_of_code(tmp_path / "again") == files_of_code(folder)
    assert json.loads((tmp_path / "again" / "config.json").read_text())["auto_map"] == again.config.auto_map
    if (tmp_path / "folded").exists():
        assert files_of_code(tmp_path / "folded") == {name for name in files_of_code(folder) if "tokeniz" not in name}


def test_the_folder_of_the_base_model_serves_every_auto_class(saved: Saved, tmp_path: Path) -> None:
    autos = auto_classes(saved.model_type)
    (folder,) = (folder for auto, folder in saved.folders if auto == "AutoModel")
    run_elsewhere(SERVE, tmp_path, folder, *(f"{auto}={name}" for auto, name in autos.items()))


def test_push_to_hub_uploads_a_self_sufficient_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two calls a user makes, with the network calls of huggingface_hub replaced by a folder."""
    import huggingface_hub
    from transformers.utils import hub

    uploaded: dict[str, bytes] = {}

    def create_commit(self, repo_id, operations, **_):
        for operation in operations:
            content = operation.path_or_fileobj
            uploaded[operation.path_in_repo] = content if isinstance(content, bytes) else Path(content).read_bytes()

    class Created:
        repo_id = "somebody/wobert"

    api = huggingface_hub.HfApi
    monkeypatch.setattr(api, "create_repo", lambda *_, **__: Created())
    monkeypatch.setattr(api, "create_commit", create_commit)
    monkeypatch.setattr(hub, "create_and_tag_model_card", lambda *_, **__: huggingface_hub.ModelCard("# card"))

    tiny_model("WoBertForMaskedLM", vocab_size=len(TOKENS)).push_to_hub("somebody/wobert")
    word_tokenizer().push_to_hub("somebody/wobert")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in uploaded.items():
        (copy / name).write_bytes(content)
    found = load_elsewhere("without", [("AutoModelForMaskedLM", copy)], [[WORD_TEXTS]], tmp_path)
    assert found["0_0"].shape[-1] == len(TOKENS)
