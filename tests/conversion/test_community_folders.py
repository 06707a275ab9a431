"""WoBERT and NEZHA folders of other implementations. Oracle: our conversion of the same weights."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForPreTraining, AutoTokenizer, BertTokenizer

from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.extend import extend
from kexue_hf.conversion.verify import verify
from kexue_hf.errors import CheckpointError, InputError, KexueError
from kexue_hf.hub.saved_model import examine_folder
from kexue_hf.models.wobert.vocabulary_wobert import VocabularyMismatchWarning
from kexue_hf.vocabulary import tokenizer_check
from tests.conversion.checkpoints import GOLDEN, golden_copy

FORMS = ("safetensors", "bin", "old_bin", "half_bin")


def community(case: str, folder: Path, form: str = "bin", kind: str = "bert", tokenizer: bool = True) -> Path:
    """Save the golden weights as the copies on the Hub do: with BERT's names and a BertTokenizer."""
    ours = folder.with_name("ours")
    convert(GOLDEN / case, ours, overwrite=ours.exists())
    folder.mkdir()
    fields = json.loads((ours / "config.json").read_text(encoding="utf-8"))
    for key in ("auto_map", "vocab_fingerprint", "tokenizer_class", "add_pooling_layer", "classifier_pooling"):
        del fields[key]
    fields |= {"model_type": kind, "architectures": ["BertForPreTraining"]}
    (folder / "config.json").write_text(json.dumps(fields))
    tensors = {
        "bert." + n.removeprefix("nezha.") if n.startswith("nezha.") else n: v
        for n, v in load_file(ours / "model.safetensors").items()
    }
    tensors["bert.embeddings.position_ids"] = torch.arange(9)
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    if form == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    elif form == "half_bin":
        torch.save(
            {name: value.bfloat16() if value.is_floating_point() else value for name, value in tensors.items()},
            folder / "pytorch_model.bin",
        )
    else:
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=form == "bin")
    shutil.copyfile(ours / "vocab.txt", folder / "vocab.txt")
    if tokenizer:
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
        )
    return folder


def same(one: Path, two: Path) -> bool:
    left, right = load_file(one / "model.safetensors"), load_file(two / "model.safetensors")
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("form", FORMS)
def test_a_wobert_saved_as_a_bert_is_converted(form: str, tmp_path: Path) -> None:
    source = community("wobert_tf_ckpt", tmp_path / "in", form)
    report = convert(source, tmp_path / "out")
    ours = tmp_path / "ours"
    if form == "half_bin":
        convert(GOLDEN / "wobert_tf_ckpt", ours, dtype="bfloat16", overwrite=True)
    assert report.architecture == "WoBertForPreTraining" and same(tmp_path / "out", ours)
    configs = [json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "out", ours)]
    assert configs[0] == configs[1]
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == (ours / "vocab.txt").read_bytes()
    assert examine_folder(tmp_path / "out") == [] and verify(tmp_path / "out", source).differences == []
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert type(tokenizer).__name__ == "WoBertTokenizer"
    _, loading = AutoModelForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not loading["missing_keys"]


def test_a_nezha_with_bert_names_is_converted(tmp_path: Path) -> None:
    source = community("wonezha_tf_ckpt", tmp_path / "in", kind="nezha")
    (problem, *_) = [problem for problem in examine_folder_of_safetensors(source) if "would be random" in problem]
    assert "nezha.embeddings.word_embeddings.weight" in problem and "renames them to NEZHA's" in problem
    assert convert(source, tmp_path / "out").architecture == "NezhaForPreTraining"
    assert same(tmp_path / "out", tmp_path / "ours") and examine_folder(tmp_path / "out") == []
    assert verify(tmp_path / "out", source).differences == []


def examine_folder_of_safetensors(source: Path) -> list[str]:
    copy = source.with_name("copy")
    shutil.copytree(source, copy)
    save_file(torch.load(copy / "pytorch_model.bin"), copy / "model.safetensors")
    return examine_folder(copy)


def test_added_tokens_padding_and_casing_are_kept(tmp_path: Path) -> None:
    source = community("wobert_tf_ckpt", tmp_path / "in", "safetensors", tokenizer=False)
    lines = (source / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    (source / "vocab.txt").write_text("".join(f"{line}\n" for line in lines[:340]), encoding="utf-8")
    tokenizer = BertTokenizer(str(source / "vocab.txt"), do_lower_case=False)
    tokenizer.add_tokens(["<NUM>", "a b"])
    tokenizer.save_pretrained(source)
    convert(source, tmp_path / "out")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded.convert_tokens_to_ids(["<NUM>", "a b"]) == [340, 341] and not loaded.do_lower_case
    assert len(loaded) == 342 and examine_folder(tmp_path / "out") == []
    assert tokenizer_check.check_pairing(AutoModelForPreTraining.from_pretrained(tmp_path / "out"), loaded) == []
    assert loaded("<NUM>a b", add_special_tokens=False)["input_ids"] == [340, 341]
    tokenizer = BertTokenizer(str(source / "vocab.txt"))
    tokenizer.add_tokens(["<NUM>"])
    tokenizer.save_pretrained(source)
    convert(source, tmp_path / "out", overwrite=True)
    assert verify(tmp_path / "out", source).differences == []


def a_character_bert(folder: Path) -> Path:
    source = community("wobert_tf_ckpt", folder)
    lines = (source / "vocab.txt").read_text(encoding="utf-8").split("\n")
    plain = [line if len(line) < 2 or line.isascii() or line[0] == "#" else f"[u{n}]" for n, line in enumerate(lines)]
    (source / "vocab.txt").write_text("\n".join(plain), encoding="utf-8")
    return source


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle-was-loaded",)


def replace_bin(content: Any) -> Callable[[Path], object]:
    return lambda folder: torch.save(content, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb())),
            "torch.load.weights_only=True. refuses it",
        ),
        (replace_bin({"a": Bomb()}), "refuses it: it is damaged, or holds objects other than tensors"),
        (lambda f: (f / "pytorch_model.bin").write_bytes(b""), "refuses it"),
        (lambda f: os.truncate(f / "pytorch_model.bin", 5000), "refuses it"),
        (replace_bin({"a": torch.ones(2), "b": 3}), "dict of dense tensors, but 'b' is not one"),
        (replace_bin({"a": torch.ones(2).expand(10**9, 2)}), "8,000,000,000 bytes, but the file holds 8 bytes"),
        (replace_bin({"a": torch.empty(2, device="meta")}), "dict of dense tensors, but 'a' is not one"),
        (replace_bin([torch.ones(2)]), "expected a dict of tensors, got list"),
        (replace_bin({}), "expected a dict of tensors"),
        (replace_bin({"a": torch.ones(2)}), "no layer of the checkpoint has a name like"),
        (lambda f: (f / "pytorch_model.bin").unlink() or (f / "pytorch_model.bin").mkdir(), "expected a regular file"),
        (
            lambda f: (f / "pytorch_model.bin").rename(f / "pytorch_model-00001-of-00002.bin"),
            "expected one PyTorch file, got several",
        ),
        (lambda f: (f / "vocab.txt").unlink(), "has no vocabulary"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'),
            "model_type is 'gpt2', expected one of bert",
        ),
    ],
    ids=[
        "bomb",
        "bomb_inside",
        "empty",
        "cut",
        "number",
        "expanded",
        "meta",
        "list",
        "nothing",
        "foreign",
        "folder",
        "shards",
        "vocab",
        "gpt2",
    ],
)
def test_unreadable_folders_give_one_line(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    source = community("wobert_tf_ckpt", tmp_path / "in")
    damage(source)
    with pytest.raises(KexueError, match=message) as error:
        convert(source, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() and not Path("pickle-was-loaded").exists()


def test_folders_that_need_no_conversion_are_refused(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "ours")
    with pytest.raises(CheckpointError, match="already converted; load it with from_pretrained"):
        convert(tmp_path / "ours", tmp_path / "out")
    with pytest.raises(InputError, match=r"is a character BERT, .*kexue-hf extend"):
        convert(a_character_bert(tmp_path / "in"), tmp_path / "out")
    with pytest.raises(InputError, match=r"--head: .* is a transformers folder"):
        convert(tmp_path / "in", tmp_path / "out", head="token")


def test_an_original_is_preferred_to_its_copies(tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "in")
    (source / "config.json").write_text('{"model_type": "gpt2"}')
    (source / "pytorch_model.bin").write_bytes(b"")
    (source / "tf_model.h5").write_bytes(b"")
    (source / "tf_model.h5").unlink()
    assert convert(source, tmp_path / "out").mapped


def test_extend_reads_a_pytorch_file(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("的是\n", encoding="utf-8")
    report = extend(a_character_bert(tmp_path / "in"), tmp_path / "out", words=0, user_dict=words)
    assert report.words == ["的是"]


def test_doctor_and_pairing_report_words_with_a_character_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = community("wobert_tf_ckpt", tmp_path / "in")
    monkeypatch.setattr(tokenizer_check, "WORDS_OF_A_WORD_MODEL", 20)
    (problem,) = examine_folder(source)
    assert "Chinese words, and its tokenizer cuts Chinese text into characters: kexue-hf convert" in problem
    tokenizer = AutoTokenizer.from_pretrained(source)
    assert type(tokenizer).__name__ == "BertTokenizer"
    model = AutoModelForPreTraining.from_pretrained(source)
    with pytest.warns(VocabularyMismatchWarning, match="kexue-hf convert FOLDER OUTPUT"):
        assert tokenizer_check.check_pairing(model, tokenizer)
    characters = a_character_bert(tmp_path / "other")
    with pytest.raises(InputError, match="model_type is 'bert'"):
        examine_folder(characters)
    assert tokenizer_check.check_pairing(model, AutoTokenizer.from_pretrained(characters)) == []
