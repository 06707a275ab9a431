"""The converted models against the outputs of the original code, and mistakes that the comparison notices.

Oracle: tests/golden, made by bert4keras 0.10.5 and the official T-TA code on TensorFlow 1.15.5. Padded positions are
compared as well. RoFormer is transformers' own model: see tests/conversion.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from torch import nn

from kexue_hf.models.cln_matcher.norm_cln_matcher import ClnMatcherLayerNorm
from tests.models.golden_cases import TOLERANCE, deviation, load, read_batches

Outputs = dict[str, torch.Tensor]


def bert_outputs(model: Any, inputs: Outputs) -> Outputs:
    """Of a head of WoBERT or NEZHA, named as in the golden outputs."""
    result = model(**inputs, output_hidden_states=True)
    found = {f"hidden_{layer}": states for layer, states in enumerate(result.hidden_states)}
    if "PreTraining" in type(model).__name__:
        scores = result.seq_relationship_logits
        pooled = model.base_model(**inputs).pooler_output
        found |= {"mlm_logits": result.prediction_logits, "nsp_logits": scores, "nsp_probs": scores.softmax(-1)}
        return found | {"pooled": pooled}
    if "MaskedLM" in type(model).__name__:
        return found | {"mlm_logits": result.logits}
    return found | {"class_logits": result.logits, "class_probs": result.logits.softmax(-1)}


def tta_outputs(model: Any, inputs: Outputs) -> Outputs:
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    queries, embedded, *_ = model.bert.embeddings(**inputs)
    result = model(**inputs, output_hidden_states=True)
    states = result.hidden_states
    assert torch.equal(states[0], queries)
    found = {"embedding_output": embedded, "query_embedding": queries, "lm_logits": result.logits}
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


def matcher_outputs(model: Any, inputs: Outputs) -> Outputs:
    """Under each of the six tasks, and under the mixed ones of the first batch."""
    batch = {name: value for name, value in inputs.items() if name != "mixed_task_ids"}
    found = {}
    if mixed := inputs.keys() - batch.keys():
        found["mixed_probs"] = model(**batch, task_ids=inputs[mixed.pop()]).logits.softmax(-1)
    for task in range(6):
        result = model.bert(**batch, task_ids=task, output_hidden_states=True)
        logits = model(**batch, task_ids=task).logits
        outputs = {
            "hidden_0": result.hidden_states[0],
            "sequence_output": result.last_hidden_state,
            "pooled": result.pooler_output,
            "logits": logits,
            "probs": logits.softmax(-1),
        }
        found |= {f"task{task}_{name}": value for name, value in outputs.items()}
    return found


def game_outputs(model: Any, inputs: Outputs) -> Outputs:
    """Of games, or of a history with each of several moves, which are scored by their four characters."""
    result = model(**inputs, output_hidden_states=True)
    probabilities = result.logits.softmax(-1)
    if "attention_mask" in inputs:
        states = result.hidden_states
        found = {"hidden_0": states[0], "hidden_2": states[2], "logits": result.logits}
        return found | {"next_token_probs": probabilities}
    moves = inputs["input_ids"][:, -4:, None]
    return {"move_scores": (probabilities[:, -5:-1].gather(-1, moves) + 1e-8).log().sum((1, 2))}


# Mistakes that any encoder can have.


def tanh_gelu(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "intermediate_act_fn"):
            module.intermediate_act_fn = nn.GELU(approximate="tanh")


def epsilon(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | ClnMatcherLayerNorm):
            module.eps = 1e-6


def swapped(model: Any) -> None:
    attention = model.base_model.encoder.layer[1].attention.self
    attention.query, attention.value = attention.value, attention.query


def transposed(model: Any) -> None:
    weight = model.base_model.encoder.layer[1].attention.output.dense.weight
    weight.copy_(weight.T.clone())


COMMON = (tanh_gelu, epsilon, swapped, transposed)

# Those of one model.


def clip_early(model: Any) -> None:
    # As a distance of 63 would do: the outermost rows are not used.
    table = model.nezha.encoder.relative_positions.table
    table[0], table[-1] = table[1].clone(), table[-2].clone()


def shift(model: Any) -> None:
    positions = model.nezha.encoder.relative_positions
    positions.table = positions.table.roll(1, 0)


def seen_by_itself(model: Any) -> None:
    model.config.mask_diagonal = False


def position_queries(model: Any) -> None:
    model.config.query_source = "position"


def mask_at_padding(model: Any) -> None:
    model.config.pad_token_id = model.config.mask_token_id


def keys_of_the_layer_before(model: Any) -> None:
    # As in BERT: a layer attends to the output of the layer before.
    for layer in model.bert.encoder.layer[1:]:
        layer.register_forward_pre_hook(lambda _, args: (args[0], args[0], *args[2:]))


def conditions(model: Any) -> list[ClnMatcherLayerNorm]:
    return [module for module in model.modules() if isinstance(module, ClnMatcherLayerNorm)]


def kernels_exchanged(model: Any) -> None:
    for norm in conditions(model):
        norm.weight_kernel, norm.bias_kernel = norm.bias_kernel, norm.weight_kernel


def one_norm_without_condition(model: Any) -> None:
    conditions(model)[3].weight_kernel.zero_()


def tasks_exchanged(model: Any) -> None:
    weight = model.bert.task_embeddings.weight
    weight.copy_(weight.flip(0).clone())


def halves_for_pairs(model: Any) -> None:
    # Rotation as in most later models: feature i with feature i + dim / 2.
    table = model.bert.rotations.table
    model.bert.rotations.table = torch.cat((table[..., ::2], table[..., ::2]), -1)


def turned_the_other_way(model: Any) -> None:
    model.bert.rotations.table[1].neg_()


def first_token(model: Any) -> None:
    model.bert.config.pooling = "cls"


def segments_left_out(model: Any) -> None:
    model.bert.embeddings.token_type_embeddings.weight.zero_()


def sees_what_follows(model: Any) -> None:
    model.config.is_decoder = False


def bias_left_out(model: Any) -> None:
    model.cls.predictions.bias.zero_()


class Case(NamedTuple):
    auto: str
    outputs: Callable[[Any, Outputs], Outputs]
    num_outputs: int
    mistakes: tuple[Callable[[Any], None], ...] = ()
    left_out: frozenset[str] = frozenset()
    """Outputs of the original that the converted model lacks."""


CASES = {
    "wobert_tf_ckpt": Case("AutoModelForPreTraining", bert_outputs, 32),
    "wobert_mlm_only_tf_ckpt": Case("AutoModelForMaskedLM", bert_outputs, 16),
    "wobert_keras_h5": Case("AutoModelForSequenceClassification", bert_outputs, 20),
    "wonezha_tf_ckpt": Case("AutoModelForPreTraining", bert_outputs, 35, (clip_early, shift)),
    "tta_tf_ckpt": Case(
        "AutoModelForMaskedLM",
        tta_outputs,
        54,
        (seen_by_itself, position_queries, mask_at_padding, keys_of_the_layer_before),
        frozenset({"pooled_output"}),
    ),
    "sohu_matcher_keras_h5": Case(
        "AutoModelForSequenceClassification",
        matcher_outputs,
        61,
        (
            kernels_exchanged,
            one_norm_without_condition,
            tasks_exchanged,
            halves_for_pairs,
            turned_the_other_way,
            first_token,
            segments_left_out,
        ),
    ),
    "cchess_lm_keras_h5": Case("AutoModelForCausalLM", game_outputs, 16, (sees_what_follows, bias_left_out)),
}


def largest_deviation(case: str, folder: Path, attention: str, mistake: Callable[[Any], None] | None = None) -> float:
    """Over all outputs of all batches; each expected output must be there."""
    model = load(getattr(transformers, CASES[case].auto), folder, attention)
    worst, compared = 0.0, 0
    with torch.no_grad():
        if mistake is not None:
            mistake(model)
        for inputs, expected in read_batches(case).values():
            found = CASES[case].outputs(model, inputs)
            assert set(found) == set(expected) - CASES[case].left_out
            worst = max(worst, *(deviation(value, expected[name]) for name, value in found.items()))
            compared += len(found)
    assert compared == CASES[case].num_outputs
    return worst


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_the_original_codes(case: str, attention: str, converted: Callable[[str], Path]) -> None:
    assert largest_deviation(case, converted(case), attention) < TOLERANCE


@pytest.mark.parametrize(
    ("case", "mistake"), [(name, mistake) for name, case in CASES.items() for mistake in COMMON + case.mistakes]
)
def test_the_comparison_can_fail(case: str, mistake: Callable[[Any], None], converted: Callable[[str], Path]) -> None:
    assert largest_deviation(case, converted(case), "eager", mistake) > TOLERANCE
