"""The matcher's Keras files as the Sohu 2021 baseline saves them: conversion, export, and errors.

Oracle: tests/golden/sohu_matcher_keras_h5; its outputs are compared in tests/models/cln_matcher.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

import kexue_hf
from kexue_hf import check_pairing
from kexue_hf.cli.main import app
from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.formats.safetensors import SafetensorsFile
from kexue_hf.conversion.verify import verify
from kexue_hf.errors import KexueError
from kexue_hf.hub.saved_model import examine_folder
from tests.conversion.checkpoints import GOLDEN, golden_copy
from tests.models.cln_matcher.matchers import CLASSIFIER, ENCODER, randomize, tiny

CASE = GOLDEN / "sohu_matcher_keras_h5"
TASKS = ["短短A", "短短B", "短长A", "短长B", "长长A", "长长B"]

Layers = list[tuple[str, list[tuple[str, np.ndarray]]]]
"""(layer, [(name of its weight, values)])"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return golden_copy(CASE.name, tmp_path / "in")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matcher") / "out"
    convert(CASE, folder, task_names=TASKS)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    fields = json.loads(path.read_text(encoding="utf-8")) | changes
    path.chmod(0o644)
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}), encoding="utf-8")


def read_layers(path: Path) -> Layers:
    with h5py.File(path) as file:
        names = [name.decode() for name in file.attrs["layer_names"]]
        rows = [(name, [weight.decode() for weight in file[name].attrs["weight_names"]]) for name in names]
        return [(name, [(weight, file[name][weight][()]) for weight in weights]) for name, weights in rows if weights]


def write_layers(path: Path, layers: Layers) -> None:
    path.unlink()
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, weights in layers:
            group = file.create_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight, _ in weights]
            for weight, values in weights:
                group.create_dataset(weight, data=values)


# --- conversion


def test_configuration_of_the_folder(converted: Path) -> None:
    config = json.loads((converted / "config.json").read_text(encoding="utf-8"))
    wanted = {
        "model_type": "cln_matcher",
        "architectures": ["ClnMatcherForSequenceClassification"],
        "tokenizer_class": "WoBertTokenizer",
        "num_tasks": 6,
        "task_names": TASKS,
        "task_embedding_size": 128,
        "position_embedding_type": "rotary",
        "pooling": "mean",
        "conditional": True,
        "layer_norm_eps": 1e-12,
    }
    assert {key: config[key] for key in wanted} == wanted
    assert not {"classifier_pooling", "add_pooling_layer"} & set(config)
    model, tokenizer = (cls.from_pretrained(converted) for cls in (AutoModelForSequenceClassification, AutoTokenizer))
    assert check_pairing(model, tokenizer) == [] == examine_folder(converted)
    with SafetensorsFile(converted / "model.safetensors") as weights:
        stored = {name: tensor.shape for name, tensor in weights.tensors.items()}
    assert stored == {name: tuple(value.shape) for name, value in model.named_parameters()}


def test_the_code_of_the_card_runs(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(converted.parent)
    blocks = (converted / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    first, _, last = (block.split("```")[0] for block in blocks)
    names: dict[str, Any] = {}
    exec(first + last, names)
    assert list(names["probabilities"]) == TASKS and len(set(names["probabilities"].values())) == 6


def test_task_names_come_from_the_configuration_or_a_default(source: Path, tmp_path: Path) -> None:
    report = convert(source, tmp_path / "none")
    assert report.notes == ["the tasks have no names and are called task_0, task_1, ... (name them with --task-names)"]
    assert json.loads((tmp_path / "none" / "config.json").read_text())["task_names"][5] == "task_5"
    edit_json(source / "bert_config.json", task_names=TASKS, num_tasks=6, task_embedding_size=128, pooling="cls")
    assert convert(source, tmp_path / "some").notes == []
    config = json.loads((tmp_path / "some" / "config.json").read_text(encoding="utf-8"))
    assert (config["task_names"], config["pooling"]) == (TASKS, "cls")


def test_numbered_keras_layer_names_do_not_matter(source: Path, tmp_path: Path) -> None:
    layers = read_layers(source / "best_model.weights")
    own = {"embedding_1": "task_vectors", layers[-1][0]: "output"}
    layers = [(own.get(layer, layer), weights) for layer, weights in layers]
    write_layers(source / "best_model.weights", [*layers[3:], *layers[:3]])
    convert(source, tmp_path / "out")
    assert verify(tmp_path / "out", CASE).differences == []


# --- export


def test_the_exported_keras_file_is_bit_equal(converted: Path, tmp_path: Path) -> None:
    report = export(converted, tmp_path / "back", "keras")
    assert 'model="roformer", layer_norm_cond=c, additional_input_layers=c_in' in report.usage
    theirs, ours = read_layers(CASE / "best_model.weights"), read_layers(report.checkpoint)
    # Keras matches layers by position; the last one belongs to the script.
    assert [layer for layer, _ in ours][:-1] == [layer for layer, _ in theirs][:-1] and len(ours) == len(theirs)
    for (_, here), (_, there) in zip(ours, theirs, strict=True):
        assert [name.rpartition("/")[2] for name, _ in here] == [name.rpartition("/")[2] for name, _ in there]
        assert all(np.array_equal(left, right) for (_, left), (_, right) in zip(here, there, strict=True))
    again = convert(tmp_path / "back", tmp_path / "again")
    assert again.architecture == "ClnMatcherForSequenceClassification"
    assert json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))["task_names"] == TASKS
    assert verify(tmp_path / "again", CASE).differences == []
    assert verify(converted, tmp_path / "back").differences == []


@pytest.mark.parametrize("name", [ENCODER, CLASSIFIER])
def test_round_trip_of_a_matcher_of_a_bert(name: str, converted: Path, tmp_path: Path) -> None:
    options = {"position_embedding_type": "absolute", "pooling": "cls", "vocab_size": 347}
    model = randomize(tiny(name, **options))
    model.save_pretrained(tmp_path / "out")
    AutoTokenizer.from_pretrained(converted).save_pretrained(tmp_path / "out")
    report = export(tmp_path / "out", tmp_path / "back", "keras")
    layers = [layer for layer, _ in read_layers(report.checkpoint)]
    assert layers[:5] == [
        "Embedding-Token",
        "Embedding-Segment",
        "embedding_1",
        "Embedding-Position",
        "Embedding-Norm",
    ]
    assert 'model="' not in report.usage
    again = convert(tmp_path / "back", tmp_path / "again")
    assert again.architecture == name
    loaded = getattr(kexue_hf, name).from_pretrained(tmp_path / "again")
    assert (loaded.config.position_embedding_type, loaded.config.pooling) == ("absolute", "cls")
    assert loaded.config.task_names == model.config.task_names
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in model.state_dict().items())


def test_verify_finds_a_changed_weight(converted: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(converted)
    model.bert.encoder.layer[1].output.LayerNorm.bias_kernel.data[3, 1] += 1
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_bytes((converted / "vocab.txt").read_bytes())
    differences = verify(tmp_path, CASE).differences
    assert differences == ["tensor bert.encoder.layer.1.output.LayerNorm.bias_kernel: 1 of 6,144 values differ"]


def test_a_matcher_with_added_tasks_is_exported(converted: Path, tmp_path: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(converted)
    model.add_task("new", like=TASKS[0])
    for saved in (model, AutoTokenizer.from_pretrained(converted)):
        saved.save_pretrained(tmp_path / "grown")
    report = export(tmp_path / "grown", tmp_path / "back", "keras")
    vectors = dict(read_layers(report.checkpoint))["embedding_1"][0][1]
    assert vectors.shape == (7, 128) and np.array_equal(vectors[6], vectors[0])
    assert verify(tmp_path / "grown", tmp_path / "back").differences == []


# --- errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tasks": 4}, "the configuration says num_tasks 4, the checkpoint has 6; give the configuration"),
        ({"task_names": TASKS[:5]}, "the configuration says num_tasks 5, the checkpoint has 6"),
        ({"task_embedding_size": 64}, "says task_embedding_size 64, the checkpoint has 128"),
        ({"task_names": TASKS, "num_tasks": 5}, "num_tasks is 5, but there are 6 task_names"),
        ({"task_names": [*TASKS[:5], TASKS[0]]}, "task_names should be a list of different names"),
        ({"task_names": "all"}, "task_names should be a list of different names, got 'all'"),
        ({"num_tasks": 0}, "num_tasks should be a positive whole number, got 0"),
        ({"num_hidden_layers": 2}, "says num_hidden_layers 2, the checkpoint has layers 0 to 2"),
        ({"hidden_size": 44}, "do not have the shape that the configuration requires"),
    ],
    ids=str,
)
def test_another_configuration_is_refused(changes: dict, message: str, source: Path, tmp_path: Path) -> None:
    edit_json(source / "bert_config.json", **changes)
    with pytest.raises(KexueError, match=message):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def without(layers: Layers, name: str) -> Layers:
    return [(layer, weights) for layer, weights in layers if layer != name]


def without_a_kernel(layers: Layers) -> Layers:
    return [
        (layer, weights[:3] if layer == "Transformer-1-FeedForward-Norm" else weights) for layer, weights in layers
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: without(layers, "embedding_1"), "tensors are missing: embedding_1, weight 0"),
        (lambda layers: without(layers, "Transformer-1-FeedForward"), "4 tensors are missing"),
        (
            without_a_kernel,
            r"should hold the weights \(beta, gamma, kernel, kernel\), and holds \(beta, gamma, kernel\)",
        ),
        (lambda layers: [*layers, ("dense_34", layers[-1][1])], "occurs twice|expected at most one layer"),
        (lambda layers: [*layers, ("extra", [("extra/table:0", np.zeros((2, 2), np.float32))])], "extra/table:0"),
    ],
    ids=["tasks", "layer", "kernel", "two heads", "stranger"],
)
def test_incomplete_files_are_refused(change: Any, message: str, source: Path, tmp_path: Path) -> None:
    write_layers(source / "best_model.weights", change(read_layers(source / "best_model.weights")))
    with pytest.raises(KexueError, match=message):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_that_the_original_lacks(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(KexueError, match=r"bert4keras saves no TensorFlow checkpoint of a cln_matcher.*--to keras"):
        export(converted, tmp_path / "back")
    folded = AutoModelForSequenceClassification.from_pretrained(converted).fold_task(0)
    for saved in (folded, AutoTokenizer.from_pretrained(converted)):
        saved.save_pretrained(tmp_path / "folded")
    with pytest.raises(KexueError, match="conditional is False, expected True: bert4keras has no other"):
        export(tmp_path / "folded", tmp_path / "back", "keras")
    assert not (tmp_path / "back").exists()


def test_on_the_command_line(source: Path, tmp_path: Path) -> None:
    run, out = CliRunner().invoke, str(tmp_path / "out")
    done = run(app, ["convert", str(source), out, "--task-names", ",".join(TASKS)])
    assert done.exit_code == 0 and f"{source} -> {out}" in done.output, done.output
    assert run(app, ["export", out, str(tmp_path / "back"), "--to", "keras"]).exit_code == 0
    done = run(app, ["convert", str(source), str(tmp_path / "few"), "--task-names", "a,b"])
    assert done.exit_code != 0 and not (tmp_path / "few").exists()
    with pytest.raises(KexueError, match="says num_tasks 2, the checkpoint has 6"):
        convert(source, tmp_path / "few", task_names=["a", "b"])
    with pytest.raises(KexueError, match=r"--task-names: .* is a wobert, which has no tasks"):
        convert(GOLDEN / "wobert_keras_h5", tmp_path / "few", task_names=["a", "b"])
