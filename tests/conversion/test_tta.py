"""T-TA's checkpoints as the official code saves them: conversion, export, and errors.

Oracle: tests/golden/tta_tf_ckpt; its outputs are compared in tests/models/tta/test_parity_tta.py.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer
from typer.testing import CliRunner

import kexue_hf
from kexue_hf import TtaTokenizer, check_pairing
from kexue_hf.cli.main import app
from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.extend import extend
from kexue_hf.conversion.families import load_weight_map
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.source import language_of, source_vocabulary
from kexue_hf.conversion.verify import verify
from kexue_hf.conversion.weight_plan import expand
from kexue_hf.errors import InputError, KexueError
from kexue_hf.hub.saved_model import examine_folder
from kexue_hf.models.tta import weight_map_tta as weight_map
from tests.conversion.checkpoints import GOLDEN, edit_bundle, golden_copy, read_all

CASE = GOLDEN / "tta_tf_ckpt"
POOLER = ["bert/pooler/dense/bias", "bert/pooler/dense/kernel"]
SPECIAL = ["[PAD]", "[EOS]", "[UNK]", "[SOS]", "[MASK]", "[CLS]", "[SEP]"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return golden_copy("tta_tf_ckpt", tmp_path / "in")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tta") / "out"
    convert(CASE, folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    fields = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}), encoding="utf-8")


def tokens_of(folder: Path) -> list[str]:
    return (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()


def write_tokens(folder: Path, tokens: list[str]) -> None:
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")


# --- conversion


def test_a_checkpoint_from_official_training(source: Path, tmp_path: Path) -> None:
    """It has Adam's slots (none for the pooler, which gets no gradient), the step count, and official names."""

    def train(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        for name, (kind, array) in list(tensors.items()):
            if name not in POOLER:
                tensors[f"{name}/adam_m"] = tensors[f"{name}/adam_v"] = (kind, array)
        tensors["global_step"] = ("int64", np.int64(5))

    edit_bundle(source / "model.ckpt", train)
    (source / "config.json").rename(source / "config.layer-3.vocab-lower.sub-32k.json")
    (source / "vocab.txt").rename(source / "vocab-lower.sub-32k.txt")
    report = convert(source, tmp_path / "out")
    assert (report.family, report.architecture, report.mapped) == ("tta", "TtaForMaskedLM", 57)
    assert report.notes == []
    reasons = dict(report.dropped)
    assert [name for name in reasons if not name.endswith(("/adam_m", "/adam_v"))] == [*POOLER, "global_step"]
    assert {reasons[name] for name in POOLER} == {"the language autoencoder neither uses nor trains the pooler"}
    assert len(reasons) == 57 * 2 + 3
    assert verify(tmp_path / "out", source).differences == []
    assert verify(tmp_path / "out", CASE).differences == []


def test_configuration_of_the_folder(converted: Path) -> None:
    config = json.loads((converted / "config.json").read_text(encoding="utf-8"))
    wanted = {
        "model_type": "tta",
        "tokenizer_class": "TtaTokenizer",
        "mask_token_id": 4,
        "pad_token_id": 0,
        "bos_token_id": 3,
        "eos_token_id": 1,
        "query_source": "mask_embedding",
        "mask_diagonal": True,
        "type_vocab_size": 0,
        "classifier_pooling": "mean",
        "max_position_embeddings": 40,
        "layer_norm_eps": 1e-12,
    }
    assert {key: config[key] for key in wanted} == wanted
    assert "add_pooling_layer" not in config and "vocab_file" not in config
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert type(tokenizer) is TtaTokenizer and tokenizer.model_max_length == 40
    assert check_pairing(AutoModelForMaskedLM.from_pretrained(converted), tokenizer) == []
    assert examine_folder(converted) == []
    card = (converted / "README.md").read_text(encoding="utf-8")
    assert "language: en\n" in card and "an unused pooler" in card and "jieba" not in card
    assert "log p(token | all other tokens)" in card


def test_the_code_of_the_card_runs(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(converted.parent)
    blocks = (converted / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    first, _, last = (block.split("```")[0] for block in blocks)
    names: dict[str, Any] = {}
    exec(first + last, names)
    assert names["scores"].shape == names["encoded"]["input_ids"].shape
    assert (names["scores"] < 0).all()


def test_the_tokenizer_configuration_equals_the_saved_one(converted: Path, tmp_path: Path) -> None:
    AutoTokenizer.from_pretrained(converted).save_pretrained(tmp_path)
    own, saved = (
        json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")) for folder in (converted, tmp_path)
    )
    # In tokenizer.json, there.
    assert set(own) - set(saved) == {"added_tokens_decoder"}
    # Keys that transformers adds, such as whether the folder was local.
    assert {key: saved[key] for key in own if key in saved} == {key: own[key] for key in own if key in saved}


def test_the_model_has_exactly_these_parameters(converted: Path) -> None:
    model, info = AutoModelForMaskedLM.from_pretrained(converted, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    with SafetensorsFile(converted / "model.safetensors") as weights:
        stored = {name: tensor.shape for name, tensor in weights.tensors.items()}
    own = {name: tuple(value.shape) for name, value in model.named_parameters() if name not in weight_map.TWINS}
    assert own == stored
    classifier = {"classifier.weight", "classifier.bias"}
    assert set(stored) == set(expand(weight_map.PARAMETERS, {"num_hidden_layers": 3})) - classifier


@pytest.mark.parametrize(
    ("tokens", "language"),
    [
        (["the", "boy", "##s"], "en"),
        (["天", "地", "the"], "zh"),
        (["мир", "the", "über"], None),
    ],
    ids=["en", "zh", "neither"],
)
def test_the_card_names_the_language_of_the_vocabulary(tokens: list[str], language: str | None) -> None:
    ids = {token: index for index, token in enumerate([*SPECIAL, *tokens])}
    assert language_of(source_vocabulary("", ids, weight_map=load_weight_map("tta"))) == language


def test_the_language_option(tmp_path: Path) -> None:
    arguments = ["convert", str(CASE), str(tmp_path / "out"), "--language", "de", "--license", "mit"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert "language: de\nlicense: mit\n" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match="--language 'German'"):
        convert(CASE, tmp_path / "again", language="German")


# --- token 4


def test_another_mask_id_is_noted_and_mask_token_id_stays(source: Path, tmp_path: Path) -> None:
    tokens = tokens_of(source)
    tokens[4], tokens[9] = tokens[9], tokens[4]
    write_tokens(source, tokens)
    report = convert(source, tmp_path / "out")
    assert [note for note in report.notes if "token 4" in note and f"is {tokens[4]!r}, expected [MASK]" in note]
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["mask_token_id"] == 4
    assert AutoTokenizer.from_pretrained(tmp_path / "out").mask_token_id == 9
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")
    reference = AutoModelForMaskedLM.from_pretrained(convert(CASE, tmp_path / "reference").output)
    ids = torch.tensor([[3, 50, 61, 1]])
    assert torch.equal(model(ids).logits, reference(ids).logits)


def test_other_ids_of_special_tokens(source: Path, tmp_path: Path) -> None:
    tokens = tokens_of(source)
    tokens[0:7] = ["[PAD]", "[UNK]", "[SOS]", "[EOS]", "x0", "x1", "x2"]
    write_tokens(source, tokens)
    report = convert(source, tmp_path / "out")
    assert any("the vocabulary has no [MASK]" in note for note in report.notes)
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert (config["bos_token_id"], config["eos_token_id"], config["mask_token_id"]) == (2, 3, 4)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("")["input_ids"] == [2, 3] and tokenizer.mask_token is tokenizer.cls_token is None
    assert check_pairing(AutoModelForMaskedLM.from_pretrained(tmp_path / "out"), tokenizer) == []


# --- errors


def drop(name: str) -> Any:
    return lambda source: edit_bundle(source / "model.ckpt", lambda tensors: tensors.pop(name))


def add(name: str) -> Any:
    def change(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        tensors[name] = ("float32", np.zeros(48, np.float32))

    return lambda source: edit_bundle(source / "model.ckpt", change)


def without(*gone: str) -> Any:
    return lambda source: write_tokens(
        source, [f"x{token}" if token in gone else token for token in tokens_of(source)]
    )


def settings(**changes: Any) -> Any:
    return lambda source: edit_json(source / "config.json", **changes)


@pytest.mark.parametrize(
    ("change", "family", "message"),
    [
        (without("[SOS]"), "auto", r"lacks \[SOS\]; expected a tta vocabulary"),
        (without("[SOS]", "[EOS]"), "tta", r"lacks \[EOS\], \[SOS\]"),
        (lambda source: write_tokens(source, tokens_of(source)[:-1]), "auto", "has 212 tokens"),
        (lambda source: None, "wobert", "looks like tta"),
        (settings(type_vocab_size=2), "auto", "type_vocab_size is 2, which a tta does not have"),
        (settings(num_hidden_layers=4), "auto", "has layers 0 to 2"),
        (settings(max_position_embeddings=41), "auto", r"is \[40, 48\], expected \[41, 48\]"),
        (settings(hidden_act="gelu_fast"), "auto", "hidden_act should be one of"),
        (settings(vocab_size=None), "auto", "lacks vocab_size"),
        (drop("bert/encoder/layer_1/attention/self/value/bias"), "auto", "tensors are missing: bert/encoder/layer_1"),
        (drop("cls/predictions/output_bias"), "auto", "tensors are missing: cls/predictions/output_bias"),
        (add("bert/pooler/dense/gamma"), "auto", "unknown to a tta model"),
        (add("cls/seq_relationship/output_bias"), "auto", "unknown to a tta model"),
    ],
    ids=[
        "no-sos",
        "neither",
        "short-vocabulary",
        "as-wobert",
        "segments",
        "layers",
        "positions",
        "activation",
        "no-size",
        "no-value-bias",
        "no-output-bias",
        "pooler-gamma",
        "next-sentence",
    ],
)  # fmt: skip
def test_mismatches_are_refused(change: Any, family: str, message: str, source: Path, tmp_path: Path) -> None:
    change(source)
    with pytest.raises(KexueError, match=message):
        convert(source, tmp_path / "out", family=family)
    assert not (tmp_path / "out").exists()


def test_a_bert_is_not_a_tta(tmp_path: Path) -> None:
    with pytest.raises(KexueError, match=r"expected a tta \(--family\), but the checkpoint looks like wobert"):
        convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / "out", family="tta")


def test_a_keras_file_without_segments_is_refused(tmp_path: Path) -> None:
    folder = golden_copy("wobert_keras_h5", tmp_path / "in")
    with h5py.File(folder / "best_model.weights", "a") as file:
        root = file.get("model_weights", file)
        del root["Embedding-Segment"]
        root.attrs["layer_names"] = [name for name in root.attrs["layer_names"] if b"Segment" not in name]
    edit_json(folder / "bert_config.json", type_vocab_size=None)
    with pytest.raises(KexueError, match="bert4keras has no tta"):
        convert(folder / "best_model.weights", tmp_path / "out")


# --- export


def test_the_export_is_what_the_original_restores(converted: Path, tmp_path: Path) -> None:
    report = export(converted, tmp_path / "back")
    found, original = read_all(report.checkpoint), read_all(CASE / "model.ckpt")
    assert {name: array.shape for name, array in found.items()} == {name: a.shape for name, a in original.items()}
    for name, array in found.items():
        np.testing.assert_array_equal(array, np.zeros_like(array) if name in POOLER else original[name], err_msg=name)
    assert any("bert/pooler/dense/kernel" in note and "zeros" in note for note in report.notes)
    assert "tf.train.Saver().restore" in report.usage and "bert4keras" not in report.usage
    config, first = (
        json.loads(path.read_text()) for path in (report.output / "bert_config.json", CASE / "config.json")
    )
    assert {key: config[key] for key in first} == first
    assert (report.output / "vocab.txt").read_bytes() == (CASE / "vocab.txt").read_bytes()
    again = convert(report.output, tmp_path / "again")
    assert again.notes == []
    assert (again.output / "model.safetensors").read_bytes() == (converted / "model.safetensors").read_bytes()
    assert verify(converted, report.output).differences == []


def test_half_precision_is_exported(converted: Path, tmp_path: Path) -> None:
    report = export(converted, tmp_path / "back", dtype="float16")
    assert {array.dtype for array in read_all(report.checkpoint).values()} == {np.dtype("float16")}


HEADS = ["TtaModel", "TtaForSequenceClassification", "TtaForTokenClassification"]


@pytest.mark.parametrize("name", HEADS)
def test_other_heads_survive_the_round_trip(name: str, converted: Path, tmp_path: Path) -> None:
    model = getattr(kexue_hf, name).from_pretrained(converted)
    if name == "TtaForSequenceClassification":
        model.config.classifier_pooling = "cls"
    model.save_pretrained(tmp_path / "saved")
    AutoTokenizer.from_pretrained(converted).save_pretrained(tmp_path / "saved")
    assert examine_folder(tmp_path / "saved") == []
    export(tmp_path / "saved", tmp_path / "back")
    assert convert(tmp_path / "back", tmp_path / "again").architecture == name
    assert verify(tmp_path / "saved", tmp_path / "back").differences == []
    config = json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))
    assert config["classifier_pooling"] == ("cls" if name == "TtaForSequenceClassification" else "mean")


def test_added_tokens_become_lines(converted: Path, tmp_path: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(converted), AutoModelForMaskedLM.from_pretrained(converted)
    tokenizer.add_tokens(["newword"])
    model.resize_token_embeddings(len(tokenizer) + 2)
    for saved in (tokenizer, model):
        saved.save_pretrained(tmp_path / "saved")
    assert examine_folder(tmp_path / "saved") == []
    report = export(tmp_path / "saved", tmp_path / "back")
    assert tokens_of(tmp_path / "back") == [*tokens_of(CASE), "newword", "[unused214]", "[unused215]"]
    assert not any("jieba" in note for note in report.notes)
    assert verify(tmp_path / "saved", tmp_path / "back").differences == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query_source": "position"}, "query_source is 'position', expected 'mask_embed"),
        ({"mask_diagonal": False}, "mask_diagonal is False"),
        ({"mask_token_id": 103}, "mask_token_id is 103, expected 4: the official code of T-TA has no other"),
        ({"type_vocab_size": 2}, "type_vocab_size is 2"),
        ({"tie_word_embeddings": False}, "expected an output layer tied to the word embeddings"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_the_original_lacks(changes: dict, message: str, converted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in converted.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    edit_json(copy / "config.json", **changes)
    with pytest.raises(KexueError, match=message):
        export(copy, tmp_path / "back")
    if message.startswith(("query", "mask")):
        (difference,) = verify(copy, CASE).differences
        assert difference.startswith(f"config.json: {next(iter(changes))} is ")


def test_no_keras_and_no_words(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(KexueError, match="bert4keras has no tta"):
        export(converted, tmp_path / "back", "keras")
    for path in (converted, CASE):
        with pytest.raises(InputError, match="got a tta, whose tokenizer has no words"):
            extend(path, tmp_path / "out", words=1)
    assert not list(tmp_path.iterdir())


def test_verify_finds_a_changed_weight(converted: Path, tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(converted)
    model.bert.encoder.layer[1].attention.self.key.weight.data[3, 1] += 1
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes((converted / "vocab.txt").read_bytes())
    differences = verify(tmp_path, CASE).differences
    assert differences == ["tensor bert.encoder.layer.1.attention.self.key.weight: 1 of 2,304 values differ"]
