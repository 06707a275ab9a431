"""The pipeline `text-matching`: registered, batched, and loaded from its saved folder without this package."""

import json
from pathlib import Path

import pytest
from torch.utils.data import Dataset
from transformers import pipeline

from kexue_hf import match_texts
from tests.fresh_process import run_elsewhere
from tests.pipelines.matchers import NAMES, PAIRS, make
from tests.pipelines.test_text_matching import assert_same

DICTIONARIES = [{"text_a": a, "text_b": b} for a, b in PAIRS]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory):
    return make("matcher", tmp_path_factory.mktemp("vocabulary"))


class Rows(Dataset):
    def __len__(self) -> int:
        return len(DICTIONARIES)

    def __getitem__(self, number: int) -> dict[str, str]:
        return DICTIONARIES[number]


def test_every_call_form_equals_the_function(parts) -> None:
    match = pipeline("text-matching", model=parts[0], tokenizer=parts[1])
    expected = list(match_texts(*parts, PAIRS))
    assert_same([match(pair) for pair in PAIRS], expected)
    assert_same([match(list(PAIRS[0])), match(DICTIONARIES[1])], expected[:2])
    assert_same(match(PAIRS), expected)
    assert_same(match(tuple(PAIRS[:2]), batch_size=3), expected[:2])
    assert_same(match(DICTIONARIES, batch_size=3), expected)
    assert_same(list(match((pair for pair in PAIRS), batch_size=len(PAIRS) - 1)), expected)
    assert_same(list(match(Rows(), batch_size=2)), expected)
    assert match([]) == []


def test_options_can_be_set_in_the_pipeline_or_the_call(parts) -> None:
    match = pipeline("text-matching", model=parts[0], tokenizer=parts[1], tasks="strict", max_length=10)
    short = list(match_texts(*parts, PAIRS, max_length=10))
    assert_same(match(PAIRS), [{"strict": one["strict"]} for one in short])
    assert_same(match(PAIRS, task=[2, 0]), [{NAMES[2]: one[NAMES[2]], "loose": one["loose"]} for one in short])
    assert_same(match(PAIRS, tasks=None, max_length=None), list(match_texts(*parts, PAIRS)))
    own = pipeline("text-matching", model=parts[0], tokenizer=parts[1])
    assert list(own({**DICTIONARIES[0], "task": "loose"})) == ["loose"]


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (PAIRS[0], {"top_k": 3}, "takes the options task, tasks, max_length, .*got 'top_k'"),
        (PAIRS[0], {"task": "x"}, "unknown task 'x'; this model has 'loose', 'strict'"),
        (PAIRS[0], {"task": "loose", "tasks": "strict"}, "either task or tasks"),
        (
            {**DICTIONARIES[0], "task": 9},
            {},
            "from 0 to 2 for this model, got 9 .the task of '今天天气不错'",
        ),
        ("今天", {}, "a pair must be two texts or a dictionary with text_a and text_b, got '今天'"),
        (["今天"], {}, "a pair must be two texts"),
        ([PAIRS[0], ("a", " ")], {}, "pair 1: text_b is empty"),
        ([PAIRS[0], {**DICTIONARIES[0], "task": "x"}], {}, "pair 1: unknown task 'x'.* .the task of '今天天气不错'"),
        ({"text": "今天"}, {}, "got text without 'text_a'"),
    ],
    ids=["option", "task", "both", "own-task", "string", "one-text", "empty", "its-task", "other-fields"],
)
def test_invalid_input_is_refused(parts, inputs: object, options: dict, message: str) -> None:
    match = pipeline("text-matching", model=parts[0], tokenizer=parts[1])
    with pytest.raises(ValueError, match=message):
        match(inputs, **options)


def test_invalid_input_in_a_stream_is_refused_when_it_is_read(parts) -> None:
    match = pipeline("text-matching", model=parts[0], tokenizer=parts[1])
    stream = iter(match(pair for pair in [PAIRS[0], PAIRS[1], ("a", " ")]))
    assert set(next(stream)) == set(NAMES)
    with pytest.raises(ValueError, match="pair 2: text_b is empty"):
        list(stream)


CODE = """
import sys
sys.modules["kexue_hf"] = None  # importing it raises ImportError
import json, pathlib
from transformers import pipeline
match = pipeline("text-matching", model="saved", trust_remote_code=True)
assert type(match).__module__.startswith("transformers_modules")
assert type(match.model).__module__.startswith("transformers_modules")
json.dump(match(PAIRS, batch_size=2), open("found.json", "w"))
match.save_pretrained("again")
saved, again = ({file.name for file in pathlib.Path(folder).iterdir()} for folder in ("saved", "again"))
assert saved == again, saved ^ again
"""


def test_a_saved_pipeline_works_without_the_package(parts, tmp_path: Path) -> None:
    match = pipeline("text-matching", model=parts[0], tokenizer=parts[1])
    match.save_pretrained(tmp_path / "saved")
    run_elsewhere(CODE.replace("PAIRS", repr(PAIRS)), tmp_path)
    assert_same(json.loads((tmp_path / "found.json").read_text()), list(match_texts(*parts, PAIRS)))
