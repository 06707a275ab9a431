"""The converted matcher against the baseline's outputs, under each task, and mistakes that the comparison notices.

Oracle: tests/golden/sohu_matcher_keras_h5, made by bert4keras 0.10.5 on TensorFlow 1.15.5. Padded positions are
compared as well.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification
from transformers.activations import ACT2FN

from kexue_hf.conversion.convert import convert
from kexue_hf.models.cln_matcher.norm_cln_matcher import ClnMatcherLayerNorm

GOLDEN = Path(__file__).parents[2] / "golden" / "sohu_matcher_keras_h5"
TASKS = range(6)
# The reference is good to 1e-5 (against a recomputation in float64).
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory):
    """The converted folder, the batches by their prefix, the mixed tasks of the first, and the expected outputs."""
    folder = tmp_path_factory.mktemp("golden") / "matcher"
    convert(GOLDEN, folder)
    inputs, outputs = np.load(GOLDEN / "inputs.npz"), np.load(GOLDEN / "outputs.npz")
    names = {"input_ids": "token_ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}
    batches = {
        prefix: {ours: torch.from_numpy(inputs[f"{prefix}_{name}"]).long() for ours, name in names.items()}
        for prefix in ("b0", "b1")
    }
    return folder, batches, torch.from_numpy(inputs["b0_mixed_task_ids"]).long(), dict(outputs)


def load(folder: Path, attention: str):
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation=attention, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def outputs_of(model, batches, mixed) -> dict[str, torch.Tensor]:
    found = {"b0_mixed_probs": model(**batches["b0"], task_ids=mixed).logits.softmax(-1)}
    for prefix, batch in batches.items():
        for task in TASKS:
            result = model.bert(**batch, task_ids=task, output_hidden_states=True)
            logits = model(**batch, task_ids=task).logits
            outputs = {
                "hidden_0": result.hidden_states[0],
                "sequence_output": result.last_hidden_state,
                "pooled": result.pooler_output,
                "logits": logits,
                "probs": logits.softmax(-1),
            }
            found |= {f"{prefix}_task{task}_{name}": value for name, value in outputs.items()}
    return found


def largest_deviation(golden, attention: str, change=lambda model: None) -> float:
    folder, batches, mixed, expected = golden
    model = load(folder, attention)
    with torch.no_grad():
        change(model)
        found = outputs_of(model, batches, mixed)
    assert set(found) == set(expected) and len(found) == 61
    return max(float(np.abs(found[name].numpy() - expected[name]).max()) for name in expected)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_equal_the_original_codes(golden, attention: str) -> None:
    assert largest_deviation(golden, attention) < TOLERANCE


def test_a_mixed_batch_equals_its_texts_one_by_one(golden) -> None:
    """The original's outputs under six tasks hold every text under its own."""
    folder, batches, mixed, expected = golden
    with torch.no_grad():
        logits = load(folder, "sdpa")(**batches["b0"], task_ids=mixed).logits.numpy()
    for row, task in enumerate(mixed.flatten().tolist()):
        assert np.abs(logits[row] - expected[f"b0_task{task}_logits"][row]).max() < TOLERANCE


@pytest.mark.parametrize("task", TASKS)
def test_a_folded_task_equals_the_original(golden, task: int) -> None:
    folder, batches, _, expected = golden
    folded = load(folder, "eager").fold_task(task)
    with torch.no_grad():
        for prefix, batch in batches.items():
            assert np.abs(folded(**batch).logits.numpy() - expected[f"{prefix}_task{task}_logits"]).max() < TOLERANCE


def norms(model) -> list[ClnMatcherLayerNorm]:
    return [module for module in model.modules() if isinstance(module, ClnMatcherLayerNorm)]


def tanh_gelu(model) -> None:
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = ACT2FN["gelu_new"]


def epsilon(model) -> None:
    for norm in norms(model):
        norm.eps = 1e-6


def kernels_exchanged(model) -> None:
    for norm in norms(model):
        norm.weight_kernel, norm.bias_kernel = norm.bias_kernel, norm.weight_kernel


def one_norm_without_condition(model) -> None:
    norms(model)[3].weight_kernel.zero_()


def tasks_exchanged(model) -> None:
    weight = model.bert.task_embeddings.weight
    weight.copy_(weight.flip(0).clone())


def halves_for_pairs(model) -> None:
    # Rotation as in most later models: feature i with feature i + dim / 2.
    table = model.bert.rotations.table
    model.bert.rotations.table = torch.cat((table[..., ::2], table[..., ::2]), -1)


def turned_the_other_way(model) -> None:
    model.bert.rotations.table[1].neg_()


def transposed(model) -> None:
    weight = model.bert.encoder.layer[1].attention.output.dense.weight
    weight.copy_(weight.T.clone())


def first_token(model) -> None:
    model.bert.config.pooling = "cls"


def segments_left_out(model) -> None:
    model.bert.embeddings.token_type_embeddings.weight.zero_()


@pytest.mark.parametrize(
    "change",
    [
        tanh_gelu,
        epsilon,
        kernels_exchanged,
        one_norm_without_condition,
        tasks_exchanged,
        halves_for_pairs,
        turned_the_other_way,
        transposed,
        first_token,
        segments_left_out,
    ],
)
def test_the_parity_check_can_fail(golden, change) -> None:
    assert largest_deviation(golden, "eager", change) > TOLERANCE
