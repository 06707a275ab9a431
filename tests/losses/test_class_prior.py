"""Counts of classes, and the weights that follow from them."""

from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import BertConfig

from kexue_hf import InputError
from kexue_hf.losses import ClassPrior, LogitAdjustedCrossEntropy

LABELS = [0, 2, 2, 1, 2, 2]


@pytest.mark.parametrize(
    "labels",
    [LABELS, np.array(LABELS), torch.tensor(LABELS), [[0, 2, -100], [2, 1], [2, 2, -100]], [[[0, 2], [2, 1]], [2, 2]]],
    ids=["list", "numpy", "torch", "tokens", "nested"],
)
def test_labels(labels: Any) -> None:
    assert ClassPrior.from_labels(labels) == ClassPrior.from_counts([1, 1, 4]) == ClassPrior((1, 1, 4))
    assert ClassPrior.from_labels(labels, num_classes=4).counts == (1, 1, 4, 0)


def test_a_data_set_s_column_streamed_or_not() -> None:
    rows = {"text": list("abcdef"), "label": ["x", "z", "z", "y", "z", "z"]}
    plain = datasets.Dataset.from_dict(rows).class_encode_column("label")
    assert ClassPrior.from_dataset(plain).counts == (1, 1, 4)
    assert ClassPrior.from_dataset(plain.to_iterable_dataset()).counts == (1, 1, 4)
    # The feature names a class that these rows do not have.
    assert ClassPrior.from_dataset(plain.filter(lambda row: row["label"] < 2)).counts == (1, 1, 0)
    tokens = datasets.Dataset.from_dict({"tags": [[0, 1, -100], [1]]})
    assert ClassPrior.from_dataset(tokens, "tags").counts == (1, 2)
    assert ClassPrior.from_dataset([{"label": 1}, {"label": 0}]).counts == (1, 1)


def test_weights() -> None:
    prior = ClassPrior((100, 25))
    assert prior.prior == (0.8, 0.2)
    for weights in (prior.inverse(), prior.sqrt_inverse(), prior.effective(0.99)):
        assert sum(p * weight for p, weight in zip(prior.prior, weights, strict=True)) == pytest.approx(1)
    assert prior.inverse() == pytest.approx((0.625, 2.5))
    assert prior.sqrt_inverse()[1] / prior.sqrt_inverse()[0] == pytest.approx(2)
    first, second = prior.effective(0.99)
    assert second / first == pytest.approx((1 - 0.99**100) / (1 - 0.99**25))
    assert prior.effective(0) == pytest.approx((1, 1))


def test_it_is_saved_with_a_model(tmp_path: Any) -> None:
    config = BertConfig()
    ClassPrior((3, 1)).store(config)
    config.save_pretrained(tmp_path)
    assert ClassPrior.of(BertConfig.from_pretrained(tmp_path)) == ClassPrior((3, 1))
    assert LogitAdjustedCrossEntropy(ClassPrior((3, 1))) == LogitAdjustedCrossEntropy((3, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClassPrior.from_labels([]), "expected labels from 0 to 1, got no labels"),
        (lambda: ClassPrior.from_labels([-100]), "got no labels"),
        (lambda: ClassPrior.from_labels([0, -1]), "got label -1"),
        (lambda: ClassPrior.from_labels([0, 3], num_classes=3), "from 0 to 2, got label 3"),
        (lambda: ClassPrior.from_labels(["a"]), "whole numbers, got 'a': class_encode_column"),
        (lambda: ClassPrior.from_labels([0.5]), "whole numbers, got 0.5"),
        (lambda: ClassPrior((1,)), "two or more numbers"),
        (lambda: ClassPrior((0, 0)), "not all 0"),
        (lambda: ClassPrior((1, 0)).inverse(), "class 1 has no example"),
        (lambda: ClassPrior((1, 2)).effective(1), "beta must be from 0 to below 1, got 1"),
        (lambda: ClassPrior.of(BertConfig()), "no class_prior"),
        (lambda: ClassPrior.from_dataset([{"labels": 1}]), "a row has no 'label'"),
        (lambda: ClassPrior.from_dataset(datasets.Dataset.from_dict({"a": [1]})), "no column 'label', only a"),
    ],
)
def test_what_cannot_be_counted(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
