"""The pipeline `text-scoring`: registered, streaming, and loaded from its saved folder without this package."""

import json
from pathlib import Path

import pytest
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from kexue_hf.pipelines.text_scoring import score_texts
from tests.fresh_process import TRANSFORMERS, run_elsewhere, run_forked
from tests.pipelines.test_text_scoring import LONG, TEXTS, make

INPUTS = [*TEXTS, LONG]


@pytest.fixture(scope="module", params=["tta", "bert", "wobert"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return make(request.param, tmp_path_factory.mktemp("vocabulary"))


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert [row["text"] for row in found] == [row["text"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["log_prob"] == pytest.approx(other["log_prob"], abs=1e-4)
        assert one["num_windows"] == other["num_windows"]


def test_every_call_form_equals_the_function(pair) -> None:
    model, tokenizer = pair
    score = pipeline("text-scoring", model=model, tokenizer=tokenizer)
    expected = [row.to_dict() for row in score_texts(model, tokenizer, INPUTS)]
    assert_same([score(text) for text in INPUTS], expected)
    assert_same(score(INPUTS), expected)
    assert_same(score(tuple(INPUTS), batch_size=3), expected)
    assert_same(list(score((text for text in INPUTS), batch_size=len(INPUTS) - 1)), expected)
    rows = [{"sentence": text} for text in INPUTS]
    assert_same(list(score(KeyDataset(rows, "sentence"), batch_size=2)), expected)
    assert score([]) == []


def test_options_can_be_set_in_the_pipeline_or_the_call(pair) -> None:
    model, tokenizer = pair
    score = pipeline("text-scoring", model=model, tokenizer=tokenizer, tokens=False, include_specials=True)
    row = score(LONG)
    assert "tokens" not in row
    assert row["num_tokens"] == len(tokenizer(LONG)["input_ids"])
    assert score(LONG, include_specials=False, max_length=8, overlap=0)["num_windows"] > row["num_windows"]
    assert score(LONG, tokens=True)["tokens"][1]["start"] == 0
    with pytest.raises(ValueError, match=r"takes the options .*got 'top_k'"):
        score(LONG, top_k=3)


CODE = """
import json, sys
sys.modules["kexue_hf"] = None  # importing it raises ImportError
from transformers import pipeline
found = []
for source in SOURCES:
    score = pipeline("text-scoring", model=source, trust_remote_code=True)
    assert type(score).__module__.startswith("transformers_modules")
    score.save_pretrained(source + "_again")
    twice = pipeline("text-scoring", model=source + "_again", trust_remote_code=True)
    found.append([score(INPUTS, batch_size=2), twice(INPUTS)])
json.dump(found, open("found.json", "w"))
"""


def test_a_saved_pipeline_works_without_the_package(tmp_path: Path) -> None:
    expected = {}
    for kind in ("tta", "bert"):
        model, tokenizer = make(kind, tmp_path)
        score = pipeline("text-scoring", model=model, tokenizer=tokenizer)
        score.save_pretrained(tmp_path / kind)
        expected[kind] = score(INPUTS)
    run_elsewhere(CODE.replace("INPUTS", repr(INPUTS)).replace("SOURCES", repr(list(expected))), tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    for scores, wanted in zip(found, expected.values(), strict=True):
        for once in scores:
            assert_same(once, wanted)


def test_the_task_is_registered_once_also_after_transformers() -> None:
    code = """
import importlib, transformers.pipelines, kexue_hf
from transformers.pipelines import PIPELINE_REGISTRY
task = PIPELINE_REGISTRY.supported_tasks["text-scoring"]
assert task["impl"].__module__ == "kexue_hf.pipelines.text_scoring_pipeline", task
assert [cls.__name__ for cls in task["pt"]] == ["AutoModelForMaskedLM"]
importlib.reload(kexue_hf)
assert PIPELINE_REGISTRY.supported_tasks["text-scoring"] is task
"""
    assert "already registered" not in run_forked(TRANSFORMERS, code)
