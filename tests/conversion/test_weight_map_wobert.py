"""WoBERT's weight map: each name occurs once, maps both ways, and mismatches are refused."""

from typing import Any

import pytest

from kexue_hf.conversion.formats.weight_source import BY_NAME, StoredTensor
from kexue_hf.conversion.weight_plan import (
    expand,
    plan_from_keras,
    plan_from_tensorflow,
    plan_to_keras,
    plan_to_tensorflow,
)
from kexue_hf.errors import ConversionError
from kexue_hf.models.wobert import weight_map_wobert as weight_map

SIZES = {
    "vocab_size": 11,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 5,
    "type_vocab_size": 2,
}
ALL_PARTS = {part for part, _ in weight_map.PARAMETERS.values()}
KERAS_PARTS = ALL_PARTS - {"spans"}


def tensor(name: str, shape: tuple[int, ...], kind: str = "float32") -> StoredTensor:
    return StoredTensor(name, BY_NAME[kind], shape, 0)


def parameters(parts: set[str]) -> dict[str, StoredTensor]:
    """Return our parameters of the given parts, with their shapes."""
    sizes = {**SIZES, "num_labels": 3}
    return {
        name: tensor(name, tuple(sizes[size] if isinstance(size, str) else size for size in shape))
        for name, (part, shape) in expand(weight_map.PARAMETERS, SIZES).items()
        if part in parts
    }


def variables(parts: set[str]) -> dict[str, StoredTensor]:
    plan = plan_to_tensorflow(weight_map, parameters(parts), SIZES)
    return {move.target: tensor(move.target, move.shape) for move in plan.moves}


def test_every_target_is_a_parameter_and_every_parameter_a_target() -> None:
    assert {target for target, _ in weight_map.TENSORFLOW.values()} == set(weight_map.PARAMETERS)
    assert len({target for target, _ in weight_map.TENSORFLOW.values()}) == len(weight_map.TENSORFLOW)
    keras = [target for row in (*weight_map.KERAS.values(), weight_map.KERAS_HEAD) for _, target, _ in row]
    assert len(set(keras)) == len(keras)
    assert set(weight_map.PARAMETERS) - set(keras) == {"qa_outputs.weight", "qa_outputs.bias"}


def test_the_model_has_exactly_these_parameters() -> None:
    import kexue_hf

    parts = {
        "WoBertForPreTraining": {"encoder", "pooler", "mlm", "nsp"},
        "WoBertForSequenceClassification": {"encoder", "pooler", "classifier"},
        "WoBertForQuestionAnswering": {"encoder", "spans"},
    }
    for name, expected in parts.items():
        labels = 2 if "spans" in expected else 3
        model = getattr(kexue_hf, name)(kexue_hf.WoBertConfig(**SIZES, num_labels=labels))
        found = {key: tuple(value.shape) for key, value in model.named_parameters() if key not in weight_map.TWINS}
        assert found == {key: value.shape for key, value in parameters(expected).items()}, name


@pytest.mark.parametrize(
    "parts",
    [{"encoder"}, {"encoder", "mlm"}, {"encoder", "pooler", "mlm", "nsp"}, {"encoder", "classifier"}, KERAS_PARTS],
    ids=lambda parts: "+".join(sorted(parts)),
)
def test_round_trip(parts: set[str]) -> None:
    ours = parameters(parts)
    plan = plan_to_tensorflow(weight_map, ours, SIZES)
    back = plan_from_tensorflow(weight_map, {m.target: tensor(m.target, m.shape) for m in plan.moves}, SIZES)
    assert {move.target: move.shape for move in back.moves} == {name: t.shape for name, t in ours.items()}
    assert back.parts == parts
    plan, layers = plan_to_keras(weight_map, ours, SIZES)
    back = plan_from_keras(weight_map, {m.target: tensor(m.target, m.shape) for m in plan.moves}, layers, SIZES)
    assert {move.target: move.shape for move in back.moves} == {name: t.shape for name, t in ours.items()}


@pytest.mark.parametrize("to", [plan_to_tensorflow, lambda *a: plan_to_keras(*a)[0]], ids=["tensorflow", "keras"])
def test_base_model_names_lack_the_prefix(to: Any) -> None:
    full = parameters({"encoder", "pooler"})
    bare = {name.removeprefix("bert."): value for name, value in full.items()}
    assert [m.target for m in to(weight_map, bare, SIZES).moves] == [
        m.target for m in to(weight_map, full, SIZES).moves
    ]


def test_second_copy_of_a_tied_parameter_is_dropped() -> None:
    ours = parameters({"encoder", "mlm"}) | {"cls.predictions.decoder.bias": tensor("x", (11,))}
    plan = plan_to_tensorflow(weight_map, ours, SIZES)
    assert plan.dropped == [("cls.predictions.decoder.bias", "tied to cls.predictions.bias")]
    only_twin = {("cls.predictions.decoder.bias" if n == "cls.predictions.bias" else n): t for n, t in ours.items()}
    assert "cls/predictions/output_bias" in {
        move.target for move in plan_to_tensorflow(weight_map, only_twin, SIZES).moves
    }


def test_keras_layer_order_with_all_heads() -> None:
    _, layers = plan_to_keras(weight_map, parameters({"encoder", "pooler", "mlm", "nsp"}), SIZES)
    assert [layer for layer, _ in layers][-5:] == ["MLM-Dense", "MLM-Norm", "Pooler-Dense", "MLM-Bias", "NSP-Proba"]
    assert layers[0][0] == "Embedding-Token"
    assert [layer for layer, _ in layers].index("Transformer-1-FeedForward-Norm") == 11


@pytest.mark.parametrize(
    "name",
    [
        "bert/encoder/layer_0/output/dense/kernel/adam_m",
        "bert/embeddings/word_embeddings/adam_v",
        "bert/embeddings/word_embeddings/AdamWeightDecayOptimizer",
        "bert/embeddings/word_embeddings/AdamWeightDecayOptimizer_1",
        "bert/embeddings/word_embeddings/Adam_1",
        "training/Adam/iterations",
        "global_step",
        "beta1_power",
        "_CHECKPOINTABLE_OBJECT_GRAPH",
        "save_counter/.ATTRIBUTES/VARIABLE_VALUE",
    ],
)
def test_dropped_tensors_have_a_reason(name: str) -> None:
    plan = plan_from_tensorflow(weight_map, variables({"encoder"}) | {name: tensor(name, ())}, SIZES)
    assert [dropped for dropped, reason in plan.dropped if reason] == [name]


def test_no_model_variable_is_dropped() -> None:
    import re

    for name in expand(weight_map.TENSORFLOW, SIZES):
        assert not any(re.fullmatch(pattern, name) for pattern, _ in weight_map.DROPPED_TENSORFLOW), name


def changed(change: Any) -> dict[str, StoredTensor]:
    tensors = variables({"encoder", "pooler", "mlm", "nsp"})
    change(tensors)
    return tensors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update(x=tensor("x", (1,))), r"1 of \d+ tensors are unknown to .*: x"),
        (lambda t: t.pop("bert/embeddings/LayerNorm/beta"), "1 tensors are missing: bert/embeddings/LayerNorm/beta"),
        (lambda t: t.pop("cls/predictions/output_bias"), "missing: cls/predictions/output_bias"),
        (
            lambda t: t.update({"bert/pooler/dense/bias": tensor("", (5,))}),
            r"bert/pooler/dense/bias is \[5\], expected \[4\]",
        ),
        (
            lambda t: t.update({"bert/encoder/layer_0/output/dense/kernel": tensor("", (4, 6))}),
            r"is \[4, 6\], expected \[6, 4\]",
        ),
        (
            lambda t: t.update({"bert/pooler/dense/bias": tensor("", (4,), "int32")}),
            "should hold floating-point weights, but has type int32",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if "pooler" in name],
            r"a head \(nsp\) but lacks its pooler",
        ),
        (
            lambda t: [t.pop(name) for name in list(t) if "layer_1" in name],
            "num_hidden_layers 2, the checkpoint has layers 0 to 0",
        ),
    ],
    ids=["unknown", "missing", "half_a_head", "shape", "not_transposed", "type", "nsp_without_pooler", "layers"],
)
def test_mismatches_are_refused(change: Any, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        plan_from_tensorflow(weight_map, changed(change), SIZES)


def test_an_absurd_number_of_layers_is_refused_at_once() -> None:
    with pytest.raises(ConversionError, match="num_hidden_layers 1000000000"):
        plan_from_tensorflow(weight_map, variables({"encoder"}), SIZES | {"num_hidden_layers": 10**9})


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"MLM-Bias/bias:0": "MLM-Bias/gamma:0"}, "should hold the weights .bias/beta., and holds .gamma."),
        ({"dense_1/kernel:0": "mine/weird:0"}, "unknown to"),
    ],
    ids=["another_weight", "unknown_layer"],
)
def test_keras_layers_that_do_not_fit_are_refused(rename: dict[str, str], message: str) -> None:
    plan, layers = plan_to_keras(weight_map, parameters(KERAS_PARTS), SIZES)
    names = {move.target: rename.get(move.target, move.target) for move in plan.moves}
    tensors = {names[move.target]: tensor("", move.shape) for move in plan.moves}
    with pytest.raises(ConversionError, match=message):
        plan_from_keras(
            weight_map, tensors, [(layer, [names[w] for w in weights]) for layer, weights in layers], SIZES
        )


@pytest.mark.parametrize("ending", ["bias", "beta"], ids=["bert4keras_0.10", "bert4keras_0.11"])
def test_both_spellings_of_the_mlm_bias(ending: str) -> None:
    plan, layers = plan_to_keras(weight_map, parameters({"encoder", "mlm"}), SIZES)
    tensors = {
        move.target.replace("MLM-Bias/bias", f"MLM-Bias/{ending}"): tensor("", move.shape) for move in plan.moves
    }
    layers = [
        (layer, [w.replace("MLM-Bias/bias", f"MLM-Bias/{ending}") for w in weights]) for layer, weights in layers
    ]
    assert plan_from_keras(weight_map, tensors, layers, SIZES).parts == {"encoder", "mlm"}


def test_two_extra_layers_are_refused() -> None:
    plan, layers = plan_to_keras(weight_map, parameters({"encoder", "classifier"}), SIZES)
    tensors = {move.target: tensor("", move.shape) for move in plan.moves}
    tensors |= {"b/kernel:0": tensor("", (4, 2)), "b/bias:0": tensor("", (2,))}
    with pytest.raises(ConversionError, match=r"got 2 \(dense_1, b\)"):
        plan_from_keras(weight_map, tensors, [*layers, ("b", ["b/kernel:0", "b/bias:0"])], SIZES)
