"""Measure the largest absolute difference between converted golden checkpoints and the original code.

    python benchmarks/parity.py

The golden cases (tests/golden) hold outputs of bert4keras 0.10.5 on TensorFlow 1.15.5; the T-TA's are from its
official code, and include padded positions. The matcher is compared for each task, and with a different task for each
text of a batch.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import machine, write_result
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from kexue_hf.conversion.convert import convert

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
CASES = {
    "wobert_tf_ckpt": AutoModelForPreTraining,
    "wobert_mlm_only_tf_ckpt": AutoModelForMaskedLM,
    "wobert_keras_h5": AutoModelForSequenceClassification,
    "wonezha_tf_ckpt": AutoModelForPreTraining,
    "roformer_tf_ckpt": AutoModelForMaskedLM,
    "tta_tf_ckpt": AutoModelForMaskedLM,
    "sohu_matcher_keras_h5": AutoModelForSequenceClassification,
    "cchess_lm_keras_h5": AutoModelForCausalLM,
}
# transformers' RoFormer only has its own attention.
EAGER_ONLY = ("roformer_tf_ckpt",)
# Output of the model -> name in the golden outputs
NAMES = {"prediction_logits": "mlm_logits", "seq_relationship_logits": "nsp_logits"}


def bert_outputs(model: PreTrainedModel, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return hidden states and scores of a BERT, NEZHA or RoFormer, by their names in the golden outputs."""
    output = model(
        input_ids=given["token_ids"],
        token_type_ids=given["segment_ids"],
        attention_mask=given["mask"],
        output_hidden_states=True,
    )
    logits = "class_logits" if type(model).__name__.endswith("ForSequenceClassification") else "mlm_logits"
    found = {NAMES.get(name, logits): output[name] for name in (*NAMES, "logits") if name in output}
    return found | {f"hidden_{layer}": states for layer, states in enumerate(output.hidden_states)}


def tta_outputs(model: PreTrainedModel, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return both input streams, the states of every layer, and the scores of a T-TA."""
    ids, mask = given["input_ids"], given["input_mask"]
    queries, inputs, *_ = model.bert.embeddings(input_ids=ids, attention_mask=mask)
    output = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
    log_probs = output.logits.log_softmax(-1)
    scores = log_probs.gather(-1, ids[..., None])[..., 0] * mask
    return {
        "embedding_output": inputs,
        "query_embedding": queries,
        **{f"layer_{layer}": states for layer, states in enumerate(output.hidden_states[1:])},
        "lm_logits": output.logits,
        "lm_log_probs": log_probs,
        "token_scores": scores,
        "sentence_scores": scores.sum(1),
    }


def matcher_outputs(model: PreTrainedModel, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the matcher's outputs for each task and, if the case has one task per text, for these tasks."""
    batch = {
        "input_ids": given["token_ids"],
        "token_type_ids": given["segment_ids"],
        "attention_mask": given["mask"],
    }
    found = {}
    if "mixed_task_ids" in given:
        found["mixed_probs"] = model(**batch, task_ids=given["mixed_task_ids"]).logits.softmax(-1)
    for task in range(model.config.num_tasks):
        states = model.bert(**batch, task_ids=task, output_hidden_states=True)
        logits = model(**batch, task_ids=task).logits
        found |= {
            f"task{task}_hidden_0": states.hidden_states[0],
            f"task{task}_sequence_output": states.last_hidden_state,
            f"task{task}_pooled": states.pooler_output,
            f"task{task}_logits": logits,
            f"task{task}_probs": logits.softmax(-1),
        }
    return found


def game_outputs(model: PreTrainedModel, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return states and scores of games; or the scores of moves, the last four tokens, where there is no mask."""
    output = model(given["token_ids"], attention_mask=given.get("mask"), output_hidden_states=True)
    probabilities = output.logits.softmax(-1)
    if "mask" not in given:
        moves = probabilities[:, -5:-1].gather(-1, given["token_ids"][:, -4:, None])
        return {"move_scores": (moves + 1e-8).log().sum((1, 2))}
    return {
        "hidden_0": output.hidden_states[0],
        "hidden_2": output.hidden_states[2],
        "logits": output.logits,
        "next_token_probs": probabilities,
    }


OUTPUTS = {
    "tta_tf_ckpt": tta_outputs,
    "sohu_matcher_keras_h5": matcher_outputs,
    "cchess_lm_keras_h5": game_outputs,
}


def deviations(case: str, attention: str) -> dict[str, float]:
    """Return {output: largest absolute difference over all batches} of one case."""
    with tempfile.TemporaryDirectory() as folder:
        convert(GOLDEN / case, Path(folder) / "model")
        model = CASES[case].from_pretrained(Path(folder) / "model", attn_implementation=attention).eval()
    inputs, expected = np.load(GOLDEN / case / "inputs.npz"), np.load(GOLDEN / case / "outputs.npz")
    worst: dict[str, float] = {}
    outputs_of = OUTPUTS.get(case, bert_outputs)
    for batch in sorted({name.split("_")[0] for name in inputs.files}):
        given = {
            name.partition("_")[2]: torch.from_numpy(inputs[name]).long()
            for name in inputs.files
            if name.startswith(f"{batch}_")
        }
        with torch.no_grad():
            found = outputs_of(model, given)
        for name, value in found.items():
            difference = float(np.abs(value.double().numpy() - expected[f"{batch}_{name}"]).max())
            worst[name] = max(worst.get(name, 0.0), difference)
    return worst


def main() -> None:
    cases = {}
    for case in CASES:
        for attention in ("eager",) if case in EAGER_ONLY else ("eager", "sdpa"):
            by_output = deviations(case, attention)
            cases[f"{case}, {attention}"] = {"largest": max(by_output.values()), "by output": by_output}
            print(f"{case:26} {attention:6} {max(by_output.values()):.1e}")
    write_result(
        "parity",
        {
            "what": "largest absolute difference from the original code's outputs (float32)",
            "tolerance": 5e-5,
            "machine": machine("torch", "transformers", "numpy"),
            "cases": cases,
        },
    )


if __name__ == "__main__":
    main()
