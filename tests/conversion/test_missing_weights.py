"""Weights that a folder lacks although its class has them. Oracle: the loading report of transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import kexue_hf
from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.missing_weights import missing_weights
from kexue_hf.conversion.verify import verify
from kexue_hf.hub.saved_model import examine_folder
from tests.conversion.checkpoints import GOLDEN, golden_copy

TINY = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
HEADS = (
    "ForPreTraining", "ForMaskedLM", "ForCausalLM", "ForNextSentencePrediction", "ForSequenceClassification",
    "ForMultipleChoice", "ForTokenClassification", "ForQuestionAnswering", "Model",
)  # fmt: skip
FEW = {"Nezha": ("ForPreTraining", "ForSequenceClassification", "Model"), "RoFormer": ("ForMaskedLM", "Model")}
CLASSES = {
    prefix + head: (config, settings)
    for prefix, config, settings in (
        ("WoBert", "WoBertConfig", {}),
        ("Nezha", "NezhaConfig", {}),
        ("PerformerBert", "PerformerBertConfig", {}),
        ("Tta", "TtaConfig", {}),
        ("ClnMatcher", "ClnMatcherConfig", {"position_embedding_type": "absolute"}),
        ("RoFormer", "RoFormerConfig", {}),
    )
    for head in HEADS
    # A selection, since many classes share their structure.
    if (head in FEW.get(prefix, HEADS)) and (hasattr(kexue_hf, prefix + head) or prefix == "RoFormer")
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"classifier_pooling": "cls", "add_pooling_layer": False},
    {"conditional": False, "num_tasks": 1, "position_embedding_type": "rotary"},
]
# Prefixes of names: whole parts, a layer, single tensors.
GONE = ("none", "pooler.", "cls.", "classifier.", "encoder.layer.1.", "embeddings.LayerNorm")


def tiny(name: str, settings: dict[str, Any]) -> Any:
    config_name, own = CLASSES[name]
    config_class = getattr(kexue_hf, config_name, None) or getattr(transformers, config_name)
    kept = {key: value for key, value in (own | settings).items() if hasattr(config_class(**TINY), key)}
    torch.manual_seed(0)
    model_class = getattr(kexue_hf, name, None) or getattr(transformers, name)
    return model_class(config_class(**TINY, **kept))


@pytest.mark.parametrize("name", CLASSES)
def test_missing_weights_are_those_that_loading_initialises(name: str, tmp_path: Path) -> None:
    for number, settings in enumerate(SETTINGS):
        model = tiny(name, settings)
        if number and not any(hasattr(model.config, key) for key in settings):
            continue
        model.save_pretrained(tmp_path / str(number))
        config = json.loads((tmp_path / str(number) / "config.json").read_text())
        path = tmp_path / str(number) / "model.safetensors"
        whole = load_file(path)
        for part in GONE if number == 0 else GONE[:2]:
            left = {key: value for key, value in whole.items() if part not in key}
            if part != "none" and len(left) == len(whole):
                continue
            save_file(left, path, metadata={"format": "pt"})
            _, report = type(model).from_pretrained(tmp_path / str(number), output_loading_info=True)
            expected = {
                key.replace("cls.predictions.decoder.bias", "cls.predictions.bias") for key in report["missing_keys"]
            }
            expected = {key for key in expected if "decoder.weight" not in key and "embed_positions" not in key}
            found = missing_weights(config, left)
            prefix = f"{model.base_model_prefix}."
            bare = {key.removeprefix(prefix) if name.endswith("Model") else key for key in found}
            assert bare == expected, (settings, part)


def a_classifier_on_the_first_token(folder: Path, hint: dict[str, Any]) -> Path:
    """Return bert4keras' example, an encoder with a Dense on [CLS], beside a configuration that `export` wrote."""
    source = golden_copy("wobert_keras_h5", folder)
    config = json.loads((source / "bert_config.json").read_text())
    (source / "bert_config.json").write_text(json.dumps(config | hint))
    return source


@pytest.mark.parametrize(
    "hint",
    [
        {"classifier_pooling": "pooler"},
        {"classifier_pooling": "pooler", "architectures": ["WoBertForSequenceClassification"]},
        {"architectures": ["WoBertForMultipleChoice"]},
        {"architectures": ["WoBertForPreTraining"]},
    ],
    ids=["pooling", "both", "choice", "other_head"],
)
def test_tensors_override_hints(hint: dict[str, Any], tmp_path: Path) -> None:
    source = a_classifier_on_the_first_token(tmp_path / "in", hint)
    report = convert(source, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert report.architecture == "WoBertForSequenceClassification"
    assert (config["classifier_pooling"], config["add_pooling_layer"]) == ("cls", False)
    _, loading = kexue_hf.WoBertForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not loading["missing_keys"]
    assert examine_folder(tmp_path / "out") == [] and verify(tmp_path / "out", source).differences == []


def test_a_hint_decides_where_tensors_do_not(tmp_path: Path) -> None:
    for name in ("WoBertForTokenClassification", "WoBertForSequenceClassification"):
        model = tiny(name, {"classifier_pooling": "cls", "num_labels": 3})
        model.save_pretrained(tmp_path / name)
        lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天地玄黄"]
        (tmp_path / name / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
        export(tmp_path / name, tmp_path / f"{name}-back", "keras")
        assert convert(tmp_path / f"{name}-back", tmp_path / f"{name}-again").architecture == name


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"classifier_pooling": "pooler"}, "2 weights that config.json needs are missing"),
        ({"architectures": ["WoBertForPreTraining"]}, "weights that config.json needs are missing"),
        ({"num_hidden_layers": 10**12}, "weights that config.json needs are missing"),
    ],
    ids=["pooler", "head", "layers"],
)
def test_doctor_and_verify_report_missing_weights(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_keras_h5", tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert any(problem in found for found in examine_folder(tmp_path / "out"))
    assert verify(tmp_path / "out", GOLDEN / "wobert_keras_h5").differences


def test_doctor_reads_the_index_of_shards(tmp_path: Path) -> None:
    model = kexue_hf.WoBertForMaskedLM.from_pretrained(_converted(tmp_path))
    model.save_pretrained(tmp_path / "out", max_shard_size="20KB")
    index = tmp_path / "out" / "model.safetensors.index.json"
    (tmp_path / "out" / "model.safetensors").unlink(missing_ok=True)
    assert examine_folder(tmp_path / "out") == []
    content = json.loads(index.read_text())
    lost = content["weight_map"].pop("cls.predictions.bias")
    index.write_text(json.dumps(content))
    (problem,) = examine_folder(tmp_path / "out")
    assert problem.startswith("1 weights") and problem.endswith("cls.predictions.bias")
    (tmp_path / "out" / lost).unlink()
    assert any(f"shards are missing: {lost}" in problem for problem in examine_folder(tmp_path / "out"))


def _converted(tmp_path: Path) -> Path:
    convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / "out")
    return tmp_path / "out"


def test_export_and_convert_keep_the_pooling(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_keras_h5", tmp_path / "one")
    export(tmp_path / "one", tmp_path / "back", "keras")
    convert(tmp_path / "back", tmp_path / "two")
    pairs = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "two")]
    assert pairs[0] == pairs[1]
