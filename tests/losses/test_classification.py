"""Weighted cross entropy and focal loss against their formulas, whole and in parts."""

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
def test_losses_are_their_formulas(name, gamma, weights):
    loss = loss_of(name, weights, gamma)
    whole = loss({"logits": LOGITS}, LABELS)
    assert whole.item() == pytest.approx(by_formula(weights, gamma), rel=1e-6)
    # Parts of an accumulated batch, each divided by the rows of all of it.
    parts = [loss({"logits": LOGITS[p]}, LABELS[p], num_items_in_batch=3) for p in (slice(0, 1), slice(1, 3))]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("lead", [-200.0, -1.0, 5.0, 30.0, 200.0])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradients_are_their_formula(gamma, lead):
    logits = torch.tensor([[0.0, lead]], requires_grad=True)
    loss_of("focal", (1.0, 3.0), gamma)({"logits": logits}, torch.tensor([1])).backward()
    rest, log_p = 1 / (1 + math.exp(lead)), -math.log1p(math.exp(-lead))  # 1 - p, and the logarithm of p
    expected = 3 * rest**gamma * (gamma * (1 - rest) * log_p - rest)
    assert logits.grad is not None
    # Below the smallest numbers of float32 it is 0.
    assert logits.grad[0].tolist() == pytest.approx([-expected, expected], rel=1e-4, abs=1e-35)


def test_half_precision_is_widened():
    assert loss_of("focal")({"logits": LOGITS.bfloat16()}, LABELS).dtype == torch.float32


def test_balanced_weights_give_both_classes_the_same_sum():
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
def test_what_cannot_be(arguments, message):
    with pytest.raises(InputError, match=message):
        loss_of(*arguments)
