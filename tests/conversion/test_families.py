"""NEZHA and RoFormer are recognised, and compute the original code's outputs after conversion."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, RoFormerForMaskedLM

from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.families import convertible, load_weight_map
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.verify import verify
from kexue_hf.conversion.weight_plan import expand
from kexue_hf.errors import ConversionError, KexueError
from kexue_hf.hub.saved_model import examine_folder
from kexue_hf.models.nezha.attention_nezha import sinusoid_table
from tests.conversion.checkpoints import GOLDEN, edit_bundle, golden_copy

# The reference has an error of 1e-5, measured against float64.
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def roformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roformer") / "out"
    convert(GOLDEN / "roformer_tf_ckpt", folder)
    return folder


def deviation(folder: Path, change: Any = lambda model: None) -> float:
    """Return the largest difference from the original code's hidden states and logits."""
    model, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert type(model) is RoFormerForMaskedLM
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    change(model.eval())
    case, worst = GOLDEN / "roformer_tf_ckpt", 0.0
    inputs, outputs = np.load(case / "inputs.npz"), np.load(case / "outputs.npz")
    for prefix in sorted({name.split("_")[0] + "_" for name in inputs.files}):
        given = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "mask"}
        batch = {name: torch.from_numpy(inputs[prefix + key]).long() for name, key in given.items()}
        with torch.no_grad():
            result = model(**batch, output_hidden_states=True)
        found = {f"hidden_{layer}": states for layer, states in enumerate(result.hidden_states)}
        found["mlm_logits"] = result.logits
        expected = {name[len(prefix) :]: outputs[name] for name in outputs.files if name.startswith(prefix)}
        assert set(found) == set(expected)
        worst = max(worst, *(float(np.abs(found[name].numpy() - expected[name]).max()) for name in expected))
    return worst


def test_roformer_computes_the_original_codes_outputs(roformer: Path) -> None:
    assert deviation(roformer) < TOLERANCE


def shift_positions(model: RoFormerForMaskedLM) -> None:
    weight = model.roformer.encoder.embed_positions.weight
    weight.data = torch.cat((weight[:, 6:], weight[:, :6]), 1)  # sines and cosines swapped


def rotate_values(model: RoFormerForMaskedLM) -> None:
    for layer in model.roformer.encoder.layer:
        layer.attention.self.rotary_value = True


@pytest.mark.parametrize("change", [shift_positions, rotate_values])
def test_the_parity_check_can_fail(change: Any, roformer: Path) -> None:
    assert deviation(roformer, change) > TOLERANCE


def test_the_saved_rotary_table_equals_that_of_transformers(roformer: Path, tmp_path: Path) -> None:
    fresh = RoFormerForMaskedLM.from_pretrained(roformer)
    expected = fresh.roformer.encoder.embed_positions.create_weight()
    assert torch.equal(fresh.roformer.encoder.embed_positions.weight, expected)
    fresh.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["vocab_fingerprint"] and saved["tokenizer_class"] == "WoBertTokenizer"


def test_sdpa_is_not_offered_by_transformers(roformer: Path) -> None:
    """Once it is offered, compare the golden outputs with it too."""
    with pytest.raises(ValueError, match="scaled_dot_product_attention"):
        AutoModelForMaskedLM.from_pretrained(roformer, attn_implementation="sdpa")


def test_a_keras_file_of_nezha_has_its_table_in_the_right_position(tmp_path: Path) -> None:
    convert(GOLDEN / "wonezha_tf_ckpt", tmp_path / "out")
    report = export(tmp_path / "out", tmp_path / "back", "keras")
    assert 'model="nezha"' in report.usage
    with h5py.File(report.checkpoint) as file:
        layers = [name.decode() for name in file.attrs["layer_names"]]
        table = file["Embedding-Relative-Position/Embedding-Relative-Position/embeddings:0"][()]
    place = layers.index("Embedding-Relative-Position")
    assert layers[place - 1] == "Embedding-Norm" and layers[place + 1] == "Transformer-0-MultiHeadSelfAttention"
    np.testing.assert_array_equal(table, sinusoid_table(64, 16).numpy())
    again = convert(tmp_path / "back", tmp_path / "again")
    assert again.dropped == [("Embedding-Relative-Position/embeddings:0", "constant table of relative positions")]
    assert json.loads((tmp_path / "back" / "bert_config.json").read_text())["use_relative_position"] is True


def test_weights_that_transformers_lacks_are_listed(tmp_path: Path) -> None:
    source = golden_copy("roformer_tf_ckpt", tmp_path / "in")

    def add(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        tensors["bert/pooler/dense/kernel"] = ("float32", np.zeros((36, 36), np.float32))
        tensors["bert/pooler/dense/bias"] = ("float32", np.zeros(36, np.float32))

    edit_bundle(source / "bert_model.ckpt", add)
    report = convert(source, tmp_path / "out", family="roformer")
    assert [reason for _, reason in report.dropped] == [
        "transformers' RoFormer has neither a pooler nor a next-sentence head"
    ] * 2
    assert not report.notes  # the family was given, so nothing was guessed


def test_a_checkpoint_without_positions_is_read_as_a_roformer_with_a_note(tmp_path: Path) -> None:
    report = convert(GOLDEN / "roformer_tf_ckpt", tmp_path / "roformer")
    assert any("run again with --family nezha" in note for note in report.notes)
    source = golden_copy("wonezha_tf_ckpt", tmp_path / "in")
    edit(source, use_relative_position=None)
    report = convert(source, tmp_path / "nezha", family="nezha")
    assert report.architecture == "NezhaForPreTraining"


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "bert_config.json"
    path.chmod(0o644)
    fields = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))


@pytest.mark.parametrize(
    ("case", "family", "changes", "message"),
    [
        ("wonezha_tf_ckpt", "roformer", {}, "looks like nezha"),
        ("wonezha_tf_ckpt", "wobert", {}, "looks like nezha"),
        ("roformer_tf_ckpt", "wobert", {}, "looks like roformer"),
        ("wobert_tf_ckpt", "roformer", {}, "looks like wobert"),
        ("wobert_tf_ckpt", "nezha", {}, "looks like wobert"),
        ("roformer_tf_ckpt", "auto", {"embedding_size": 12}, "embedding_size is 12, expected hidden_size 36"),
        ("roformer_tf_ckpt", "auto", {"rotary_value": True}, "rotary_value is True, which a roformer does not have"),
        ("roformer_tf_ckpt", "auto", {"num_attention_heads": 4}, "not a multiple of 2 times num_attention_heads 4"),
        ("wonezha_tf_ckpt", "auto", {"num_attention_heads": 16}, "not a multiple of 2 times num_attention_heads 16"),
        ("wonezha_tf_ckpt", "auto", {"max_relative_position": 0}, "max_relative_position should be a positive"),
        ("wonezha_tf_ckpt", "auto", {"hierarchical_position": True}, "which a nezha does not have"),
        ("wonezha_tf_ckpt", "auto", {"num_hidden_layers": 3}, "has layers 0 to 1"),
        ("roformer_tf_ckpt", "auto", {"vocab_size": 346}, r"is \[347, 36\], expected \[346"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)  # fmt: skip
def test_mismatches_are_refused(case: str, family: str, changes: dict, message: str, tmp_path: Path) -> None:
    source = golden_copy(case, tmp_path / "in")
    edit(source, **changes)
    with pytest.raises(KexueError, match=message):
        convert(source, tmp_path / "out", family=family)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case", ["wonezha_tf_ckpt", "roformer_tf_ckpt"])
def test_a_missing_variable_is_named(case: str, tmp_path: Path) -> None:
    source = golden_copy(case, tmp_path / "in")
    name = "bert/encoder/layer_1/attention/self/value/bias"
    edit_bundle(source / "bert_model.ckpt", lambda tensors: tensors.pop(name))
    with pytest.raises(ConversionError, match=f"tensors are missing: {name}"):
        convert(source, tmp_path / "out")


def test_a_changed_derived_weight_is_found(roformer: Path, tmp_path: Path) -> None:
    model = RoFormerForMaskedLM.from_pretrained(roformer)
    model.roformer.encoder.embed_positions.weight.data[3, 1] += 1
    model.save_pretrained(tmp_path / "changed")
    (tmp_path / "changed" / "vocab.txt").write_bytes((roformer / "vocab.txt").read_bytes())
    differences = verify(tmp_path / "changed", GOLDEN / "roformer_tf_ckpt").differences
    assert differences == ["tensor roformer.encoder.embed_positions.weight: 1 of 6,144 values differ"]


@pytest.mark.parametrize("family", convertible())
def test_the_tables_of_a_family_are_consistent(family: str) -> None:
    weight_map = load_weight_map(family)
    assert family == weight_map.FAMILY
    tensorflow = {target for target, _ in weight_map.TENSORFLOW.values()}
    keras = [target for row in (*weight_map.KERAS.values(), weight_map.KERAS_HEAD) for _, target, _ in row]
    assert len(set(keras)) == len(keras) and set(keras) <= set(weight_map.PARAMETERS)
    assert set(weight_map.PARAMETERS) in (tensorflow, set(keras) - tensorflow)
    assert set(weight_map.KERAS_NUMBERED) <= set(weight_map.KERAS)
    parts = {part for part, _ in weight_map.PARAMETERS.values()}
    assert {part for needed, _ in weight_map.ARCHITECTURES for part in needed} <= parts
    assert weight_map.ARCHITECTURES[-1][0] == frozenset()
    assert set(weight_map.CONFIG_REQUIRED).isdisjoint(weight_map.CONFIG_OPTIONAL)
    assert set(weight_map.CONFIG_TELLING).isdisjoint(weight_map.CONFIG_OFF)


@pytest.mark.parametrize(("case", "family"), [("wonezha_tf_ckpt", "nezha"), ("roformer_tf_ckpt", "roformer")])
def test_the_model_has_exactly_these_parameters(case: str, family: str, tmp_path: Path) -> None:
    import transformers

    import kexue_hf

    report = convert(GOLDEN / case, tmp_path / "out")
    module = transformers if family == "roformer" else kexue_hf
    model = getattr(module, report.architecture).from_pretrained(tmp_path / "out")
    weight_map = load_weight_map(family)
    with SafetensorsFile(tmp_path / "out" / "model.safetensors") as weights:
        stored = {name: tensor.shape for name, tensor in weights.tensors.items()}
    own = {name: tuple(value.shape) for name, value in model.named_parameters() if name not in weight_map.TWINS}
    assert own == stored
    assert set(stored) <= {*expand(weight_map.PARAMETERS, {"num_hidden_layers": 3}), *weight_map.DERIVED_SAVED}


@pytest.mark.parametrize("case", ["wonezha_tf_ckpt", "roformer_tf_ckpt"])
def test_a_character_model_saved_by_transformers_is_exported(case: str, tmp_path: Path) -> None:
    """transformers saves its BertTokenizer as tokenizer.json, without a vocab.txt."""
    source = golden_copy(case, tmp_path / "in")
    vocabulary = source / "vocab.txt"
    lines = vocabulary.read_text(encoding="utf-8").splitlines()
    plain = [
        token if len(token) == 1 or token.isascii() or token.startswith("##") else f"[unused{number}]"
        for number, token in enumerate(lines)
    ]
    vocabulary.chmod(0o644)
    vocabulary.write_text("".join(f"{token}\n" for token in plain), encoding="utf-8")
    convert(source, tmp_path / "out")
    AutoModelForMaskedLM.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "saved")
    AutoTokenizer.from_pretrained(tmp_path / "out").save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "vocab.txt").exists()
    assert examine_folder(tmp_path / "out") == [] == examine_folder(tmp_path / "saved")
    export(tmp_path / "saved", tmp_path / "back")
    assert (tmp_path / "back" / "vocab.txt").read_bytes() == vocabulary.read_bytes()
    assert verify(tmp_path / "saved", tmp_path / "back").differences == []


def test_doctor_reports_missing_tokenizer_code(roformer: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(roformer, tmp_path / "copy")
    assert examine_folder(copy) == []
    (copy / "tokenization_wobert.py").unlink()
    assert examine_folder(copy) == ["the code that auto_map names is missing: tokenization_wobert.py"]
