"""The converted T-TA against the official code's outputs, at padding too, and mistakes that the comparison notices.

Oracle: tests/golden/tta_tf_ckpt, made by the official code on TensorFlow 1.15.5.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM
from transformers.activations import ACT2FN

from kexue_hf.conversion.convert import convert

GOLDEN = Path(__file__).parents[2] / "golden" / "tta_tf_ckpt"
# The reference is good to 1e-5 (against a recomputation in float64).
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory):
    """The converted folder, and [(ids, mask, expected outputs)] of all batches."""
    folder = tmp_path_factory.mktemp("golden") / "tta"
    convert(GOLDEN, folder)
    inputs, outputs = np.load(GOLDEN / "inputs.npz"), np.load(GOLDEN / "outputs.npz")
    batches = []
    for prefix in sorted({name.split("_")[0] + "_" for name in inputs.files}):
        ids, mask = (torch.from_numpy(inputs[prefix + name]).long() for name in ("input_ids", "input_mask"))
        expected = {name[len(prefix) :]: outputs[name] for name in outputs.files if name.startswith(prefix)}
        # Of the pooler, which the conversion leaves behind.
        del expected["pooled_output"]
        batches.append((ids, mask, expected))
    assert len(batches) == 5
    return folder, batches


def outputs_of(model, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    queries, inputs, *_ = model.bert.embeddings(input_ids=ids, attention_mask=mask)
    result = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    states = result.hidden_states
    assert torch.equal(states[0], queries)
    found = {"embedding_output": inputs, "query_embedding": queries, "lm_logits": result.logits}
    found |= {f"layer_{layer}": output for layer, output in enumerate(states[1:])}
    found["lm_log_probs"] = result.logits.log_softmax(-1)
    scores = found["lm_log_probs"].gather(-1, ids[..., None])[..., 0] * mask
    inner = mask.clone()
    inner[:, 0] = 0
    inner[torch.arange(len(ids)), mask.sum(1) - 1] = 0
    if inner.any(1).all():
        found["sentence_mean"] = (states[-1] * inner[..., None]).sum(1) / inner.sum(1, keepdim=True)
    # The original's loss averages padding in, which counts as 0; ours does not.
    return found | {"token_scores": scores, "sentence_scores": scores.sum(1), "loss": -scores.mean()}


def largest_deviation(golden, attention: str, change=lambda model: None) -> float:
    folder, batches = golden
    model, info = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation=attention, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    model.eval()
    worst = 0.0
    with torch.no_grad():
        change(model)
        for ids, mask, expected in batches:
            found = outputs_of(model, ids, mask)
            assert set(found) == set(expected)
            worst = max(worst, *(float(np.abs(found[name].numpy() - expected[name]).max()) for name in expected))
    return worst


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_outputs_equal_the_original_codes(golden, attention: str) -> None:
    assert largest_deviation(golden, attention) < TOLERANCE


def tanh_gelu(model) -> None:
    for layer in model.bert.encoder.layer:
        layer.intermediate.intermediate_act_fn = ACT2FN["gelu_new"]


def epsilon(model) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6


def swapped(model) -> None:
    attention = model.bert.encoder.layer[1].attention.self
    attention.key, attention.value = attention.value, attention.key


def transposed(model) -> None:
    weight = model.cls.predictions.transform.dense.weight
    weight.copy_(weight.T.clone())


def seen_by_itself(model) -> None:
    model.config.mask_diagonal = False


def position_queries(model) -> None:
    model.config.query_source = "position"


def mask_at_padding(model) -> None:
    model.config.pad_token_id = model.config.mask_token_id


def keys_of_the_layer_before(model) -> None:
    # As in BERT: what a layer attends to is what the layer before has made.
    for layer in model.bert.encoder.layer[1:]:
        layer.register_forward_pre_hook(lambda _, args: (args[0], args[0], *args[2:]))


@pytest.mark.parametrize(
    "change",
    [
        tanh_gelu,
        epsilon,
        swapped,
        transposed,
        seen_by_itself,
        position_queries,
        mask_at_padding,
        keys_of_the_layer_before,
    ],
)
def test_the_parity_check_can_fail(golden, change) -> None:
    assert largest_deviation(golden, "eager", change) > TOLERANCE
