"""`Trainer` gives a loss and metrics for whatever labels its rows have, as for transformers' own models.

It requires each parameter of `forward` whose name contains "label", and gives nothing where one of them is absent.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EvalPrediction, Trainer, TrainingArguments

from tests.models.tiny_models import class_names, tiny_model

TOKENS = {"labels": [1, 2, 3, 4]}
ROWS: dict[str, dict[str, Any]] = {
    "CausalLM": TOKENS,
    "MaskedLM": TOKENS,
    "TokenClassification": {"labels": [0, 1, -100, 1]},
    "SequenceClassification": {"labels": 1},
    "MultipleChoice": {"labels": 1},
    "NextSentencePrediction": {"labels": 1},
    "QuestionAnswering": {"start_positions": 1, "end_positions": 2},
    "ForPreTraining": TOKENS,
}
HEADS = [(name, labels) for name in class_names() for kind, labels in ROWS.items() if kind in name]


def count_rows(found: EvalPrediction) -> dict[str, float]:
    labels = found.label_ids[0] if isinstance(found.label_ids, tuple) else found.label_ids
    return {"rows": len(np.atleast_1d(labels))}


def evaluate(name: str, labels: dict[str, Any], folder: Path, **options: Any) -> dict[str, float]:
    ids = torch.randint(5, 30, (3, 2, 4) if "MultipleChoice" in name else (3, 4)).tolist()
    rows = [{"input_ids": row, **labels} for row in ids]
    arguments = TrainingArguments(folder, report_to=[], use_cpu=True, disable_tqdm=True, **options)
    trainer = Trainer(
        tiny_model(name),
        arguments,
        eval_dataset=rows,
        compute_metrics=count_rows,
    )
    return trainer.evaluate()


@pytest.mark.parametrize(("name", "labels"), HEADS, ids=[name for name, _ in HEADS])
def test_evaluation_has_a_loss_and_metrics(name: str, labels: dict[str, Any], tmp_path: Path) -> None:
    figures = evaluate(name, labels, tmp_path)
    assert figures["eval_loss"] > 0
    assert figures["eval_rows"] == 3


@pytest.mark.parametrize("name", [name for name in class_names() if "ForPreTraining" in name])
class TestPreTraining:
    def test_both_labels(self, name: str, tmp_path: Path) -> None:
        figures = evaluate(name, {**TOKENS, "next_sentence_label": 0}, tmp_path)
        assert figures["eval_loss"] > evaluate(name, TOKENS, tmp_path)["eval_loss"] + 0.1

    def test_the_next_sentence_alone(self, name: str, tmp_path: Path) -> None:
        label_names = ["next_sentence_label"]
        figures = evaluate(name, {"next_sentence_label": 0}, tmp_path, label_names=label_names)
        assert 0.3 < figures["eval_loss"] < 1.5


@pytest.mark.parametrize("name", [name for name in class_names() if "SequenceClassification" in name])
class TestSeveralLabels:
    ROWS = torch.tensor([[1, 0], [1, 1]])

    def test_whole_numbers_need_a_problem_type(self, name: str) -> None:
        model = tiny_model(name, num_labels=2)
        ids = torch.full((2, 3), 7)
        with pytest.raises(ValueError, match=r"\[2, 2\], one for each class.*multi_label_classification"):
            model(ids, labels=self.ROWS)
        expected = tiny_model(name, num_labels=2)
        expected.load_state_dict(model.state_dict())
        model.config.problem_type = "multi_label_classification"
        torch.testing.assert_close(
            model(ids, labels=self.ROWS).loss, expected.eval()(ids, labels=self.ROWS.float()).loss
        )
