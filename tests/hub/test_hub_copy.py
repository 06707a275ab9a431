"""What we save is loaded by every Auto class in a fresh process, with this package and without it, to equal outputs.

The process without the package has `kexue_hf` blocked and passes `trust_remote_code=True`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import kexue_hf
from kexue_hf import WoBertConfig, WoBertTokenizer
from kexue_hf.models.wobert.auto_map_wobert import AUTO_MAP
from tests.fresh_process import run_elsewhere

HEADS = {auto: reference.split(".")[1] for auto, reference in AUTO_MAP.items() if auto != "AutoConfig"}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENS = [*SPECIAL, "，", "。", "今", "天", "今天", "天气", "不错", "很", "好", "a", "##b"]
TEXTS = ["今天天气不错，很好。", "今天[MASK]很好 ab"]

LOADER = """
import sys, numpy, torch
import_package, target, folders = sys.argv[1] == "with", sys.argv[2], sys.argv[3:]
if import_package:
    import kexue_hf
else:
    sys.modules["kexue_hf"] = None  # importing it raises ImportError
import transformers
flags = {} if import_package else {"trust_remote_code": True}
results = {}
for pair in folders:
    auto, folder = pair.split("=", 1)
    config = transformers.AutoConfig.from_pretrained(folder, **flags)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **flags)
    model, info = getattr(transformers, auto).from_pretrained(folder, output_loading_info=True, **flags)
    assert type(model).__module__.startswith("kexue_hf" if import_package else "transformers_modules"), type(model)
    assert type(tokenizer).__module__.startswith("kexue_hf" if import_package else "transformers_modules")
    assert not info["missing_keys"] and not info["unexpected_keys"], info
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    if auto == "AutoModelForMultipleChoice":
        encoded = {name: value[:, None] for name, value in encoded.items()}
    with torch.no_grad():
        for number, output in enumerate(model.eval()(**encoded).to_tuple()):
            results[f"{auto}_{number}"] = output.numpy()
numpy.savez(target, **results)
""".replace("TEXTS", repr(TEXTS))


def small_config() -> WoBertConfig:
    return WoBertConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
    )


def small_tokenizer(folder: Path) -> WoBertTokenizer:
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in TOKENS), encoding="utf-8")
    return WoBertTokenizer(vocab_file=str(vocabulary), user_words=["气不"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory):
    """{Auto class: folder} of all heads, saved with their tokenizer, and the outputs in this process."""
    root = tmp_path_factory.mktemp("hub")
    tokenizer = small_tokenizer(root)
    folders, expected = {}, {}
    for auto, name in HEADS.items():
        torch.manual_seed(1)
        model = getattr(kexue_hf, name)(small_config()).eval()
        folders[auto] = root / name
        model.save_pretrained(folders[auto])
        tokenizer.save_pretrained(folders[auto])
        encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
        if auto == "AutoModelForMultipleChoice":
            encoded = {key: value[:, None] for key, value in encoded.items()}
        with torch.no_grad():
            for number, output in enumerate(model(**encoded).to_tuple()):
                expected[f"{auto}_{number}"] = output.numpy()
    return folders, expected


def load_elsewhere(mode: str, folders: dict[str, Path], cwd: Path, code: str = LOADER) -> dict[str, np.ndarray]:
    """Outputs of the folders' models in a fresh process with or without the package."""
    target = cwd / "outputs.npz"
    run_elsewhere(code, cwd, mode, target, *(f"{auto}={folder}" for auto, folder in folders.items()))
    return dict(np.load(target))


@pytest.mark.parametrize("mode", ["with", "without"])
def test_every_auto_class_loads_what_was_saved(mode: str, saved, tmp_path: Path) -> None:
    folders, expected = saved
    actual = load_elsewhere(mode, folders, tmp_path)
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-6, err_msg=name)


def test_the_folder_of_one_head_serves_every_auto_class(saved, tmp_path: Path) -> None:
    folders, expected = saved
    # The base model's folder lacks the heads' own weights: they are newly initialised, as in all of transformers.
    code = LOADER.replace('assert not info["missing_keys"] and not info["unexpected_keys"], info', "")
    actual = load_elsewhere("without", dict.fromkeys(HEADS, folders["AutoModel"]), tmp_path, code)
    np.testing.assert_allclose(actual["AutoModel_0"], expected["AutoModel_0"], rtol=0, atol=1e-6)
    assert {name.split("_")[0] for name in actual} == set(HEADS)


def test_a_remote_copy_saves_a_folder_that_loads_again(saved, tmp_path: Path) -> None:
    """Somebody without the package fine-tunes and saves: code and complete auto_map travel on."""
    folders, expected = saved
    auto = "AutoModelForSequenceClassification"
    code = """
import sys
sys.modules["kexue_hf"] = None
import transformers
auto, source, target = sys.argv[1:]
getattr(transformers, auto).from_pretrained(source, trust_remote_code=True).save_pretrained(target)
transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=True).save_pretrained(target)
"""
    run_elsewhere(code, tmp_path, auto, folders[auto], tmp_path / "again")
    for mode in ("with", "without"):
        (tmp_path / mode).mkdir()
        actual = load_elsewhere(mode, {auto: tmp_path / "again"}, tmp_path / mode)
        np.testing.assert_allclose(actual[f"{auto}_0"], expected[f"{auto}_0"], rtol=0, atol=1e-6)


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

    kexue_hf.WoBertForMaskedLM(small_config()).push_to_hub("somebody/wobert")
    small_tokenizer(tmp_path).push_to_hub("somebody/wobert")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, content in uploaded.items():
        (copy / name).write_bytes(content)
    actual = load_elsewhere("without", {"AutoModelForMaskedLM": copy}, tmp_path)
    assert actual["AutoModelForMaskedLM_0"].shape[-1] == len(TOKENS)
