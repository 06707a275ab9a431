"""The NEZHA models: against the original code's outputs, against themselves, and with the files of transformers 4.

Oracle: tests/golden/wonezha_tf_ckpt, made by bert4keras 0.10.5 on TensorFlow 1.15.5.
"""

import ast
import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

import kexue_hf
from kexue_hf import NezhaConfig
from kexue_hf.conversion.convert import convert
from kexue_hf.models.nezha.attention_nezha import sinusoid_table

GOLDEN = Path(__file__).parents[2] / "golden" / "wonezha_tf_ckpt"
MODELS = Path(kexue_hf.__file__).parent / "models"
# The reference is good to 1e-5 (against a recomputation in float64).
TOLERANCE = 5e-5

HEADS = [
    "NezhaModel",
    "NezhaForPreTraining",
    "NezhaForMaskedLM",
    "NezhaForSequenceClassification",
    "NezhaForTokenClassification",
    "NezhaForQuestionAnswering",
    "NezhaForMultipleChoice",
    "NezhaForNextSentencePrediction",
]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory):
    """The converted folder, and [(model inputs, expected outputs)] of all batches, one longer than 64 tokens."""
    folder = tmp_path_factory.mktemp("golden") / "wonezha"
    convert(GOLDEN, folder)
    inputs, outputs = np.load(GOLDEN / "inputs.npz"), np.load(GOLDEN / "outputs.npz")
    batches = []
    for prefix in sorted({name.split("_")[0] + "_" for name in inputs.files}):
        given = {"input_ids": "token_ids", "token_type_ids": "segment_ids", "attention_mask": "mask"}
        model_inputs = {name: torch.from_numpy(inputs[prefix + key]).long() for name, key in given.items()}
        expected = {name[len(prefix) :]: outputs[name] for name in outputs.files if name.startswith(prefix)}
        batches.append((model_inputs, expected))
    return folder, batches


def largest_deviation(golden, attention: str, change=lambda model: None) -> float:
    folder, batches = golden
    model, info = AutoModelForPreTraining.from_pretrained(
        folder, attn_implementation=attention, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    change(model)
    worst = 0.0
    for inputs, expected in batches:
        with torch.no_grad():
            result = model.eval()(**inputs, output_hidden_states=True)
            found = {f"hidden_{layer}": states for layer, states in enumerate(result.hidden_states)}
            found |= {"mlm_logits": result.prediction_logits, "nsp_logits": result.seq_relationship_logits}
            found |= {"nsp_probs": result.seq_relationship_logits.softmax(-1)}
            found |= {"pooled": model.nezha(**inputs).pooler_output}
        assert set(found) == set(expected)
        worst = max(worst, *(float(np.abs(found[name].numpy() - expected[name]).max()) for name in expected))
    return worst


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_equal_the_original_codes(golden, attention: str) -> None:
    assert largest_deviation(golden, attention) < TOLERANCE


def clip_early(model) -> None:
    # As a distance of 63 would do: the outermost rows are not used.
    table = model.nezha.encoder.relative_positions.table
    table[0], table[-1] = table[1].clone(), table[-2].clone()


def shift(model) -> None:
    positions = model.nezha.encoder.relative_positions
    positions.table = positions.table.roll(1, 0)


@pytest.mark.parametrize("change", [clip_early, shift])
def test_the_parity_check_can_fail(golden, change) -> None:
    assert largest_deviation(golden, "eager", change) > TOLERANCE


def tiny_config(**changes) -> NezhaConfig:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return NezhaConfig(**{**sizes, "intermediate_size": 24, "max_position_embeddings": 32, **changes})


def tiny_model(head: str, **changes):
    torch.manual_seed(0)
    return getattr(kexue_hf, head)(tiny_config(**changes)).eval()


def tiny_batch(head: str, rows: int = 6, length: int = 9) -> dict[str, torch.Tensor]:
    """Random inputs and labels for a head: padding on both sides, some labels ignored."""
    generator = torch.Generator().manual_seed(length)

    def integers(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    choices = (rows, 3) if head == "NezhaForMultipleChoice" else (rows,)
    mask = torch.ones(*choices, length, dtype=torch.long)
    mask[0, ..., length - 3 :] = 0
    mask[1, ..., :2] = 0
    batch = {
        "input_ids": integers(49, *choices, length) + 1,
        "attention_mask": mask,
        "token_type_ids": integers(2, *choices, length),
    }
    words = integers(50, rows, length).masked_fill(integers(3, rows, length) > 0, -100)
    labels = {
        "NezhaModel": {},
        "NezhaForPreTraining": {"labels": words, "next_sentence_label": integers(2, rows)},
        "NezhaForMaskedLM": {"labels": words},
        "NezhaForTokenClassification": {"labels": words.clamp(max=1)},
        "NezhaForQuestionAnswering": {
            "start_positions": integers(length, rows),
            "end_positions": integers(length, rows),
        },
        "NezhaForMultipleChoice": {"labels": integers(3, rows)},
    }
    return batch | labels.get(head, {"labels": integers(2, rows)})


@pytest.mark.parametrize("length", [9, 65, 100])
@pytest.mark.parametrize("head", HEADS)
def test_eager_and_sdpa_agree(head: str, length: int) -> None:
    """In float32; also in the texts that are padding only."""
    model, batch = tiny_model(head), tiny_batch(head, length=length)
    batch["attention_mask"][2] = 0
    results = []
    for attention in ("eager", "sdpa"):
        model.set_attn_implementation(attention)
        with torch.no_grad():
            results.append(model(**batch).to_tuple())
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_other_attention_is_refused(attention: str) -> None:
    with pytest.raises(ValueError, match=r"does not support|not support"):
        AutoModel.from_config(tiny_config(), attn_implementation=attention)


def test_attention_registered_by_somebody_is_refused() -> None:
    """Its mask and its kernel know nothing of relative positions: a wrong result instead of an error."""
    from transformers import AttentionInterface

    AttentionInterface.register("nobodys_attention", lambda *_, **__: None)
    model = tiny_model("NezhaModel")
    model.config._attn_implementation_internal = "nobodys_attention"
    with pytest.raises((ValueError, KeyError), match="nobodys_attention"):
        model(**tiny_batch("NezhaModel"))


@pytest.mark.parametrize("length", [9, 100])
def test_attentions_are_probabilities(length: int) -> None:
    model, batch = tiny_model("NezhaModel"), tiny_batch("NezhaModel", length=length)
    model.set_attn_implementation("eager")
    attentions = model(**batch, output_attentions=True).attentions
    assert len(attentions) == 2 and attentions[0].shape == (6, 2, length, length)
    torch.testing.assert_close(attentions[1].sum(-1), torch.ones(6, 2, length))
    assert attentions[0][0, ..., length - 3 :].max() == 0


@pytest.mark.parametrize("length", [9, 100])
def test_sdpa_gives_no_probabilities_at_any_length(length: int) -> None:
    model, batch = tiny_model("NezhaModel"), tiny_batch("NezhaModel", length=length)
    model.set_attn_implementation("sdpa")
    assert not model(**batch, output_attentions=True).attentions


def test_positions_are_relative() -> None:
    """The same text with padding before it gives the same states; and the order of words matters."""
    model = tiny_model("NezhaModel")
    ids = torch.arange(1, 8)[None]
    states = model(input_ids=ids).last_hidden_state
    moved = torch.cat((torch.zeros(1, 5, dtype=torch.long), ids), 1)
    again = model(input_ids=moved, attention_mask=(moved > 0).long()).last_hidden_state[:, 5:]
    torch.testing.assert_close(again, states, rtol=0, atol=1e-6)
    assert (model(input_ids=ids.flip(1)).last_hidden_state.flip(1) - states).abs().max() > 1e-3


def test_longer_than_max_position_embeddings() -> None:
    """What a model computes that was trained with longer texts."""
    model, longer = tiny_model("NezhaModel"), tiny_model("NezhaModel", max_position_embeddings=256)
    batch = tiny_batch("NezhaModel", length=200)
    longer.load_state_dict(model.state_dict())
    assert torch.equal(model(**batch).last_hidden_state, longer(**batch).last_hidden_state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_table_comes_back_after_loading(dtype: torch.dtype, tmp_path: Path) -> None:
    """It is not in the file, and the model is made on the meta device, whose buffers have no values."""
    tiny_model("NezhaForMaskedLM").save_pretrained(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, dtype=dtype)
    table = model.nezha.encoder.relative_positions.table
    assert torch.equal(table.to(dtype), sinusoid_table(64, 8).to(dtype))
    assert model(input_ids=torch.ones(1, 70, dtype=torch.long)).logits.dtype == dtype
    assert not any("relative" in name for name in model.state_dict())


@pytest.mark.parametrize(
    "change",
    [lambda model: model.half().float(), lambda model: model.to("meta").to_empty(device="cpu")],
    ids=["half_and_back", "meta_and_back"],
)
def test_the_table_is_exact_after_every_move(change) -> None:
    model, batch = tiny_model("NezhaModel"), tiny_batch("NezhaModel")
    weights, expected = copy.deepcopy(model.state_dict()), model(**batch).last_hidden_state
    model = change(model)
    model.load_state_dict(weights)
    assert torch.equal(model.encoder.relative_positions.table, sinusoid_table(64, 8))
    assert torch.equal(model(**batch).last_hidden_state, expected)


@pytest.mark.parametrize("head", [head for head in HEADS if head not in ("NezhaModel", "NezhaForQuestionAnswering")])
def test_accumulated_micro_batches_equal_one_batch(head: str) -> None:
    """The sum over unequal micro-batches of sum / num_items_in_batch is the whole batch's mean, gradients too.

    For pre-training only the MLM part is compared: the other is weighted by each micro-batch's share of masked words.
    """
    batch = tiny_batch(head)
    batch.pop("next_sentence_label", None)
    model = tiny_model(head).double()
    whole = model(**batch).loss
    whole.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    items, total = batch["labels"].ne(-100).sum(), 0.0
    for part in (slice(0, 1), slice(1, 3), slice(3, 6)):
        loss = model(**{name: value[part] for name, value in batch.items()}, num_items_in_batch=items).loss
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-12)
    for name, gradient in expected.items():
        torch.testing.assert_close(dict(model.named_parameters())[name].grad, gradient, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("head", HEADS[1:])
def test_heads_compute_as_woberts_do(head: str) -> None:
    """With attention switched off (no relative positions can tell them apart) both networks are BERT's."""
    ours = tiny_model(head, max_position_embeddings=16)
    bert = getattr(kexue_hf, head.replace("Nezha", "WoBert"))(
        kexue_hf.WoBertConfig(**{key: getattr(ours.config, key) for key in (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
            "classifier_dropout",
        )})
    ).eval()  # fmt: skip
    weights = {name.replace("nezha.", "bert.", 1): value for name, value in ours.state_dict().items()}
    for name in weights:
        if "attention.output.dense" in name:
            weights[name] = torch.zeros_like(weights[name])
    bert.load_state_dict(weights, strict=False)
    torch.nn.init.zeros_(bert.bert.embeddings.position_embeddings.weight)
    ours.load_state_dict({name.replace("bert.", "nezha.", 1): value for name, value in weights.items()})
    batch = tiny_batch(head)
    one, other = ours(**batch), bert(**batch)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name])


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
@pytest.mark.parametrize("head", ["NezhaForSequenceClassification", "NezhaForMultipleChoice"])
def test_a_classifier_reads_what_the_configuration_says(head: str, pooling: str, tmp_path: Path) -> None:
    model, batch = tiny_model(head, classifier_pooling=pooling), tiny_batch(head)
    flat = {name: batch[name].flatten(0, -2) for name in ("input_ids", "attention_mask", "token_type_ids")}
    outputs = model.nezha(**flat)
    real = flat["attention_mask"][..., None]
    text = {
        "pooler": outputs.pooler_output,
        "cls": outputs.last_hidden_state[:, 0],
        "mean": (outputs.last_hidden_state * real).sum(1) / real.sum(1),
    }[pooling]
    torch.testing.assert_close(model(**batch).logits, model.classifier(text).view_as(model(**batch).logits))
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["add_pooling_layer"] is (pooling == "pooler") and saved["classifier_pooling"] == pooling


def test_a_repository_of_transformers_4_loads(tmp_path: Path) -> None:
    """Its configuration knows nothing of ours, its file is a pickle and holds a constant for every layer."""
    model = tiny_model("NezhaForMaskedLM", vocab_size=11)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for layer in range(2):
        key = f"nezha.encoder.layer.{layer}.attention.self.relative_positions_encoding.positions_encoding"
        weights[key] = torch.zeros(32, 32, 8)
    torch.save(weights, tmp_path / "pytorch_model.bin")
    fields = {key: value for key, value in model.config.to_dict().items() if key in (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "max_position_embeddings", "max_relative_position", "type_vocab_size", "layer_norm_eps", "pad_token_id",
    )}  # fmt: skip
    fields |= {"model_type": "nezha", "architectures": ["NezhaForMaskedLM"], "use_relative_position": True}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "好", "，", "a", "##b"]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    loaded, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is kexue_hf.NezhaForMaskedLM
    assert not info["missing_keys"] and not info["unexpected_keys"]
    batch = {"input_ids": torch.arange(1, 8)[None]}
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer).__name__ == "BertTokenizer"
    assert tokenizer("今天好ab")["input_ids"] == [2, 5, 6, 7, 9, 10, 3]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_exported_with_any_length(attention: str) -> None:
    model = tiny_model("NezhaForMaskedLM")
    model.set_attn_implementation(attention)
    batch = {name: tiny_batch("NezhaForMaskedLM")[name] for name in ("input_ids", "attention_mask")}
    dynamic = {name: dict.fromkeys((0, 1), torch.export.Dim.AUTO) for name in batch}
    exported = torch.export.export(model, (), batch, dynamic_shapes=dynamic, strict=False).module()
    for length in (9, 80):
        inputs = {name: tiny_batch("NezhaForMaskedLM", length=length)[name] for name in batch}
        torch.testing.assert_close(exported(**inputs).logits, model(**inputs).logits, rtol=1e-5, atol=1e-6)


def test_gradient_checkpointing_changes_nothing() -> None:
    batch, gradients = tiny_batch("NezhaForMaskedLM", length=70), []
    for checkpointing in (False, True):
        model = tiny_model("NezhaForMaskedLM", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
        model(**batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier_pooling": "max"}, "'pooler', 'cls' or 'mean'"),
        ({"max_relative_position": 0}, "at least 1"),
        ({"is_decoder": True}, "encoder only"),
        ({"hidden_size": 30, "num_attention_heads": 6}, "twice num_attention_heads"),
        ({"hidden_size": 18, "num_attention_heads": 4}, "twice num_attention_heads"),
    ],
    ids=["pooling", "distance", "decoder", "odd_head", "fraction"],
)
def test_what_does_not_fit_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model("NezhaModel", **changes)


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("NezhaForSequenceClassification", {"classifier_pooling": "max"}, "'pooler', 'cls' or 'mean'"),
        ("NezhaModel", {"max_relative_position": 0}, "at least 1"),
        ("NezhaModel", {"is_decoder": True}, "encoder only"),
        ("NezhaModel", {"add_cross_attention": True}, "encoder only"),
    ],
    ids=["pooling", "distance", "decoder", "cross_attention"],
)
def test_what_is_set_while_loading_is_checked(head: str, changes: dict, message: str, tmp_path: Path) -> None:
    tiny_model(head).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        getattr(kexue_hf, head).from_pretrained(tmp_path, **changes)


@pytest.mark.parametrize(
    "name", ["position_ids", "past_key_values", "encoder_hidden_states", "encoder_attention_mask"]
)
@pytest.mark.parametrize("head", ["NezhaModel", "NezhaForMaskedLM"])
def test_inputs_without_a_place_are_refused(head: str, name: str) -> None:
    model, ids = tiny_model(head), torch.arange(1, 6)[None]
    with pytest.raises(ValueError, match=f"NEZHA takes no {name}: "):
        model(input_ids=ids, **{name: ids})
    model(input_ids=ids, **{name: None})


@pytest.mark.parametrize("head", HEADS)
def test_no_inputs_are_refused(head: str) -> None:
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        tiny_model(head)(attention_mask=torch.ones(2, 3, 4))


def test_inputs_are_ids_or_vectors() -> None:
    model = tiny_model("NezhaModel")
    ids = torch.arange(1, 6)[None]
    vectors = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=vectors).pooler_output, model(input_ids=ids).pooler_output)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model(input_ids=ids, inputs_embeds=vectors)


def functions(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_copies_are_in_step_with_their_originals() -> None:
    """Files that travel to the Hub cannot import another model's: what is the same lies there twice."""
    ours, theirs = (functions(MODELS / name / f"modeling_{name}.py") for name in ("nezha", "wobert"))
    for name in ("masked_mean", "replace_decoder"):
        assert ours[name] == theirs[name]


def test_a_deep_copy_is_a_model() -> None:
    model, batch = tiny_model("NezhaForMaskedLM"), tiny_batch("NezhaForMaskedLM")
    assert torch.equal(copy.deepcopy(model)(**batch).logits, model(**batch).logits)
