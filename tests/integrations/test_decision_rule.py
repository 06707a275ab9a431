"""A classifier predicts as its configuration says, in `pipeline` and after it was saved."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer, TrainingArguments, pipeline
from transformers.pipelines.text_classification import ClassificationFunction

from kexue_hf import InputError
from kexue_hf.losses import ClassPrior, DecisionRule
from kexue_hf.trainers.whole_checkpoints import AtomicCheckpointTrainer


def classifier(logits: list[float], **options: Any) -> BertForSequenceClassification:
    """Return a model whose logits are always the same."""
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
                        num_labels=len(logits), **options)  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor(logits))
    return model


def predict(model: BertForSequenceClassification, folder: Path, **options: Any) -> Any:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]) + "\n")
    model.save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    found = pipeline("text-classification", model=str(folder), device="cpu")("a", **options)
    return found if options else found[0]


def test_the_prior(tmp_path: Path) -> None:
    model = classifier([0.0, 0.5])
    ClassPrior((9, 1)).store(model.config)
    assert predict(model, tmp_path)["label"] == "LABEL_1"
    DecisionRule("prior_adjusted").store(model.config)
    found = predict(model, tmp_path)
    assert found["label"] == "LABEL_0"
    assert found["score"] == pytest.approx(0.9 / (0.9 + 0.1 * math.exp(0.5)))
    DecisionRule("argmax").store(model.config)
    assert predict(model, tmp_path)["label"] == "LABEL_1"


def test_the_strength_of_the_prior(tmp_path: Path) -> None:
    model = classifier([0.0, 0.5])
    ClassPrior((9, 1)).store(model.config)
    DecisionRule("prior_adjusted", tau=0.5).store(model.config)
    assert predict(model, tmp_path)["score"] == pytest.approx(3 / (3 + math.exp(0.5)))


def test_the_prior_of_one_logit(tmp_path: Path) -> None:
    """The logit of class 1 of two."""
    model = classifier([0.5])
    ClassPrior((9, 1)).store(model.config)
    DecisionRule("prior_adjusted", tau=0.5).store(model.config)
    assert predict(model, tmp_path)["score"] == pytest.approx(1 / (1 + 3 * math.exp(-0.5)))


def test_raw_logits_are_the_models(tmp_path: Path) -> None:
    model = classifier([0.0, 0.5])
    ClassPrior((9, 1)).store(model.config)
    DecisionRule("prior_adjusted").store(model.config)
    found = predict(model, tmp_path, function_to_apply="none")
    assert found[0] == {"label": "LABEL_1", "score": 0.5}
    # `postprocess` takes the function by its place too.
    made = pipeline("text-classification", model=str(tmp_path), device="cpu")
    outputs = made.forward(made.preprocess("a"))
    assert made.postprocess(outputs, ClassificationFunction.NONE)["score"] == 0.5
    assert made.postprocess(outputs, ClassificationFunction.SOFTMAX)["label"] == "LABEL_0"


def test_thresholds(tmp_path: Path) -> None:
    model = classifier([0.5, 0.0])
    DecisionRule("thresholds", thresholds=(0.7, 0.3)).store(model.config)
    # p = 0.62 and 0.38: the second exceeds its threshold by more.
    assert predict(model, tmp_path)["label"] == "LABEL_1"


def test_the_threshold_of_one_logit(tmp_path: Path) -> None:
    """sigmoid(0.5) = 0.62 is below 0.7: the score crosses 0.5 at the threshold."""
    model = classifier([0.5])
    DecisionRule("thresholds", thresholds=(0.7,)).store(model.config)
    assert predict(model, tmp_path)["score"] == pytest.approx(1 / (1 + math.exp(-0.5) * 7 / 3))


def test_thresholds_of_several_labels(tmp_path: Path) -> None:
    model = classifier([-1.0, 1.0], problem_type="multi_label_classification")
    DecisionRule("thresholds", thresholds=(0.2, 0.9)).store(model.config)
    found = {one["label"]: one["score"] for one in predict(model, tmp_path, top_k=None)}
    # sigmoid(-1) = 0.27 is above 0.2, sigmoid(1) = 0.73 below 0.9: scores cross 0.5 at the thresholds.
    assert found["LABEL_0"] > 0.5 > found["LABEL_1"]


@pytest.mark.parametrize(
    ("rule", "settings"),
    [
        (None, None),
        (DecisionRule(), None),
        (DecisionRule("prior_adjusted", tau=0.5), "(prior_adjusted, tau 0.5)"),
        (DecisionRule("thresholds", thresholds=(0.7, 0.3)), "(thresholds, thresholds [0.7, 0.3])"),
    ],
)
def test_the_card_names_the_rule(rule: DecisionRule | None, settings: str | None, tmp_path: Path) -> None:
    model = classifier([0.0, 0.5])
    ClassPrior((9, 1)).store(model.config)
    if rule is not None:
        rule.store(model.config)
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = AtomicCheckpointTrainer(model=model, args=arguments)
    for _ in range(2):
        trainer.create_model_card()
        card = (tmp_path / "README.md").read_text("utf-8")
        assert card.count("Without kexue_hf, the pipeline uses the logits as they are: ") == bool(settings)
        assert "## Decision rule" not in card or settings in card


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda config: DecisionRule("best"), "must be one of argmax, prior_adjusted, thresholds, got 'best'"),
        (lambda config: DecisionRule("thresholds"), "thresholds are needed for the rule 'thresholds'"),
        (lambda config: DecisionRule(thresholds=(0.1, 0.2)), "and for no other"),
        (lambda config: DecisionRule("thresholds", thresholds=(0.0, 1)), "between 0 and 1"),
        (
            lambda config: DecisionRule("thresholds", thresholds=(0.5,)).store(config),
            "2 labels, the decision rule 1",
        ),
        (lambda config: DecisionRule("prior_adjusted").store(config), "no class_prior"),
        (lambda config: DecisionRule("prior_adjusted", tau=float("nan")), "tau must be a finite number"),
    ],
)
def test_rules_that_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(BertConfig(num_labels=2))


@pytest.mark.parametrize("counts", [(1, 2, 3), (1, 0)])
def test_a_prior_that_does_not_suit(counts: tuple[int, ...]) -> None:
    config = BertConfig(num_labels=2)
    ClassPrior(counts).store(config)
    with pytest.raises(InputError, match=r"does not suit a model of 2 labels|no example"):
        DecisionRule("prior_adjusted").store(config)


def test_a_prior_does_not_suit_several_labels() -> None:
    config = BertConfig(num_labels=2, problem_type="multi_label_classification")
    ClassPrior((1, 2)).store(config)
    with pytest.raises(InputError, match="does not suit a model of 2 labels"):
        DecisionRule("prior_adjusted").store(config)


def test_a_damaged_rule() -> None:
    with pytest.raises(InputError, match="decision_rule must have the keys"):
        DecisionRule.of(BertConfig(decision_rule=["argmax"]))
