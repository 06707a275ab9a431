"""The WoBERT models against the original code's outputs, and against themselves under every way to run them.

Oracle: tests/golden/wobert_*, made by bert4keras 0.10.5 on TensorFlow 1.15.5.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForSequenceClassification

import kexue_hf
from kexue_hf import WoBertConfig
from kexue_hf.conversion.convert import convert

GOLDEN = Path(__file__).parents[2] / "golden"
# The reference is good to 1e-5 (against a recomputation in float64); a wrong GELU or epsilon moves some output by at
# least 1.5e-4.
TOLERANCE = 5e-5

HEADS = [
    "WoBertModel",
    "WoBertForPreTraining",
    "WoBertForMaskedLM",
    "WoBertForSequenceClassification",
    "WoBertForTokenClassification",
    "WoBertForQuestionAnswering",
    "WoBertForMultipleChoice",
    "WoBertForNextSentencePrediction",
]
LOSS_HEADS = [head for head in HEADS if head != "WoBertModel"]


@pytest.fixture(scope="module", params=["wobert_tf_ckpt", "wobert_mlm_only_tf_ckpt", "wobert_keras_h5"])
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Case name, converted folder, and {batch: (model inputs, expected outputs)}."""
    case = GOLDEN / request.param
    folder = tmp_path_factory.mktemp("golden") / request.param
    convert(case, folder)
    inputs, outputs = np.load(case / "inputs.npz"), np.load(case / "outputs.npz")
    batches = {}
    for batch in sorted({name.split("_")[0] for name in inputs.files}):
        model_inputs = {
            "input_ids": torch.from_numpy(inputs[f"{batch}_token_ids"]).long(),
            "token_type_ids": torch.from_numpy(inputs[f"{batch}_segment_ids"]).long(),
            "attention_mask": torch.from_numpy(inputs[f"{batch}_mask"]).long(),
        }
        prefix = f"{batch}_"
        expected = {name[len(prefix) :]: outputs[name] for name in outputs.files if name.startswith(prefix)}
        batches[batch] = (model_inputs, expected)
    return request.param, folder, batches


def deviation(actual: torch.Tensor, expected: np.ndarray) -> float:
    """Largest absolute difference; the shapes must agree."""
    assert tuple(actual.shape) == expected.shape
    return float(np.abs(actual.detach().double().numpy() - expected).max())


def outputs_of(folder: Path, case: str, attention: str, inputs: dict[str, torch.Tensor], change=None):
    """What the head that the checkpoint is for computes, named as in the golden outputs."""
    auto = {
        "wobert_tf_ckpt": AutoModelForPreTraining,
        "wobert_mlm_only_tf_ckpt": AutoModelForMaskedLM,
        "wobert_keras_h5": AutoModelForSequenceClassification,
    }[case]
    model, info = auto.from_pretrained(folder, attn_implementation=attention, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    if change is not None:
        change(model)
    model.eval()
    with torch.no_grad():
        result = model(**inputs, output_hidden_states=True)
        named = {f"hidden_{layer}": states for layer, states in enumerate(result.hidden_states)}
        if case == "wobert_tf_ckpt":
            named["mlm_logits"], named["nsp_logits"] = result.prediction_logits, result.seq_relationship_logits
            named["nsp_probs"] = result.seq_relationship_logits.softmax(-1)
            named["pooled"] = model.bert(**inputs).pooler_output
        elif case == "wobert_mlm_only_tf_ckpt":
            named["mlm_logits"] = result.logits
        else:
            named["class_logits"], named["class_probs"] = result.logits, result.logits.softmax(-1)
    return named


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_equal_the_original_codes(golden, attention: str) -> None:
    case, folder, batches = golden
    for batch, (inputs, expected) in batches.items():
        actual = outputs_of(folder, case, attention, inputs)
        assert set(actual) == set(expected), batch
        for name in expected:
            assert deviation(actual[name], expected[name]) < TOLERANCE, (batch, name)


@pytest.mark.parametrize("damage", ["tanh_gelu", "epsilon", "swapped"])
def test_the_parity_check_can_fail(golden, damage: str) -> None:
    case, folder, batches = golden

    def change(model: torch.nn.Module) -> None:
        for module in model.modules():
            if damage == "tanh_gelu" and type(module).__name__ == "BertIntermediate":
                module.intermediate_act_fn = torch.nn.GELU(approximate="tanh")
            if damage == "epsilon" and isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-6
        if damage == "swapped":
            attention = model.bert.encoder.layer[0].attention.self
            attention.query, attention.key = attention.key, attention.query
            model.bert.encoder.layer[0].attention.self.value.weight.data.copy_(attention.value.weight.data.T.clone())

    worst = 0.0
    for inputs, expected in batches.values():
        actual = outputs_of(folder, case, "eager", inputs, change)
        worst = max(worst, *(deviation(actual[name], expected[name]) for name in expected))
    assert worst > TOLERANCE


def test_an_mlm_only_checkpoint_says_so(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_mlm_only_tf_ckpt", tmp_path / "model")
    model, info = AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert model.config.add_pooling_layer is False and model.pooler is None
    assert not info["missing_keys"]


def test_a_wobert_folder_loads_into_plain_bert(golden) -> None:
    from transformers import BertModel

    _, folder, batches = golden
    inputs, _ = batches["b0"]
    ours = AutoModel.from_pretrained(folder).eval()
    plain = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    assert torch.equal(ours(**inputs).last_hidden_state, plain(**inputs).last_hidden_state)


def tiny_config(**changes) -> WoBertConfig:
    return WoBertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        **changes,
    )


def tiny_batch(head: str, rows: int = 6, length: int = 9, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random inputs and labels for a head; padding at the end, some labels ignored."""
    generator = torch.Generator().manual_seed(seed)

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    choices = (rows, 3) if head == "WoBertForMultipleChoice" else (rows,)
    mask = torch.ones(*choices, length, dtype=torch.long)
    mask[..., length - 2 :] = integers(2, *choices, 1)
    batch = {"input_ids": integers(49, *choices, length) + 1, "attention_mask": mask}
    token_labels = integers(50, rows, length).masked_fill(integers(3, rows, length) > 0, -100)
    if head == "WoBertForPreTraining":
        batch |= {"labels": token_labels, "next_sentence_label": integers(2, rows)}
    elif head == "WoBertForMaskedLM":
        batch |= {"labels": token_labels}
    elif head == "WoBertForTokenClassification":
        batch |= {"labels": token_labels.clamp(max=1)}
    elif head == "WoBertForQuestionAnswering":
        batch |= {"start_positions": integers(length, rows), "end_positions": integers(length, rows)}
    elif head == "WoBertForMultipleChoice":
        batch |= {"labels": integers(3, rows)}
    elif head != "WoBertModel":
        batch |= {"labels": integers(2, rows)}
    return batch


def tiny_model(head: str, **changes):
    torch.manual_seed(0)
    return getattr(kexue_hf, head)(tiny_config(**changes)).eval()


@pytest.mark.parametrize("head", HEADS)
def test_eager_and_sdpa_agree(head: str, tmp_path: Path) -> None:
    model = tiny_model(head).double()
    batch = tiny_batch(head)
    eager, sdpa = copy.deepcopy(model), copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    sdpa.set_attn_implementation("sdpa")
    for one, other in zip(eager(**batch).to_tuple(), sdpa(**batch).to_tuple(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def check_at_two_sizes(model, run, batch: dict[str, torch.Tensor]) -> None:
    """`run` computes what the model does, for the batch and for a smaller one."""
    for inputs in (batch, {name: value[:4][..., :7] for name, value in batch.items()}):
        for one, other in zip(run(**inputs).to_tuple(), model(**inputs).to_tuple(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


# Classifiers of texts are compiled in test_mean_pooling_wobert.py.
@pytest.mark.parametrize("head", ["WoBertForMaskedLM"])
def test_compiled_models_agree(head: str) -> None:
    model, batch = tiny_model(head), tiny_batch(head)
    torch._dynamo.reset()
    check_at_two_sizes(model, torch.compile(model, backend="aot_eager", fullgraph=True), batch)


@pytest.mark.parametrize("head", LOSS_HEADS)
def test_gradient_checkpointing_changes_nothing(head: str) -> None:
    batch = tiny_batch(head)
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(head, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            # The name changed in the course of transformers 5.
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        model(**batch).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name in gradients[0]:
        torch.testing.assert_close(gradients[0][name], gradients[1][name])


@pytest.mark.parametrize("head", [head for head in LOSS_HEADS if head != "WoBertForQuestionAnswering"])
def test_accumulated_micro_batches_equal_one_batch(head: str) -> None:
    """The sum over unequal micro-batches of sum / num_items_in_batch is the whole batch's mean, gradients too.

    For pre-training the next-sentence part is weighted by each micro-batch's share of masked words, so only its MLM
    part is compared.
    """
    batch = tiny_batch(head)
    batch.pop("next_sentence_label", None)
    model = tiny_model(head).double()
    whole = model(**batch).loss
    whole.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    items = batch["labels"].ne(-100).sum()
    total = 0.0
    for part in (slice(0, 1), slice(1, 3), slice(3, 6)):
        loss = model(**{name: value[part] for name, value in batch.items()}, num_items_in_batch=items).loss
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-12)
    for name, gradient in expected.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("head", LOSS_HEADS)
def test_losses_equal_berts_own(head: str) -> None:
    import transformers

    model = tiny_model(head)
    plain = getattr(transformers, head.removeprefix("Wo"))(model.config).eval()
    plain.load_state_dict(model.state_dict())
    batch = tiny_batch(head)
    ours, theirs = model(**batch, return_dict=False), plain(**batch, return_dict=False)
    assert isinstance(ours, tuple) and model(**batch).keys() == plain(**batch).keys()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_the_next_sentence_part_is_weighted_by_the_share_of_masked_words() -> None:
    batch = tiny_batch("WoBertForPreTraining")
    model = tiny_model("WoBertForPreTraining").double()
    words = {name: value for name, value in batch.items() if name != "next_sentence_label"}
    pairs = {name: value for name, value in batch.items() if name != "labels"}
    torch.testing.assert_close(model(**batch).loss, model(**words).loss + model(**pairs).loss)
    items = batch["labels"].ne(-100).sum()
    part = {name: value[:2] for name, value in batch.items()}
    share = part["labels"].ne(-100).sum() / items
    next_sentence = model(**{name: value[:2] for name, value in pairs.items()}).loss
    masked_words = model(**{name: value[:2] for name, value in words.items()}, num_items_in_batch=items).loss
    torch.testing.assert_close(
        model(**part, num_items_in_batch=items).loss, masked_words + share * next_sentence, check_dtype=False
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_of_half_precision_weights_is_computed_in_float32(dtype: torch.dtype) -> None:
    """40,000 labels of about log 50 each: their sum overflows float16."""
    model = tiny_model("WoBertForTokenClassification", num_labels=50).to(dtype)
    inputs = {"input_ids": torch.ones(1300, 31, dtype=torch.long), "labels": torch.ones(1300, 31, dtype=torch.long)}
    with torch.no_grad():
        loss = model(**inputs, num_items_in_batch=1300 * 31).loss
        logits = model(input_ids=inputs["input_ids"]).logits.float()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, functional.cross_entropy(logits.flatten(0, 1), inputs["labels"].flatten()))


@pytest.mark.parametrize(
    ("head", "changes", "pooler"),
    [
        ("WoBertModel", {}, True),
        ("WoBertModel", {"add_pooling_layer": False}, False),
        ("WoBertForMaskedLM", {}, False),
        ("WoBertForSequenceClassification", {}, True),
        ("WoBertForSequenceClassification", {"add_pooling_layer": False}, True),
        ("WoBertForSequenceClassification", {"classifier_pooling": "cls"}, False),
        ("WoBertForSequenceClassification", {"classifier_pooling": "mean"}, False),
    ],
    ids=lambda value: str(value),
)
def test_a_saved_configuration_says_whether_there_is_a_pooler(head, changes, pooler, tmp_path: Path) -> None:
    model = tiny_model(head, **changes)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["add_pooling_layer"] is pooler
    assert model.config.add_pooling_layer is changes.get("add_pooling_layer", True)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert (base.pooler is not None) is pooler and not info["missing_keys"]


@pytest.mark.parametrize(
    ("num_labels", "labels", "problem"),
    [
        (1, torch.randn(6), "regression"),
        (3, torch.randn(6, 3), "regression"),
        (3, torch.ones(6, 3), "multi_label_classification"),
        (3, torch.ones(6, dtype=torch.long), "single_label_classification"),
    ],
    ids=["regression_1", "regression_3", "multi_label", "single_label"],
)
def test_classification_losses(num_labels: int, labels: torch.Tensor, problem: str) -> None:
    model = tiny_model("WoBertForSequenceClassification", num_labels=num_labels, problem_type=problem)
    batch = tiny_batch("WoBertForSequenceClassification") | {"labels": labels}
    output = model(**batch)
    expected = {
        "regression": lambda: functional.mse_loss(output.logits.squeeze(), labels),
        "multi_label_classification": lambda: functional.binary_cross_entropy_with_logits(output.logits, labels),
        "single_label_classification": lambda: functional.cross_entropy(output.logits, labels),
    }[problem]()
    torch.testing.assert_close(output.loss, expected)
    scaled = model(**batch, num_items_in_batch=2 * labels.numel()).loss
    torch.testing.assert_close(scaled, expected / 2)


def test_the_problem_type_is_found_from_the_labels() -> None:
    for num_labels, labels, problem in (
        (1, torch.randn(6), "regression"),
        (2, torch.ones(6, dtype=torch.long), "single_label_classification"),
        (2, torch.ones(6, 2), "multi_label_classification"),
    ):
        model = tiny_model("WoBertForSequenceClassification", num_labels=num_labels)
        model(**tiny_batch("WoBertForSequenceClassification") | {"labels": labels})
        assert model.config.problem_type == problem


@pytest.mark.parametrize("head", ["WoBertForSequenceClassification", "WoBertForTokenClassification"])
def test_labels_may_be_any_integers(head: str) -> None:
    model, batch = tiny_model(head), tiny_batch(head)
    narrow = batch | {"labels": batch["labels"].int()}
    assert torch.equal(model(**narrow).loss, model(**batch).loss)


def test_classes_that_are_no_integers_are_refused() -> None:
    model, batch = tiny_model("WoBertForTokenClassification"), tiny_batch("WoBertForTokenClassification")
    with pytest.raises(RuntimeError):
        model(**batch | {"labels": batch["labels"] + 0.5})


@pytest.mark.parametrize("head", ["WoBertForSequenceClassification", "WoBertForMultipleChoice"])
def test_cls_pooling_is_a_dense_on_the_raw_state(head: str) -> None:
    model = tiny_model(head, classifier_pooling="cls")
    assert not any("pooler" in name for name in model.state_dict())
    batch = tiny_batch(head)
    flat = {name: batch[name].reshape(-1, batch[name].shape[-1]) for name in ("input_ids", "attention_mask")}
    first = model.bert(**flat).last_hidden_state[:, 0]
    expected = functional.linear(first, model.classifier.weight, model.classifier.bias)
    torch.testing.assert_close(model(**batch).logits.reshape(-1), expected.reshape(-1))


def test_a_configuration_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"classifier_pooling must be 'pooler', 'cls' or 'mean', got 'max'"):
        tiny_config(classifier_pooling="max")


def test_a_configuration_names_every_auto_class(tmp_path: Path) -> None:
    from kexue_hf.models.wobert.auto_map_wobert import AUTO_MAP

    tiny_config(vocab_fingerprint="abc").save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["auto_map"] == AUTO_MAP
    assert saved["vocab_fingerprint"] == "abc"
