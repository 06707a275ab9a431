"""convert, export and verify on the golden checkpoints: their results, and the round trip."""

import ast
import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.verify import verify
from kexue_hf.errors import ConversionError, InputError, KexueError, OutputError
from kexue_hf.models.nezha.auto_map_nezha import AUTO_MAP as NEZHA_AUTO_MAP
from kexue_hf.models.wobert.auto_map_wobert import AUTO_MAP
from tests.conversion.checkpoints import CONVERTED, GOLDEN, edit_bundle, golden_copy, read_all
from tests.shared_data import SHARED, needs_shared


def values(folder: Path) -> dict[str, np.ndarray]:
    with SafetensorsFile(folder / "model.safetensors") as weights:
        return {name: weights.read(name) for name in weights.tensors}


def config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


EXPECTED = {
    "wobert_tf_ckpt": {
        "architectures": ["WoBertForPreTraining"],
        "add_pooling_layer": True,
        "classifier_pooling": "pooler",
    },
    "wobert_mlm_only_tf_ckpt": {
        "architectures": ["WoBertForMaskedLM"],
        "add_pooling_layer": False,
        "classifier_pooling": "cls",
    },
    "wobert_keras_h5": {
        "architectures": ["WoBertForSequenceClassification"],
        "add_pooling_layer": False,
        "classifier_pooling": "cls",
        "id2label": {str(number): f"LABEL_{number}" for number in range(5)},
    },
    "wonezha_tf_ckpt": {
        "architectures": ["NezhaForPreTraining"],
        "add_pooling_layer": True,
        "auto_map": NEZHA_AUTO_MAP,
        "classifier_pooling": "pooler",
        "max_relative_position": 64,
        "model_type": "nezha",
        "use_relative_position": None,
    },
    # A class of transformers, which loads without our code.
    "roformer_tf_ckpt": {
        "architectures": ["RoFormerForMaskedLM"],
        "add_pooling_layer": None,
        "auto_map": None,
        "classifier_pooling": None,
        "model_type": "roformer",
        "rotary_value": False,
    },
}


@pytest.mark.parametrize("case", CONVERTED)
def test_configuration(case: str, tmp_path: Path) -> None:
    convert(GOLDEN / case, tmp_path / "out")
    found = config(tmp_path / "out")
    source = json.loads((GOLDEN / case / "bert_config.json").read_text())
    expected = {**source, "auto_map": AUTO_MAP, "model_type": "wobert", "dtype": "float32", **EXPECTED[case]}
    assert {key: found.get(key) for key in expected} == expected
    assert found["tokenizer_class"] == "WoBertTokenizer" and found["layer_norm_eps"] == 1e-12


@pytest.mark.parametrize(("said", "kept"), [("mean", "mean"), ("cls", "cls"), ("max", "pooler"), (None, "pooler")])
def test_classifier_pooling_comes_from_the_configuration(said: str | None, kept: str, tmp_path: Path) -> None:
    source = golden_copy("wobert_tf_ckpt", tmp_path / "source")
    raw = json.loads((source / "bert_config.json").read_text()) | {"classifier_pooling": said}
    (source / "bert_config.json").write_text(json.dumps(raw))
    convert(source, tmp_path / "out")
    assert config(tmp_path / "out")["classifier_pooling"] == kept


def test_every_kernel_is_transposed_and_nothing_else(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    source, ours = read_all(GOLDEN / "wobert_tf_ckpt" / "bert_model.ckpt"), values(tmp_path / "out")
    layer = "bert/encoder/layer_2"
    np.testing.assert_array_equal(
        ours["bert.encoder.layer.2.attention.self.key.weight"], source[f"{layer}/attention/self/key/kernel"].T
    )
    np.testing.assert_array_equal(
        ours["bert.encoder.layer.2.output.LayerNorm.weight"], source[f"{layer}/output/LayerNorm/gamma"]
    )
    np.testing.assert_array_equal(ours["cls.seq_relationship.weight"], source["cls/seq_relationship/output_weights"])
    np.testing.assert_array_equal(
        ours["bert.embeddings.word_embeddings.weight"], source["bert/embeddings/word_embeddings"]
    )
    assert len(ours) == len(source) == 62


def test_the_report_counts(tmp_path: Path) -> None:
    report = convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    assert (report.mapped, report.parameters, report.dropped) == (62, 85549, [])
    assert report.bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    assert (report.family, report.architecture, report.auto_class) == (
        "wobert",
        "WoBertForPreTraining",
        "AutoModelForPreTraining",
    )


@pytest.mark.parametrize("case", CONVERTED)
def test_tokenizer_and_model_write_the_same_files(case: str, tmp_path: Path) -> None:
    """convert writes the files that `save_pretrained` of transformers writes."""
    import transformers

    import kexue_hf

    out, again = tmp_path / "out", tmp_path / "again"
    architecture = convert(GOLDEN / case, out).architecture
    length = config(out)["max_position_embeddings"]
    kexue_hf.WoBertTokenizer(str(GOLDEN / case / "vocab.txt"), model_max_length=length).save_pretrained(again)
    model = getattr(transformers if "RoFormer" in architecture else kexue_hf, architecture).from_pretrained(out)
    model.save_pretrained(again)
    assert json.loads((out / "tokenizer_config.json").read_text()) == json.loads(
        (again / "tokenizer_config.json").read_text()
    )
    assert (out / "vocab.txt").read_bytes() == (again / "vocab.txt").read_bytes()
    assert {p.name for p in again.glob("*.py")} == {p.name for p in out.glob("*.py")}
    for path in again.glob("*.py"):
        assert path.read_bytes() == (out / path.name).read_bytes()
    saved, ours = config(again), config(out)
    assert {key: value for key, value in ours.items() if saved.get(key) != value} == {}
    first, second = values(out), values(again)
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


def test_the_card_names_source_task_and_both_ways_to_load(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "my-wobert", license="apache-2.0")
    text = (tmp_path / "my-wobert" / "README.md").read_text(encoding="utf-8")
    for part in ("license: apache-2.0", "pipeline_tag: fill-mask", "`bert_model.ckpt`", "85,549", "trust_remote_code"):
        assert part in text
    from huggingface_hub import ModelCard

    card = ModelCard(text)
    assert card.data.library_name == "transformers" and card.data.language == "zh"
    convert(GOLDEN / "wobert_keras_h5", tmp_path / "other")
    text = (tmp_path / "other" / "README.md").read_text(encoding="utf-8")
    assert "license" not in text and "pipeline_tag: text-classification" in text


@pytest.mark.parametrize("license", ["no", "0x1f", "1e5", "2020-01-01", "Null", "0bsd", "bsd-3-clause", "c-uda"])
def test_a_license_is_a_text_in_yaml(license: str, tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / "out", license=license)
    front = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n")[1]
    assert yaml.safe_load(front)["license"] == license


@pytest.mark.parametrize(
    ("stored", "dtype", "says"),
    [
        ("float32", None, "bit for bit"),
        ("float32", "float32", "bit for bit"),
        ("float32", "float16", "cast from float32 to float16"),
        ("float32", "bfloat16", "cast from float32 to bfloat16"),
        ("float16", None, "bit for bit"),
        ("float16", "float32", "cast from float16 to float32"),
    ],
)
def test_the_card_says_whether_values_were_cast(stored: str, dtype: str | None, says: str, tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / "first", dtype=stored)
    export(tmp_path / "first", tmp_path / "in")
    convert(tmp_path / "in", tmp_path / "out", dtype=dtype)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f", {says}: 42 tensors" in text and ("bit for bit" in text) == (says == "bit for bit")


@pytest.mark.parametrize("name", ["a b'中\"$x\\", os.fsdecode(b"no-text-\xff")], ids=["quotes", "bytes"])
def test_the_card_of_a_folder_with_an_odd_name(name: str, tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / name)
    text = (tmp_path / name / "README.md").read_text(encoding="utf-8")
    shown = name.replace(os.fsdecode(b"\xff"), "\N{REPLACEMENT CHARACTER}")
    calls = [node for block in text.split("```")[1::2] for node in ast.walk(ast.parse(block.removeprefix("python")))]
    names = [node.args[0] for node in calls if isinstance(node, ast.Call)]
    assert len(names) == 4 and all(isinstance(found, ast.Constant) and found.value == shown for found in names)


@pytest.mark.parametrize("cased", [False, True], ids=["lower_cased", "cased"])
def test_capitals(cased: bool, tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out", cased=cased)
    fields = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert fields["do_lower_case"] is not cased


@pytest.mark.parametrize(
    "name",
    [".", "bert_model.ckpt", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"],
    ids=["folder", "prefix", "index", "data"],
)
def test_ways_to_name_a_checkpoint(name: str, tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")
    assert convert(source / name, tmp_path / "out").mapped == 42


def test_a_folder_inside_the_folder(tmp_path: Path) -> None:
    golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in" / "chinese_wobert_L-12_H-768_A-12")
    assert convert(tmp_path / "in", tmp_path / "out").mapped == 42


def test_the_state_file_decides_between_checkpoints(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")
    for path in list(source.glob("bert_model.ckpt.*")):
        shutil.copyfile(path, path.with_name(path.name.replace("bert_model.ckpt", "model.ckpt-10")))
    with pytest.raises(InputError, match=r"several checkpoints \(bert_model.ckpt, model.ckpt-10\)"):
        convert(source, tmp_path / "out")
    (source / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-10"\n')
    convert(source, tmp_path / "out")
    assert "`model.ckpt-10`" in (tmp_path / "out" / "README.md").read_text()


def test_configuration_and_vocabulary_from_elsewhere(tmp_path: Path) -> None:
    source = golden_copy("wobert_keras_h5", tmp_path / "in")
    for name in ("bert_config.json", "vocab.txt"):
        (source / name).rename(tmp_path / f"my_{name}")
    with pytest.raises(InputError, match="--config"):
        convert(source, tmp_path / "out")
    with pytest.raises(InputError, match="--vocab"):
        convert(source, tmp_path / "out", config=tmp_path / "my_bert_config.json")
    options = {"config": tmp_path / "my_bert_config.json", "vocab": tmp_path / "my_vocab.txt"}
    assert convert(source / "best_model.weights", tmp_path / "out", **options).mapped == 39


@pytest.mark.parametrize("case", CONVERTED)
@pytest.mark.parametrize("to", ["tf", "keras"])
def test_export_and_back_is_bit_equal(case: str, to: str, tmp_path: Path) -> None:
    first, back, second = tmp_path / "first", tmp_path / "back", tmp_path / "second"
    convert(GOLDEN / case, first)
    report = export(first, back, to)
    convert(back, second)
    one, two = values(first), values(second)
    constants = {"roformer.encoder.embed_positions.weight"} & one.keys()
    assert one.keys() == two.keys() and report.mapped == len(one) - len(constants)
    assert all(one[name].tobytes() == two[name].tobytes() for name in one)
    assert config(first) == config(second)
    assert verify(first, back).differences == []


def test_export_writes_the_original_data_file_again(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    export(tmp_path / "out", tmp_path / "back")
    name = "bert_model.ckpt.data-00000-of-00001"
    assert (tmp_path / "back" / name).read_bytes() == (GOLDEN / "wobert_tf_ckpt" / name).read_bytes()
    assert 'model_checkpoint_path: "bert_model.ckpt"' in (tmp_path / "back" / "checkpoint").read_text()
    source = json.loads((GOLDEN / "wobert_tf_ckpt" / "bert_config.json").read_text())
    written = json.loads((tmp_path / "back" / "bert_config.json").read_text())
    assert {key: written[key] for key in source} == source


@pytest.mark.parametrize("fingerprint", [True, False], ids=["fingerprint", "no_fingerprint"])
@pytest.mark.parametrize("to", ["tf", "keras"])
@pytest.mark.parametrize(
    ("added", "multiple", "rows"),
    [(["深度学习", "[new]"], None, 349), (["深度学习", "[new]"], 64, 384), ([], 64, 384)],
    ids=["added", "added_and_padded", "padded"],
)
def test_added_tokens_and_padding_become_lines_of_the_vocabulary(
    added: list[str], multiple: int | None, rows: int, to: str, fingerprint: bool, tmp_path: Path
) -> None:
    import kexue_hf

    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
    lines = (tmp_path / "in" / "vocab.txt").read_text(encoding="utf-8").removesuffix("\n")
    tokenizer = kexue_hf.WoBertTokenizer(str(tmp_path / "in" / "vocab.txt"))
    assert tokenizer.add_tokens(added) == len(added)
    model = kexue_hf.WoBertForPreTraining.from_pretrained(tmp_path / "in")
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=multiple)
    model.save_pretrained(tmp_path / "grown")
    tokenizer.save_pretrained(tmp_path / "grown")
    if not fingerprint:
        fields = config(tmp_path / "grown")
        del fields["vocab_fingerprint"]
        (tmp_path / "grown" / "config.json").write_text(json.dumps(fields))
        # The last line of a file may lack a line end.
        (tmp_path / "grown" / "vocab.txt").write_text(lines, encoding="utf-8")
    notes = export(tmp_path / "grown", tmp_path / "back", to).notes
    found = (tmp_path / "back" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert found[:347] == lines.split("\n") and found[347 : 347 + len(added)] == added
    assert found[-1] == "" and len(found) == rows + 1 and len(set(found[347:])) == rows - 347 + 1
    assert any("2 added tokens became lines" in note for note in notes) == bool(added)
    padding = rows - 347 - len(added)
    assert any(f"{padding} rows of the embeddings" in note for note in notes) == bool(padding)
    differences = verify(tmp_path / "grown", tmp_path / "back").differences
    assert [difference.split(",")[0] for difference in differences] == (
        [] if fingerprint else ["config.json: vocab_fingerprint is None"]
    )
    convert(tmp_path / "back", tmp_path / "again")
    one, two = values(tmp_path / "grown"), values(tmp_path / "again")
    assert one.keys() == two.keys() and all(one[name].tobytes() == two[name].tobytes() for name in one)
    again = kexue_hf.WoBertTokenizer.from_pretrained(tmp_path / "again")
    assert again.convert_tokens_to_ids(added) == tokenizer.convert_tokens_to_ids(added)
    assert again("今天天气").input_ids == tokenizer("今天天气").input_ids


def test_padding_names_do_not_repeat_existing_tokens(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
    lines = (tmp_path / "in" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    lines[-4:] = ["[unused345]", "[unused346]"]
    (tmp_path / "in" / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    fields = config(tmp_path / "in")
    del fields["vocab_fingerprint"]
    (tmp_path / "in" / "config.json").write_text(json.dumps(fields))
    export(tmp_path / "in", tmp_path / "back")
    found = (tmp_path / "back" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert found[-4:] == ["[unused345]", "[unused346]", "[unused347]", "[unused348]"]


def test_added_tokens_of_an_older_file_and_without_a_row(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
    lines = (tmp_path / "in" / "vocab.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "in" / "vocab.txt").write_text("".join(lines[:-1]), encoding="utf-8")
    (tmp_path / "in" / "config.json").write_text(json.dumps(config(tmp_path / "in") | {"vocab_fingerprint": None}))
    (tmp_path / "in" / "added_tokens.json").write_text('{"深度学习": 346, "more": 347}', encoding="utf-8")
    notes = export(tmp_path / "in", tmp_path / "back").notes
    assert (tmp_path / "back" / "vocab.txt").read_text(encoding="utf-8").splitlines()[346:] == ["深度学习"]
    assert "1 added tokens have no row in the embeddings and were left out (more)" in notes


def test_notes_list_what_a_vocabulary_cannot_store(tmp_path: Path) -> None:
    import kexue_hf

    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "in")
    assert export(tmp_path / "in", tmp_path / "plain").notes == []
    tokenizer = kexue_hf.WoBertTokenizer(
        str(tmp_path / "in" / "vocab.txt"), do_lower_case=False, user_words=["深度学习", "科学空间"]
    )
    tokenizer.save_pretrained(tmp_path / "in")
    words, case = export(tmp_path / "in", tmp_path / "back").notes
    assert "2 user_words are not in vocab.txt (深度学习, 科学空间)" in words
    assert "does not lower-case" in case and "--cased" in case


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("to", ["tf", "keras"])
def test_half_precision_round_trip(dtype: str, to: str, tmp_path: Path) -> None:
    report = convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "half", dtype=dtype)
    assert report.bytes < 200_000 and config(tmp_path / "half")["dtype"] == dtype
    assert verify(tmp_path / "half", GOLDEN / "wobert_tf_ckpt").differences == []
    export(tmp_path / "half", tmp_path / "back", to)
    assert verify(tmp_path / "half", tmp_path / "back").differences == []


def test_other_heads_survive_the_round_trip(tmp_path: Path) -> None:
    """Token classification and multiple choice have the tensor names of text classification."""
    import kexue_hf

    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    for name in (
        "WoBertForTokenClassification",
        "WoBertForQuestionAnswering",
        "WoBertModel",
        "WoBertForMultipleChoice",
    ):
        model = getattr(kexue_hf, name).from_pretrained(tmp_path / "out")
        model.save_pretrained(tmp_path / name)
        shutil.copyfile(tmp_path / "out" / "vocab.txt", tmp_path / name / "vocab.txt")
        export(tmp_path / name, tmp_path / f"{name}-tf")
        assert convert(tmp_path / f"{name}-tf", tmp_path / f"{name}-again").architecture == name
        assert verify(tmp_path / f"{name}-again", tmp_path / f"{name}-tf").differences == []


@needs_shared
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("cchess_lm_keras_h5", "several checkpoints"),
        ("wobert_from_bert/bert_model.weights", r"\[257, 32\], expected \[243, 32\]"),
    ],
)
def test_other_families_are_recognised_and_refused(source: str, message: str, tmp_path: Path) -> None:
    assert SHARED is not None
    with pytest.raises(KexueError, match=message):
        convert(SHARED / "golden" / source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "left_out"),
    [
        (
            {
                "directionality": "bidi",
                "pooler_fc_size": 768,
                "pooler_type": "first_token_transform",
                "embedding_size": 32,
            },
            "directionality, pooler_fc_size, pooler_type",
        ),
        ({"use_relative_position": False, "hierarchical_position": None}, None),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "model_type"),
    ],
    ids=["google", "switched_off", "transformers"],
)
def test_unused_settings_are_left_out_with_a_note(keys: dict[str, Any], left_out: str | None, tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")
    fields = json.loads((source / "bert_config.json").read_text())
    (source / "bert_config.json").write_text(json.dumps(fields | keys))
    notes = convert(source, tmp_path / "out").notes
    assert [note for note in notes if "left out" in note] == (
        [f"settings that this model does not have were left out: {left_out}"] if left_out else []
    )
    assert not keys.keys() & config(tmp_path / "out").keys() - {"architectures", "model_type"}


def test_bert4keras_own_spellings_and_defaults_of_settings(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")
    fields = json.loads((source / "bert_config.json").read_text())
    fields["max_position"] = fields.pop("max_position_embeddings")
    fields["dropout_rate"] = fields.pop("hidden_dropout_prob") + 0.1
    del fields["type_vocab_size"], fields["initializer_range"]
    (source / "bert_config.json").write_text(json.dumps(fields))
    convert(source, tmp_path / "out")
    found = config(tmp_path / "out")
    assert (found["max_position_embeddings"], found["hidden_dropout_prob"]) == (32, 0.2)
    assert (found["type_vocab_size"], found["initializer_range"]) == (2, 0.02)


def test_a_checkpoint_of_keras_objects_is_refused_with_advice(tmp_path: Path) -> None:
    """tf.keras writes an object graph without layer names if the file name does not end in .h5."""
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")

    def rename(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        rows = list(tensors.values())
        tensors.clear()
        for number, row in enumerate(rows):
            tensors[f"layer_with_weights-{number}/kernel/.ATTRIBUTES/VARIABLE_VALUE"] = row

    edit_bundle(source / "bert_model.ckpt", rename)
    with pytest.raises(ConversionError, match=r"to an \.h5 file"):
        convert(source, tmp_path / "out")


@needs_shared
def test_a_character_bert_is_converted_with_a_note(tmp_path: Path) -> None:
    assert SHARED is not None
    report = convert(SHARED / "golden" / "wobert_from_bert" / "bert_model.ckpt", tmp_path / "out")
    assert any("if this is a character BERT, kexue-hf extend makes" in note for note in report.notes)


def test_an_unknown_family(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown family 'bort'"):
        convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out", family="bort")


def test_optimizer_state_is_dropped_and_listed(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")

    def train(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        for name, (kind, array) in list(tensors.items()):
            tensors[f"{name}/adam_m"] = tensors[f"{name}/adam_v"] = (kind, array)
        tensors["global_step"] = ("int64", np.int64(5))

    edit_bundle(source / "bert_model.ckpt", train)
    report = convert(source, tmp_path / "out")
    assert (report.mapped, len(report.dropped)) == (42, 85)
    assert ("global_step", "number of training steps") in report.dropped


def test_a_whole_keras_model_file(tmp_path: Path) -> None:
    """`model.save` keeps the weights in a group and the optimizer beside it."""
    source = golden_copy("wobert_keras_h5", tmp_path / "in")
    with h5py.File(source / "best_model.weights") as old, h5py.File(source / "whole.h5", "w") as new:
        group = new.create_group("model_weights")
        for name in old:
            old.copy(name, group)
        for name, value in old.attrs.items():
            group.attrs[name] = value
        new["optimizer_weights/Adam/iterations:0"] = np.int64(3)
    (source / "best_model.weights").unlink()
    report = convert(source, tmp_path / "out")
    assert report.mapped == 39
    assert report.dropped == [("optimizer_weights/Adam/iterations:0", "optimizer state")]
    assert verify(tmp_path / "out", GOLDEN / "wobert_keras_h5").differences == []


def test_compressed_and_big_endian_data_sets(tmp_path: Path) -> None:
    source = golden_copy("wobert_keras_h5", tmp_path / "in")
    with h5py.File(source / "best_model.weights", "r+") as file:
        for group, compressed in (("Embedding-Token", True), ("Transformer-0-FeedForward", False)):
            for name in file[group].attrs["weight_names"]:
                array = file[group][name][()]
                del file[group][name]
                options = {"compression": "gzip", "chunks": True} if compressed else {}
                file[group].create_dataset(name, data=array, dtype=None if compressed else ">f4", **options)
    convert(source, tmp_path / "out")
    assert verify(tmp_path / "out", GOLDEN / "wobert_keras_h5").differences == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tensor", r"tensor bert.pooler.dense.weight: 1 of 2,304 values differ"),
        ("config", "num_attention_heads is 2, from the source 4"),
        ("vocabulary", "another vocabulary than the source's"),
        ("fingerprint", "vocab_fingerprint is 0123"),
    ],
)
def test_verify_finds_changes(change: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    convert(GOLDEN / "wobert_tf_ckpt", folder)
    if change == "tensor":
        with SafetensorsFile(folder / "model.safetensors") as weights:
            place = weights._places["bert.pooler.dense.weight"] + 100
        with open(folder / "model.safetensors", "r+b") as file:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))
    elif change == "vocabulary":
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        lines[100], lines[101] = lines[101], lines[100]
        (folder / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    else:
        fields = config(folder)
        fields |= {"num_attention_heads": 2} if change == "config" else {"vocab_fingerprint": "0123"}
        (folder / "config.json").write_text(json.dumps(fields))
    (difference,) = verify(folder, GOLDEN / "wobert_tf_ckpt").differences
    assert message in difference


def test_verify_does_not_trust_an_absurd_size(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text(json.dumps(config(tmp_path / "out") | {"vocab_size": 10**15}))
    differences = verify(tmp_path / "out", GOLDEN / "wobert_tf_ckpt").differences
    assert differences == ["config.json: vocab_size is 1000000000000000, from the source 347"]


def test_float16_that_would_overflow_is_refused(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")

    def grow(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        kind, array = tensors["cls/predictions/output_bias"]
        tensors["cls/predictions/output_bias"] = (kind, array + np.float32(1e6))

    edit_bundle(source / "bert_model.ckpt", grow)
    with pytest.raises(ConversionError, match="too large for float16; choose --dtype bfloat16"):
        convert(source, tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()
    convert(source, tmp_path / "out", dtype="bfloat16")


def test_overwriting(tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(GOLDEN / "wobert_tf_ckpt", out)
    with pytest.raises(OutputError, match="--overwrite"):
        convert(GOLDEN / "wobert_keras_h5", out)
    convert(GOLDEN / "wobert_keras_h5", out, overwrite=True)
    assert config(out)["architectures"] == ["WoBertForSequenceClassification"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"not part of a model \(notes.txt\)"):
        convert(GOLDEN / "wobert_tf_ckpt", out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [out]


def test_a_folder_that_holds_the_source_is_never_replaced(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")
    for where in (source, tmp_path):
        with pytest.raises(OutputError):
            convert(source, where, overwrite=True)
    convert(source, tmp_path / "out")
    with pytest.raises(OutputError, match="holds the source"):
        export(tmp_path / "out", tmp_path / "out", overwrite=True)
    assert convert(source, tmp_path / "out", overwrite=True).mapped == 42


LINKED: dict[str, tuple[str, ...]] = {
    "index": ("bert_model.ckpt.index",),
    "shard": ("bert_model.ckpt.data-00000-of-00001",),
    "configuration": ("bert_config.json",),
    "vocabulary": ("vocab.txt",),
}


@pytest.mark.parametrize("chain", [False, True], ids=["link", "link_of_a_link"])
@pytest.mark.parametrize("linked", LINKED)
def test_a_folder_that_holds_the_source_of_links_is_never_replaced(linked: str, chain: bool, tmp_path: Path) -> None:
    """With a chain, the links lead into the folder to replace and out again."""
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")
    convert(source, tmp_path / "out")
    (tmp_path / "far").mkdir()
    for name in LINKED[linked]:
        (source / name).rename(tmp_path / ("far" if chain else "out") / name)
        if chain:
            (tmp_path / "out" / name).unlink(missing_ok=True)
            (tmp_path / "out" / name).symlink_to(Path("..", "far", name))
        (source / name).symlink_to(Path("..", "out", name))
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    for folder in ("in", "in/bert_model.ckpt"):
        with pytest.raises(OutputError, match="holds the source"):
            convert(tmp_path / folder, tmp_path / "out", overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("way", ["itself", "a_link_to_it", "relative", "through_a_link"])
def test_a_source_folder_of_links_is_never_replaced(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the layout of the Hub's cache, a folder has only links to files elsewhere."""
    snapshot = tmp_path / "snapshots" / "1"
    convert(GOLDEN / "wobert_tf_ckpt", snapshot)
    (tmp_path / "blobs").mkdir()
    for path in list(snapshot.iterdir()):
        path.rename(tmp_path / "blobs" / path.name)
        path.symlink_to(tmp_path / "blobs" / path.name)
    (tmp_path / "link").symlink_to(snapshot)
    monkeypatch.chdir(snapshot.parent)
    source, target = {
        "itself": (snapshot, snapshot),
        "a_link_to_it": (snapshot, tmp_path / "link"),
        "relative": (Path("1"), snapshot),
        "through_a_link": (tmp_path / "link", snapshot),
    }[way]
    with pytest.raises(OutputError, match="holds the source"):
        export(source, target, overwrite=True)
    assert (snapshot / "model.safetensors").is_symlink()
    for path in (tmp_path / "blobs").glob("bert_*"):
        path.unlink()
    back = tmp_path / "back"
    export(source, back)
    for path in list(back.iterdir()):
        path.rename(tmp_path / "blobs" / f"back-{path.name}")
        path.symlink_to(tmp_path / "blobs" / f"back-{path.name}")
    with pytest.raises(OutputError, match="holds the source"):
        convert(back, back, overwrite=True)
    assert all(path.is_symlink() for path in back.iterdir())


def test_links_to_another_folder_do_not_protect_the_output(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "far")
    (tmp_path / "in").mkdir()
    for path in source.iterdir():
        (tmp_path / "in" / path.name).symlink_to(path)
    convert(tmp_path / "in", tmp_path / "in" / "out")
    assert convert(tmp_path / "in", tmp_path / "in" / "out", overwrite=True).mapped == 42


@pytest.mark.parametrize("name", ["train_wobert.py", "my_nezha.py", "bert_model.ckpt.notes", "modeling_wobert.pyc"])
def test_other_files_are_never_replaced(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(GOLDEN / "wobert_tf_ckpt", out)
    assert (out / "modeling_wobert.py").exists()
    (out / name).write_text("mine")
    with pytest.raises(OutputError, match="not part of a model"):
        convert(GOLDEN / "wobert_tf_ckpt", out, overwrite=True)
    assert (out / name).read_text() == "mine"


def test_an_empty_folder_and_missing_parents_are_fine(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "out")
    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "a" / "b" / "out")
    assert {path.name for path in tmp_path.rglob("config.json")} == {"config.json"}


def test_half_precision_is_noted(tmp_path: Path) -> None:
    report = convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "half", dtype="float16")
    assert any("load with dtype='float32'" in note for note in report.notes)
    report = convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "full")
    assert not any("float16" in note for note in report.notes)
