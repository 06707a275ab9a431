"""MatcherEvaluator: its figures against the probabilities of `match_texts`, its CSV file, its errors."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_hf import InputError, MatcherEvaluator, match_texts
from kexue_hf.corpora.matching_rows import MatchingRow
from kexue_hf.evaluation.matching import probability_figures
from tests.pipelines.matchers import NAMES, PAIRS, make

LOOSE, STRICT, LONG = NAMES


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory):
    """A matcher whose probabilities lie on both sides of one half for each task."""
    model, tokenizer = make("matcher", tmp_path_factory.mktemp("vocabulary"))
    with torch.no_grad():
        model.bert.task_embeddings.weight.mul_(0.1)
        values = torch.tensor([[one[STRICT], one[LONG]] for one in match_texts(model, tokenizer, PAIRS)])
        model.classifier.bias[1] -= values.logit().quantile(0.5)
    return model, tokenizer


@pytest.fixture(scope="module")
def rows(matcher) -> list[MatchingRow]:
    """Rows with the matcher's own judgements as labels. Tasks alternate, the greater id first."""
    made = []
    for (a, b), one in zip(PAIRS, match_texts(*matcher, PAIRS), strict=True):
        assert all(abs(one[task] - 0.5) > 1e-3 for task in (LONG, STRICT))  # so that rounding changes no label
        made += [MatchingRow(a, b, task, int(one[task] > 0.5)) for task in (LONG, STRICT)]
    for task in (LONG, STRICT):
        assert {row.label for row in made if row.task == task} == {0, 1}
    return made


def flipped(rows: list[MatchingRow]) -> list[MatchingRow]:
    return [MatchingRow(row.text_a, row.text_b, row.task, 1 - row.label) for row in rows]


def test_figures_use_the_rows_own_tasks(matcher, rows) -> None:
    """The rows do not have all of the matcher's tasks, nor the first ones."""
    evaluator = MatcherEvaluator((row for row in rows), matcher[1], batch_tokens=40)
    figures = evaluator(matcher[0])
    found = list(match_texts(*matcher, PAIRS))
    values = np.array([one[task] for one in found for task in (LONG, STRICT)])
    labels, tasks = np.array([row.label for row in rows]), np.array([2, 1] * len(PAIRS))
    expected = probability_figures(values, labels, tasks, NAMES)
    assert list(figures) == list(expected) and figures == pytest.approx(expected, abs=1e-5)
    assert figures[evaluator.primary_metric] == figures["f1"] and evaluator.greater_is_better


def test_figures_are_1_for_right_labels_and_low_for_flipped_labels(matcher, rows) -> None:
    right, wrong = (MatcherEvaluator(given, matcher[1])(matcher[0]) for given in (rows, flipped(rows)))
    for task in (STRICT, LONG):
        assert right[f"f1 of {task}"] == right[f"best f1 of {task}"] == right[f"average precision of {task}"] == 1
        assert wrong[f"f1 of {task}"] == 0 and wrong[f"best f1 of {task}"] < 1
        assert wrong[f"average precision of {task}"] < 0.8
    assert right["f1"] == right["average precision"] == 1
    assert wrong["f1"] == 0 and wrong["average precision"] < 0.8


def test_rows_may_be_dictionaries_without_a_single_task(tmp_path: Path) -> None:
    model, tokenizer = make("bert", tmp_path)
    given = [{"text_a": a, "text_b": b, "label": str(n % 2)} for n, (a, b) in enumerate(PAIRS)]
    named = [MatchingRow(a, b, "match", n % 2) for n, (a, b) in enumerate(PAIRS)]
    assert MatcherEvaluator(given, tokenizer, task_names=["match"])(model) == MatcherEvaluator(named, tokenizer)(model)


def test_every_call_appends_a_line_to_the_csv_file(matcher, rows, tmp_path: Path) -> None:
    evaluator = MatcherEvaluator(rows, matcher[1], name="valid")
    folder = tmp_path / "new" / "figures"
    first = evaluator(matcher[0], str(folder), 1, 20)
    assert first[evaluator.primary_metric] == first["valid_f1"]
    assert evaluator(matcher[0], output_path=folder, epoch=2) == first == evaluator(matcher[0])
    with open(folder / "MatcherEvaluator_valid_results.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [(line.pop("epoch"), line.pop("steps")) for line in lines] == [("1", "20"), ("2", "-1")]
    assert [{f"valid_{key}": float(value) for key, value in line.items()} for line in lines] == [first, first]
    other = MatcherEvaluator([row for row in rows if row.task == LONG], matcher[1], name="valid")
    with pytest.raises(OSError, match=r"valid_results\.csv has the columns of other tasks"):
        other(matcher[0], folder)
    with pytest.raises(OSError, match="cannot be written"):
        evaluator(matcher[0], folder / evaluator.csv_file)
    silent = MatcherEvaluator(rows, matcher[1], write_csv=False)
    silent(matcher[0], tmp_path / "none")
    assert silent.csv_file == "MatcherEvaluator_results.csv" and not (tmp_path / "none").exists()


GOOD = {"text_a": "好", "text_b": "不好", "task": LOOSE, "label": 1}


@pytest.mark.parametrize(("option", "value"), [("max_length", 5), ("batch_tokens", 0)])
def test_limits_are_checked_as_by_match_texts(matcher, option: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        MatcherEvaluator([GOOD], matcher[1], **{option: value})(matcher[0])


def test_progress_is_shown_on_request(matcher, capsys: pytest.CaptureFixture[str]) -> None:
    MatcherEvaluator([GOOD], matcher[1])(matcher[0])
    assert not capsys.readouterr().err
    MatcherEvaluator([GOOD], matcher[1], show_progress_bar=True)(matcher[0])
    assert "matching: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no rows to evaluate"),
        ([GOOD, {**GOOD, "label": 2}], "row 1: 'label' must be 0 or 1, got 2"),
        ([{**GOOD, "label": None}], "row 0: no label"),
        ([GOOD, {**GOOD, "text_b": " "}], "row 1: text_b is empty"),
        ([{**GOOD, "task": None}], "row 0: 'task' must be a name"),
        ([("好", "不好", 1)], "row 0: expected a JSON object, got tuple"),
        (
            [{"source": "好", "target": "不好", "task": LOOSE, "labelA": 1}],
            "row 0: no label: expected the column 'label'",
        ),
    ],
    ids=["none", "label", "unlabelled", "empty", "no-task", "tuple", "contest"],
)
def test_errors_name_the_row(matcher, given: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MatcherEvaluator(given, matcher[1])


def test_an_encoder_is_rejected(matcher, tmp_path: Path) -> None:
    model, _ = make("bert", tmp_path)
    evaluator = MatcherEvaluator([GOOD], matcher[1])
    with pytest.raises(ValueError, match=r"got BertModel, an encoder without a classifier$"):
        evaluator(model.bert)
    with pytest.raises(ValueError, match=r"^unknown task 'loose'; this model has 'match'$"):
        evaluator(model)


def test_errors_name_unknown_tasks(matcher) -> None:
    with pytest.raises(InputError, match=r"^task_names must be a list of names, got the string 'loose'"):
        MatcherEvaluator([GOOD], matcher[1], task_names=LOOSE)
    with pytest.raises(InputError, match="row 0: unknown task 'loose'; known are 'strict'"):
        MatcherEvaluator([GOOD], matcher[1], task_names=[STRICT])
    with pytest.raises(ValueError, match=r"^unknown task 'lose'; this model has 'loose'"):
        MatcherEvaluator([GOOD, {**GOOD, "task": "lose"}], matcher[1])(matcher[0])
