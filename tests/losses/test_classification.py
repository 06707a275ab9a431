"""Weighted cross entropy and focal loss against their formulas, for a whole batch and for its parts."""

import math

import pytest
import torch

from kexue_hf.errors import InputError
from kexue_hf.losses.classification import balanced_weights, loss_of

LOGITS = torch.tensor([[2.0, -1.0], [0.3, 0.1], [-1.5, 2.5]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 1])


def by_formula(weights: tuple[float, float], gamma: float) -> float:
    terms = []
    for (zero, one), label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        p = math.exp((zero, one)[label]) / (math.exp(zero) + math.exp(one))
        terms.append(-weights[label] * (1 - p) ** gamma * math.log(p))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, 3.0)], ids=["equal", "weighted"])
@pytest.mark.parametrize(("name", "gamma"), [("cross_entropy", 0.0), ("focal", 2.0), ("focal", 0.0)])
def test_losses_equal_their_formulas(name, gamma, weights):
    loss = loss_of(name, weights, gamma)
    whole = loss({"logits": LOGITS}, LABELS)
    assert whole.item() == pytest.approx(by_formula(weights, gamma), rel=1e-6)
    # Parts of an accumulated batch, each divided by the number of rows of the whole batch.
    parts = [loss({"logits": LOGITS[p]}, LABELS[p], num_items_in_batch=3) for p in (slice(0, 1), slice(1, 3))]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("margin", [-200.0, -1.0, 5.0, 30.0, 200.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradients_equal_their_formula(gamma, margin):
    logits = torch.tensor([[0.0, margin]], requires_grad=True)
    loss_of("focal", (1.0, 3.0), gamma)({"logits": logits}, torch.tensor([1])).backward()
    rest, log_p = 1 / (1 + math.exp(margin)), -math.log1p(math.exp(-margin))  # 1 - p and log p
    expected = 3 * rest**gamma * (gamma * (1 - rest) * log_p - rest)
    assert logits.grad is not None
    # Values below the range of float32 become 0.
    assert logits.grad[0].tolist() == pytest.approx([-expected, expected], rel=1e-4, abs=1e-35)


def test_half_precision_logits_are_computed_in_float32():
    assert loss_of("focal")({"logits": LOGITS.bfloat16()}, LABELS).dtype == torch.float32


def test_balanced_weights_give_both_classes_equal_total_weight():
    zero, one = balanced_weights([0, 0, 0, 1])
    assert 3 * zero == one == 2.0
    with pytest.raises(InputError, match="got 2 of 0 and 0 of 1"):
        balanced_weights([0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dice",), "must be one of cross_entropy, focal, got 'dice'"),
        (("focal", (1.0,)), "two numbers above 0, got 1.0"),
        (("focal", (1.0, 0.0)), "two numbers above 0, got 1.0, 0.0"),
        (("focal", (1.0, 1.0), -1.0), "must be 0 or more, got -1.0"),
    ],
    ids=["name", "one weight", "zero", "gamma"],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        loss_of(*arguments)
