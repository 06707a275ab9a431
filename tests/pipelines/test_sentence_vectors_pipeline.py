"""The pipeline `sentence-vectors`: registered, batched, and loaded from its saved folder without this package."""

from pathlib import Path

import numpy as np
import pytest
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from kexue_hf import sentence_vectors
from tests.fresh_process import run_elsewhere
from tests.pipelines.test_text_scoring import LONG, TEXTS, make

INPUTS = [*TEXTS, LONG]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    model, tokenizer = make("tta", tmp_path_factory.mktemp("vocabulary"))
    return model.base_model, tokenizer


def assert_same(found: list[np.ndarray], expected: np.ndarray) -> None:
    np.testing.assert_allclose(np.stack(found), expected, atol=1e-5)


def test_every_call_form_equals_the_function(pair) -> None:
    embed = pipeline("sentence-vectors", model=pair[0], tokenizer=pair[1])
    expected = sentence_vectors(*pair, INPUTS)
    assert expected.any(1).sum() > len(INPUTS) / 2
    assert embed(LONG).shape == expected[-1].shape
    assert_same([embed(text) for text in INPUTS], expected)
    assert_same(embed(INPUTS), expected)
    assert_same(embed(tuple(INPUTS), batch_size=3), expected)
    assert_same(list(embed((text for text in INPUTS), batch_size=len(INPUTS) - 1)), expected)
    assert_same(list(embed(KeyDataset([{"sentence": text} for text in INPUTS], "sentence"), batch_size=2)), expected)
    assert embed([]) == []


def test_options_can_be_set_in_the_pipeline_or_the_call(pair) -> None:
    embed = pipeline("sentence-vectors", model=pair[0], tokenizer=pair[1], normalize=True)
    assert np.linalg.norm(embed(LONG)) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(embed(LONG, normalize=False)) != pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match=r"takes the options .*got 'top_k'"):
        embed(LONG, top_k=3)
    np.testing.assert_allclose(embed(LONG, batch_tokens=1), embed(LONG), atol=1e-6)


@pytest.mark.parametrize("wrong", [{"text": "今天"}, [["a", "b"]], [{"text": "今天"}], 5, None, [None]], ids=repr)
def test_non_texts_are_refused(pair, wrong: object) -> None:
    embed = pipeline("sentence-vectors", model=pair[0], tokenizer=pair[1])
    with pytest.raises(ValueError, match="a text must be a string, got"):
        embed(wrong)


CODE = """
import sys
sys.modules["kexue_hf"] = None  # importing it raises ImportError
import numpy
from transformers import pipeline
embed = pipeline("sentence-vectors", model="saved", trust_remote_code=True)
assert type(embed).__module__.startswith("transformers_modules")
numpy.save("found.npy", numpy.stack(embed(INPUTS, batch_size=2)))
"""


def test_a_saved_pipeline_works_without_the_package(pair, tmp_path: Path) -> None:
    embed = pipeline("sentence-vectors", model=pair[0], tokenizer=pair[1])
    embed.save_pretrained(tmp_path / "saved")
    run_elsewhere(CODE.replace("INPUTS", repr(INPUTS)), tmp_path)
    assert_same(list(np.load(tmp_path / "found.npy")), sentence_vectors(*pair, INPUTS))
