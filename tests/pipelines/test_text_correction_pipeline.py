"""The pipeline `text-correction`: registered, streaming, and loaded from its saved folder without this package."""

import json
from pathlib import Path

import pytest
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from kexue_hf import Corrector
from kexue_hf.pipelines.text_correction_pipeline import TextCorrectionPipeline
from tests.fresh_process import run_elsewhere
from tests.pipelines.correction_models import LONG, TEXTS, make

INPUTS = [*TEXTS, LONG]


@pytest.fixture(scope="module", params=["tta", "bert"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return make(request.param, tmp_path_factory.mktemp("vocabulary"))


def assert_same(found: list[dict], expected: list[dict]) -> None:
    for name in ("text", "corrected"):
        assert [row[name] for row in found] == [row[name] for row in expected]
    for one, other in zip(found, expected, strict=True):
        for made, wanted in zip(one["corrections"], other["corrections"], strict=True):
            assert (made["start"], made["end"]) == (wanted["start"], wanted["end"])
            assert made["log_prob_original"] == pytest.approx(wanted["log_prob_original"], abs=1e-4)
            assert made["log_prob_replacement"] == pytest.approx(wanted["log_prob_replacement"], abs=1e-4)


def test_every_call_form_gives_the_same(pair) -> None:
    model, tokenizer = pair
    correct = pipeline("text-correction", model=model, tokenizer=tokenizer, threshold=0.5)
    assert type(correct) is TextCorrectionPipeline
    expected = [row.to_dict() for row in Corrector(model, tokenizer, threshold=0.5).correct(INPUTS)]
    assert sum(len(row["corrections"]) for row in expected) > 5
    assert_same([correct(text) for text in INPUTS], expected)
    assert_same(correct(INPUTS), expected)
    assert_same(correct(tuple(INPUTS), batch_size=3), expected)
    assert_same(list(correct((text for text in INPUTS), batch_size=len(INPUTS) - 1)), expected)
    rows = [{"sentence": text} for text in INPUTS]
    assert_same(list(correct(KeyDataset(rows, "sentence"), batch_size=2)), expected)
    assert correct([]) == []


def test_options_can_be_set_in_the_pipeline_or_the_call(pair) -> None:
    model, tokenizer = pair
    correct = pipeline("text-correction", model=model, tokenizer=tokenizer, threshold=1e9)
    assert correct(LONG)["corrections"] == []
    changed = correct(LONG, threshold=-1e9, shown=2)["corrections"]
    assert len(changed) > 20 and max(len(one["candidates"]) for one in changed) == 2
    assert correct(LONG)["corrections"] == []
    with pytest.raises(ValueError, match=r"takes the options candidates, threshold, .*got 'top_k'"):
        correct(LONG, top_k=3)


CODE = """
import json, sys
sys.modules["kexue_hf"] = None  # importing it raises ImportError
from transformers import pipeline
found = []
for source in SOURCES:
    correct = pipeline("text-correction", model=source, trust_remote_code=True)
    assert type(correct).__module__.startswith("transformers_modules")
    correct.save_pretrained(source + "_again")
    twice = pipeline("text-correction", model=source + "_again", trust_remote_code=True)
    found.append([correct(INPUTS, batch_size=2, threshold=0.5), twice(INPUTS, threshold=0.5)])
json.dump(found, open("found.json", "w"))
"""


def test_a_saved_pipeline_works_without_the_package(tmp_path: Path) -> None:
    expected = {}
    for kind in ("tta",):
        model, tokenizer = make(kind, tmp_path)
        correct = pipeline("text-correction", model=model, tokenizer=tokenizer)
        correct.save_pretrained(tmp_path / kind)
        expected[kind] = correct(INPUTS, threshold=0.5)
    run_elsewhere(CODE.replace("INPUTS", repr(INPUTS)).replace("SOURCES", repr(list(expected))), tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    for corrected, wanted in zip(found, expected.values(), strict=True):
        for once in corrected:
            assert_same(once, wanted)
