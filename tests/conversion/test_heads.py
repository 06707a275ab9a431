"""Classifiers of fine-tuning scripts, reduced vocabularies, and networks of another layout."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.formats.keras import KerasWeights
from kexue_hf.conversion.verify import verify
from kexue_hf.errors import ConversionError, InputError
from tests.conversion.checkpoints import GOLDEN, edit_bundle, golden_copy

Layer = tuple[str, dict[str, np.ndarray]]
"""(layer name, its weights by name)"""


def read_layers(path: Path) -> list[Layer]:
    with KerasWeights(path) as weights:
        return [(layer, {name: weights.read(name) for name in names}) for layer, names in weights.layers]


def write_layers(path: Path, layers: list[Layer]) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer, _ in layers]
        for layer, weights in layers:
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in weights], dtype="S100")
            for name, values in weights.items():
                group.create_dataset(name, data=values)


def keras_source(folder: Path, *after: Layer) -> Path:
    """Write the golden encoder to a Keras file with its layers without weights, and with other layers on top."""
    source = golden_copy("wobert_keras_h5", folder)
    layers = read_layers(source / "best_model.weights")
    cut = [name for name, _ in layers].index("CLS-token")
    write_layers(source / "best_model.weights", [*layers[:cut], *after])
    return source


def dense(name: str, labels: int, inside: str = "") -> Layer:
    names = [f"{name}/{inside}{ending}:0" for ending in ("kernel", "bias")]
    return name, {names[0]: np.ones((40, labels), "<f4"), names[1]: np.ones(labels, "<f4")}


def config(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return fields


LAMBDA: Layer = ("lambda_1", {})
MEAN: Layer = ("global_average_pooling1d_1", {})
DROPOUT: Layer = ("dropout_3", {})
TEXT, TOKEN = "WoBertForSequenceClassification", "WoBertForTokenClassification"


@pytest.mark.parametrize(
    ("layers", "architecture", "pooling", "note"),
    [
        ([LAMBDA, dense("dense_1", 5)], TEXT, "cls", r"layer 'dense_1' \(40 x 5\) is read as a text classifier"),
        ([MEAN, DROPOUT, dense("out", 5)], TEXT, "mean", "it reads averaged states"),
        (
            [dense("projection", 64)],
            TOKEN,
            "cls",
            r"'projection' \(40 x 64\) is read as a token classifier with 64 labels",
        ),
        (
            [dense("time_distributed_1", 7, "dense_4/")],
            TOKEN,
            "cls",
            "'time_distributed_1' .* a token classifier with 7",
        ),
        ([DROPOUT, dense("dense_1", 7)], TOKEN, "cls", "it reads the state of every token; .*--head"),
    ],
    ids=["first_token", "mean", "tokens", "each_token", "dropped_out_tokens"],
)
def test_a_dense_layer_is_classified_by_its_input(
    layers: list[Layer], architecture: str, pooling: str, note: str, tmp_path: Path
) -> None:
    source = keras_source(tmp_path / "in", *layers)
    report = convert(source, tmp_path / "out")
    assert (report.architecture, config(tmp_path / "out")["classifier_pooling"]) == (architecture, pooling)
    (said,) = [line for line in report.notes if " classifier with " in line]
    assert re.search(note, said), said
    assert verify(tmp_path / "out", source).differences == []


@pytest.mark.parametrize(
    ("head", "labels", "architecture"),
    [("text", 5, TEXT), ("token", 5, TOKEN), ("choice", 1, "WoBertForMultipleChoice"), ("none", 5, "WoBertModel")],
)
@pytest.mark.parametrize("layers", [[LAMBDA], []], ids=["text", "tokens"])
def test_the_option_decides(head: str, labels: int, architecture: str, layers: list[Layer], tmp_path: Path) -> None:
    source = keras_source(tmp_path / "in", *layers, dense("dense_1", labels))
    report = convert(source, tmp_path / "out", head=head)
    assert report.architecture == architecture
    assert not any(" classifier with " in note for note in report.notes)
    assert [reason for name, reason in report.dropped if "dense_1" in name] == (
        ["left out (--head none)"] * 2 if head == "none" else []
    )
    assert verify(tmp_path / "out", source, head=head).differences == []


def test_the_option_decides_for_a_checkpoint_of_tensorflow(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")

    def add(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        tensors["output_weights"] = ("float32", np.ones((3, 32), "<f4"))
        tensors["output_bias"] = ("float32", np.ones(3, "<f4"))

    edit_bundle(source / "bert_model.ckpt", add)
    for head, architecture in (("auto", TEXT), ("token", TOKEN), ("none", "WoBertForMaskedLM")):
        assert convert(source, tmp_path / head, head=head).architecture == architecture
        assert verify(tmp_path / head, source, head=head).differences == []


POINTER = dense("global_pointer_1", 96, "dense_5/")


@pytest.mark.parametrize(
    ("layers", "options", "error", "message"),
    [
        (
            [POINTER],
            {},
            ConversionError,
            "'global_pointer_1' is bert4keras' GlobalPointer, .* convert --head none leaves",
        ),
        ([dense("global_pointer", 96)], {}, ConversionError, "is bert4keras' GlobalPointer"),
        ([POINTER], {"head": "token"}, ConversionError, "is bert4keras' GlobalPointer"),
        ([dense("mine", 9, "dense_5/")], {}, ConversionError, "'mine' is a layer with a dense layer inside it"),
        ([dense("a", 9), dense("b", 2)], {}, ConversionError, r"got 2 \(a, b\)"),
        (
            [dense("a", 9)],
            {"head": "spans"},
            InputError,
            "--head spans: choose one of auto, text, token, choice, none",
        ),
        ([], {"head": "token"}, InputError, "--head token: .* has no classifier"),
        (
            [("wide", {"wide/kernel:0": np.ones((80, 3), "<f4"), "wide/bias:0": np.ones(3, "<f4")})],
            {},
            ConversionError,
            "layer 'wide' reads 80 values, expected the hidden size, 40; .* --head none leaves it out",
        ),
        ([dense("a", 9)], {"head": "choice"}, ConversionError, "has 9 outputs, expected 1"),
    ],
    ids=["pointer", "flat_pointer", "as_tokens", "inside", "two", "unknown", "nothing", "wide", "choice"],
)
def test_other_layers_are_refused(
    layers: list[Layer], options: dict[str, str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    source = keras_source(tmp_path / "in", *layers)
    with pytest.raises(error, match=message):
        convert(source, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
    report = convert(source, tmp_path / "none", head="none")
    assert report.architecture == "WoBertModel" and len(report.dropped) == 2 * len(layers)


def test_weights_inside_another_model_are_found(tmp_path: Path) -> None:
    """`multi_gpu_model` saves the whole model as one layer."""
    source = golden_copy("wobert_keras_h5", tmp_path / "in")
    layers = read_layers(source / "best_model.weights")
    inner = {name: values for _, weights in layers for name, values in weights.items()}
    write_layers(source / "best_model.weights", [("Input-Token", {}), LAMBDA, ("model_1", inner), ("dense_13", {})])
    report = convert(source, tmp_path / "out")
    assert report.architecture == TEXT
    assert any("the file does not show what it reads" in note for note in report.notes)
    assert verify(tmp_path / "out", GOLDEN / "wobert_keras_h5").differences == []


def renamed(folder: Path, old: str, new: str, without: str) -> Path:
    """Write the golden file with other names of layers and weights, without the layers that match `without`."""
    source = golden_copy("wobert_keras_h5", folder)
    layers = [row for row in read_layers(source / "best_model.weights") if not re.match(without, row[0])]
    write_layers(
        source / "best_model.weights",
        [(re.sub(old, new, layer), {re.sub(old, new, n): v for n, v in weights.items()}) for layer, weights in layers],
    )
    return source


@pytest.mark.parametrize(
    ("old", "new", "without", "message"),
    [
        ("Transformer-", "Encoder-", "x", r"Encoder-0-MultiHead.*and \d+ more, which look like a BERT of keras-bert"),
        ("Transformer-0-", "Transformer-", "Transformer-1-", "which look like an ALBERT"),
        ("MultiHeadSelfAttention", "GatedAttentionUnit", ".*FeedForward", "which look like a GAU"),
        ("Transformer-", "Mine-", "x", "it has Mine-0-MultiHeadSelfAttention/dense_1/kernel:0, "),
        (
            "Embedding-Token",
            "Embedding-Word",
            "x",
            "no word embeddings .* among the .* tensors of the checkpoint: it has",
        ),
    ],
    ids=["keras_bert", "albert", "gau", "unknown", "no_words"],
)
@pytest.mark.parametrize("family", ["auto", "wobert"])
def test_another_layout_is_recognised_by_its_names(
    old: str, new: str, without: str, message: str, family: str, tmp_path: Path
) -> None:
    source = renamed(tmp_path / "in", old, new, without)
    with pytest.raises(ConversionError, match=message) as error:
        convert(source, tmp_path / "out", family=family)
    assert "--config" not in str(error.value) and len(str(error.value)) < 800


def test_a_tensorflow_albert_is_recognised(tmp_path: Path) -> None:
    source = golden_copy("wobert_mlm_only_tf_ckpt", tmp_path / "in")

    def rename(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        for name in [name for name in tensors if "/layer_" in name]:
            value = tensors.pop(name)
            if "/layer_0/" in name:
                tensors[name.replace("encoder/layer_0/", "encoder/transformer/group_0/inner_group_0/")] = value

    edit_bundle(source / "bert_model.ckpt", rename)
    with pytest.raises(ConversionError, match="which look like an ALBERT"):
        convert(source, tmp_path / "out")


KEPT = [0, 1, 2, 3, 4, *range(40, 200, 2)]


def selection(folder: Path) -> Path:
    """Save the golden weights as a script with `keep_tokens=KEPT` does: fewer rows, the same configuration."""
    source = golden_copy("wobert_mlm_only_tf_ckpt", folder)

    def keep(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
        for name in ("bert/embeddings/word_embeddings", "cls/predictions/output_bias"):
            kind, values = tensors[name]
            tensors[name] = (kind, values[KEPT])

    edit_bundle(source / "bert_model.ckpt", keep)
    return source


def test_a_reduced_vocabulary_requires_its_ids(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"embeddings have 85 rows, .* give the kept ids \(convert --keep-tok"):
        convert(selection(tmp_path / "in"), tmp_path / "out")


@pytest.mark.parametrize("form", ["json", "text", "dictionary", "compounds"])
def test_kept_tokens(form: str, tmp_path: Path) -> None:
    source = selection(tmp_path / "in")
    lines = (source / "vocab.txt").read_text(encoding="utf-8").split("\n")
    tokens = [lines[index] for index in KEPT]
    kept, rows = KEPT, tokens
    if form == "compounds":
        # The rows of the last two tokens, which are only in token_dict, are means of others.
        kept, rows = KEPT[:-2], [*tokens[:-2], "龘驫", "驫龘"]
    content = {
        "json": json.dumps(KEPT),
        "text": "\n".join(map(str, KEPT)),
        "dictionary": json.dumps([{token: index for index, token in enumerate(tokens)}, KEPT]),
        "compounds": json.dumps([{token: index for index, token in enumerate(rows)}, kept, [[5], [6, 7]]]),
    }[form]
    (tmp_path / "kept").write_text(content)
    convert(source, tmp_path / "out", keep_tokens=tmp_path / "kept")
    assert config(tmp_path / "out")["vocab_size"] == len(KEPT)
    assert (tmp_path / "out" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == rows
    assert verify(tmp_path / "out", source, keep_tokens=tmp_path / "kept").differences == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected the ids of keep_tokens"),
        ("[1, 2.5]", "expected the ids"),
        ('{"a": 1}', "expected the ids"),
        ("1 2 x", "expected the ids"),
        ("[[], [1]]", "expected the ids"),
        ('[{"a": 1}, [1]]', "expected the ids"),
        ("[0, 1, 2, 3, 4, 9999]", "has the id 9999, but the vocabulary has 347 tokens"),
        ("[0, 1, 2, 3, 4, -1]", "has the id -1"),
        ("[0, 1, 2, 3, 4, 4]", "has an id twice"),
        ("[" * 100_000, "expected the ids"),
        ("9" * 10_000, "expected the ids"),
    ],
    ids=["empty", "float", "object", "word", "lists", "dictionary", "beyond", "negative", "twice", "deep", "large"],
)
def test_a_file_without_ids_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text(content)
    with pytest.raises(InputError, match=message):
        convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / "out", keep_tokens=tmp_path / "kept")
    with pytest.raises(InputError, match="no such file"):
        convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / "out", keep_tokens=tmp_path / "none")
