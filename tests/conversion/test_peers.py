"""TensorFlow and bert4keras load our exports, if an interpreter that has them is available.

    KEXUE_TF_PYTHON=/path/to/python pytest tests/conversion/test_peers.py

bert4keras is imported from that interpreter, or from the folder in KEXUE_BERT4KERAS (an unpacked source distribution).
Oracle: the outputs of bert4keras for the golden checkpoints.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.verify import verify
from tests.conversion.checkpoints import CONVERTED, GOLDEN
from tests.models.cln_matcher.matchers import randomize

PYTHON = os.environ.get("KEXUE_TF_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="KEXUE_TF_PYTHON names no interpreter with TensorFlow")

READ = """
import json, sys
import numpy as np, tensorflow as tf
ours, golden = (tf.train.load_checkpoint(path) for path in sys.argv[1:3])
names = golden.get_variable_to_shape_map()
assert ours.get_variable_to_shape_map() == names
assert ours.get_variable_to_dtype_map() == golden.get_variable_to_dtype_map()
assert all(np.array_equal(ours.get_tensor(name), golden.get_tensor(name)) for name in names)
assert tf.train.latest_checkpoint(sys.argv[1].rpartition("/")[0]) == sys.argv[1]
print(json.dumps(len(names)))
"""

# Like the official T-TA: one Saver restores a graph with all variables.
RESTORE = """
import json, sys
import numpy as np, tensorflow as tf
v1 = tf.compat.v1
golden = tf.train.load_checkpoint(sys.argv[2])
shapes = golden.get_variable_to_shape_map()
with tf.Graph().as_default(), v1.Session() as session:
    variables = {name: v1.get_variable(name, shape) for name, shape in shapes.items()}
    v1.train.Saver().restore(session, sys.argv[1])
    found = session.run(variables)
different = [name for name in found if not np.array_equal(found[name], golden.get_tensor(name))]
assert all(not found[name].any() for name in different)
print(json.dumps(sorted(different)))
"""

RUN = """
import json, os, sys
os.environ.update(TF_KERAS="1", TF_USE_LEGACY_KERAS="1")
if os.environ.get("KEXUE_BERT4KERAS"):
    sys.path.insert(0, os.environ["KEXUE_BERT4KERAS"])
import numpy as np
from bert4keras.backend import keras
from bert4keras.models import build_transformer_model
case, folder, weights, saved = sys.argv[1:5]
golden = sys.argv[5]
inputs, outputs = (np.load(f"{golden}/{name}.npz") for name in ("inputs", "outputs"))
heads, names = {
    "wobert_tf_ckpt": (dict(with_pool=True, with_nsp=True, with_mlm="linear"), ["nsp_probs", "mlm_logits"]),
    "wobert_mlm_only_tf_ckpt": (dict(with_mlm="linear"), ["mlm_logits"]),
    "wobert_keras_h5": ({}, ["class_probs"]),
    "wonezha_tf_ckpt": (
        dict(model="nezha", with_pool=True, with_nsp=True, with_mlm="linear"), ["nsp_probs", "mlm_logits"]
    ),
    "roformer_tf_ckpt": (dict(model="roformer", with_mlm="linear"), ["mlm_logits"]),
}[case]
import bert4keras.models
if heads.get("model", "bert") not in ("bert", "nezha") and not hasattr(bert4keras.models, "RoFormer"):
    print("null")
    raise SystemExit
checkpoint = weights if weights.endswith(".ckpt") else None
model = build_transformer_model(f"{folder}/bert_config.json", checkpoint, **heads)
if case == "wobert_keras_h5" and not checkpoint:
    state = keras.layers.Lambda(lambda x: x[:, 0])(model.output)
    model = keras.models.Model(model.inputs, keras.layers.Dense(5, activation="softmax")(state))
elif case == "wobert_keras_h5":
    names = ["hidden_2"]
if not checkpoint:
    model.load_weights(weights)
found = model.predict([inputs["b0_token_ids"], inputs["b0_segment_ids"]], verbose=0)
found = found if isinstance(found, list) else [found]
model.save_weights(saved)
print(json.dumps({n: float(abs(x - outputs["b0_" + n]).max()) for n, x in zip(names, found)}))
"""

# As the Sohu 2021 baseline builds it. A matcher of a BERT has another `model`.
MATCH = """
import json, os, sys
os.environ.update(TF_KERAS="1", TF_USE_LEGACY_KERAS="1")
if os.environ.get("KEXUE_BERT4KERAS"):
    sys.path.insert(0, os.environ["KEXUE_BERT4KERAS"])
import numpy as np
import bert4keras.models
from bert4keras.backend import keras
config, weights, saved, kind, batches, found = sys.argv[1:7]
if kind == "roformer" and not hasattr(bert4keras.models, "RoFormer"):
    print("null")
    raise SystemExit
layers = keras.layers
c_in = layers.Input(shape=(1,))
c = layers.Reshape((128,))(layers.Embedding(6, 128)(c_in))
model = bert4keras.models.build_transformer_model(
    config, model=kind, layer_norm_cond=c, additional_input_layers=c_in
)
output = layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(model.output))
model = keras.models.Model(model.inputs, output)
model.load_weights(weights)
given = np.load(batches)
probs = model.predict([given["ids"], given["segments"], given["tasks"]], verbose=0)
np.save(found, probs)
model.save_weights(saved)
print("0")
"""


def run(code: str, *arguments: object) -> str:
    done = subprocess.run([str(PYTHON), "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    if done.returncode and "No module named 'bert4keras'" in done.stderr:
        pytest.skip("bert4keras is not installed there")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("case", [case for case in CONVERTED if case.endswith("ckpt")])
def test_tensorflow_reads_our_checkpoint(case: str, tmp_path: Path) -> None:
    convert(GOLDEN / case, tmp_path / "folder")
    report = export(tmp_path / "folder", tmp_path / "back")
    assert json.loads(run(READ, report.checkpoint, GOLDEN / case / "bert_model.ckpt")) == report.mapped


def test_a_saver_restores_all_variables_of_the_official_tta(tmp_path: Path) -> None:
    convert(GOLDEN / "tta_tf_ckpt", tmp_path / "folder")
    report = export(tmp_path / "folder", tmp_path / "back")
    found = json.loads(run(RESTORE, report.checkpoint, GOLDEN / "tta_tf_ckpt" / "model.ckpt"))
    assert found == ["bert/pooler/dense/bias", "bert/pooler/dense/kernel"]


@pytest.mark.parametrize("to", ["tf", "keras"])
@pytest.mark.parametrize("case", CONVERTED)
def test_bert4keras_computes_the_golden_outputs_with_our_files(case: str, to: str, tmp_path: Path) -> None:
    convert(GOLDEN / case, tmp_path / "folder")
    report = export(tmp_path / "folder", tmp_path / "back", to)
    saved = tmp_path / "saved.h5"
    errors = json.loads(run(RUN, case, tmp_path / "back", report.checkpoint, saved, GOLDEN / case))
    if errors is None:
        pytest.skip("this bert4keras is older than RoFormer")
    assert errors and max(errors.values()) < 5e-5
    if case != "wobert_keras_h5" or to == "keras":  # the files of this bert4keras are read back
        options = {
            name: GOLDEN / case / file for name, file in (("config", "bert_config.json"), ("vocab", "vocab.txt"))
        }
        assert verify(tmp_path / "folder", saved, **options).differences == []


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_bert4keras_runs_our_matcher(positions: str, tmp_path: Path) -> None:
    golden, folder = GOLDEN / "sohu_matcher_keras_h5", tmp_path / "folder"
    convert(golden, folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    if positions == "absolute":
        config = type(model.config)(**{**model.config.to_dict(), "position_embedding_type": positions})
        model = randomize(type(model)(config).eval())
        model.save_pretrained(folder)
    report = export(folder, tmp_path / "back", "keras")
    inputs = np.load(golden / "inputs.npz")
    given = {name: inputs[f"b0_{theirs}"] for name, theirs in (("ids", "token_ids"), ("segments", "segment_ids"))}
    np.savez(tmp_path / "batch.npz", **given, tasks=inputs["b0_mixed_task_ids"])
    kind = "roformer" if positions == "rotary" else "bert"
    config, saved, found = tmp_path / "back" / "bert_config.json", tmp_path / "saved.h5", tmp_path / "found.npy"
    if json.loads(run(MATCH, config, report.checkpoint, saved, kind, tmp_path / "batch.npz", found)) is None:
        pytest.skip("this bert4keras is older than RoFormer")
    names = {"input_ids": "token_ids", "attention_mask": "mask", "token_type_ids": "segment_ids"}
    batch = {ours: torch.from_numpy(inputs[f"b0_{theirs}"]).long() for ours, theirs in names.items()}
    with torch.no_grad():
        expected = model(**batch, task_ids=inputs["b0_mixed_task_ids"]).logits.softmax(-1).numpy()
    assert abs(np.load(found) - expected).max() < 5e-5
    # The files of this bert4keras are read back.
    options = {
        name: tmp_path / "back" / file for name, file in (("config", "bert_config.json"), ("vocab", "vocab.txt"))
    }
    assert verify(folder, saved, **options).differences == []
