"""Every registered model, tokenizer and pipeline is pushed to a Hub and pulled again, with this package and without.

Of each model type the base model and one with a head; `test_hub_copy` loads every class from a folder. Oracle: outputs
and encodings of the local folder in this process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import transformers

from kexue_hf.cli.main import main
from kexue_hf.integrations.auto_classes import MODEL_TYPES, TASKS
from tests.fresh_process import ROOT
from tests.hub.hub_types import TYPES, WORD_TEXTS
from tests.hub.loading import encodings, model_outputs
from tests.hub.loopback_hub import OWNER, TOKEN, LoopbackHub
from tests.hub.pulling import pulled
from tests.hub.test_hub_copy import save_models
from tests.pipelines.correction_models import TEXTS, make

# The model type and the class that each pipeline is saved with, its inputs and its options.
PIPELINES: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "sentence-vectors": ("wobert", "AutoModel", WORD_TEXTS[:1], {}),
    "text-scoring": ("wobert", "AutoModelForMaskedLM", WORD_TEXTS[:1], {}),
    # This one needs a vocabulary with characters that sound alike.
    "text-correction": ("", "", TEXTS[:2], {"threshold": -1e9}),
    "text-matching": ("cln_matcher", "AutoModelForSequenceClassification", [["今天", "好天"]], {}),
}


class Pushed(NamedTuple):
    plan: list[dict[str, Any]]
    outputs: dict[str, np.ndarray]
    encoded: dict[str, Any]


def kexue(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    assert not stop.value.code


def push(folder: Path, repository: str) -> None:
    kexue("card", folder, "--license", "mit")
    kexue("push", folder, repository, "--no-load")


@pytest.fixture(scope="module")
def pushed(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    root = tmp_path_factory.mktemp("pushed")
    plan, outputs, encoded, folders = [], {}, {}, {}
    for model_type in MODEL_TYPES:
        kind = TYPES[model_type]
        saved = save_models(model_type, root / model_type)
        folders |= {(model_type, auto): folder for auto, folder in saved}
        base, head = next(pair for pair in saved if pair[0] == "AutoModel"), saved[-1]
        for auto, folder in dict.fromkeys((base, head)):
            repository = f"{OWNER}/{model_type}-{folder.name}"
            push(folder, repository)
            plan.append({"repository": repository, "auto": auto, "texts": kind.texts})
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            model = getattr(transformers, auto).from_pretrained(folder)
            encoded[repository] = encodings(tokenizer, kind.texts)
            for place, output in enumerate(model_outputs(model, tokenizer, kind.texts)):
                outputs[f"{repository} {place}"] = output
    for task, (model_type, auto, inputs, options) in PIPELINES.items():
        repository = f"{OWNER}/{task}"
        if model_type:
            pipe = transformers.pipeline(task, model=str(folders[model_type, auto]))
        else:
            model, tokenizer = make("tta", root)
            pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer)
        pipe.save_pretrained(root / task)
        push(root / task, repository)
        plan.append({"repository": repository, "task": task, "inputs": inputs, "options": options})
        encoded[repository] = json.loads(json.dumps(pipe(inputs, **options), default=np.ndarray.tolist))
    return Pushed(plan, outputs, encoded)


@pytest.fixture(scope="module")
def without_package(hub: LoopbackHub, pushed: Pushed, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """What one fresh process, directed to the Hub by its environment alone, gets for the whole plan."""
    place = tmp_path_factory.mktemp("pulled")
    (place / "plan.json").write_text(json.dumps(pushed.plan))
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.address, "HF_TOKEN": TOKEN, "HF_HOME": str(place / "home")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_MODULES_CACHE": str(place / "modules")}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.hub.pulling import main; main()", place / "plan.json", place],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return Pushed(pushed.plan, dict(np.load(place / "outputs.npz")), json.loads((place / "encoded.json").read_text()))


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys() and found
    for name, output in expected.items():
        np.testing.assert_allclose(found[name], output, rtol=1e-5, atol=1e-5, err_msg=name)


def test_every_type_and_task_is_in_the_plan(pushed: Pushed) -> None:
    assert set(PIPELINES) == set(TASKS) == {entry["task"] for entry in pushed.plan if "task" in entry}
    types = {entry["repository"].split("/")[1].split("-")[0] for entry in pushed.plan if "auto" in entry}
    assert types == set(MODEL_TYPES)


def test_each_push_is_one_commit(hub: LoopbackHub, pushed: Pushed) -> None:
    for entry in pushed.plan:
        assert hub.commits(entry["repository"]) == ["Upload model"]
        files = hub.files(entry["repository"])
        assert {"config.json", "README.md", "tokenizer_config.json", "model.safetensors"} <= files.keys()


def only(model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name.startswith(f"{OWNER}/{model_type}-")}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_pulled_without_the_package(model_type: str, pushed: Pushed, without_package: Pushed) -> None:
    assert_same(only(model_type, without_package.outputs), only(model_type, pushed.outputs))
    assert only(model_type, without_package.encoded) == only(model_type, pushed.encoded)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_pulled_with_the_package(model_type: str, hub: LoopbackHub, pushed: Pushed) -> None:
    plan = [entry for entry in pushed.plan if entry["repository"].startswith(f"{OWNER}/{model_type}-")]
    outputs, encoded = pulled([entry for entry in plan if "auto" in entry], with_package=True)
    assert_same(outputs, only(model_type, pushed.outputs))
    assert encoded == only(model_type, pushed.encoded)


def parts(value: Any) -> tuple[list[float], list[str]]:
    """The numbers of an output, and all else: names, texts, lengths of lists."""
    if isinstance(value, (int, float)):
        return [float(value)], [type(value).__name__]
    if not isinstance(value, (dict, list)):
        return [], [repr(value)]
    items = sorted(value.items()) if isinstance(value, dict) else list(enumerate(value))
    numbers, others = [], [f"{type(value).__name__} of {len(value)}"]
    for name, item in items:
        found = parts(item)
        numbers += found[0]
        others += [repr(name), *found[1]]
    return numbers, others


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("mode", ["with", "without"])
def test_pulled_pipelines(mode: str, task: str, hub: LoopbackHub, pushed: Pushed, without_package: Pushed) -> None:
    repository = f"{OWNER}/{task}"
    if mode == "with":
        found = pulled([entry for entry in pushed.plan if entry.get("task") == task], with_package=True)[1]
    else:
        found = without_package.encoded
    numbers, others = parts(found[repository])
    expected_numbers, expected_others = parts(pushed.encoded[repository])
    assert expected_numbers and others == expected_others
    np.testing.assert_allclose(numbers, expected_numbers, rtol=1e-5, atol=1e-5)
