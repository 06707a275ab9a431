"""How far the converted golden checkpoints' outputs are from the original code's: largest absolute difference.

    python benchmarks/parity.py

The golden cases (tests/golden) hold what bert4keras 0.10.5 on TensorFlow 1.15.5 computed.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from measuring import machine, write_result
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoModelForSequenceClassification

from kexue_hf.conversion.convert import convert

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden"
CASES = {
    "wobert_tf_ckpt": AutoModelForPreTraining,
    "wobert_mlm_only_tf_ckpt": AutoModelForMaskedLM,
    "wobert_keras_h5": AutoModelForSequenceClassification,
    "wonezha_tf_ckpt": AutoModelForPreTraining,
    "roformer_tf_ckpt": AutoModelForMaskedLM,
}
# transformers' RoFormer has no other attention than its own.
EAGER_ONLY = ("roformer_tf_ckpt",)
# Output of the model -> name in the golden outputs.
NAMES = {"prediction_logits": "mlm_logits", "seq_relationship_logits": "nsp_logits"}


def deviations(case: str, attention: str) -> dict[str, float]:
    """{output: largest absolute difference over all batches} of one case."""
    with tempfile.TemporaryDirectory() as folder:
        convert(GOLDEN / case, Path(folder) / "model")
        model = CASES[case].from_pretrained(Path(folder) / "model", attn_implementation=attention).eval()
    inputs, expected = np.load(GOLDEN / case / "inputs.npz"), np.load(GOLDEN / case / "outputs.npz")
    worst: dict[str, float] = {}
    for batch in sorted({name.split("_")[0] for name in inputs.files}):
        with torch.no_grad():
            output = model(
                input_ids=torch.from_numpy(inputs[f"{batch}_token_ids"]).long(),
                token_type_ids=torch.from_numpy(inputs[f"{batch}_segment_ids"]).long(),
                attention_mask=torch.from_numpy(inputs[f"{batch}_mask"]).long(),
                output_hidden_states=True,
            )
        logits = "class_logits" if case == "wobert_keras_h5" else "mlm_logits"
        found = {NAMES.get(name, logits): output[name] for name in (*NAMES, "logits") if name in output}
        found |= {f"hidden_{layer}": states for layer, states in enumerate(output.hidden_states)}
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
