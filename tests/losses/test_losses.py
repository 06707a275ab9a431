"""Each loss against its definition in float64, value and gradient, and what each does with bad input.

The oracles are written from the formulas, with autograd and without any trick of numerics.
"""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kexue_hf.losses import (
    ClassPrior,
    DiceLoss,
    FocalLoss,
    LdamLoss,
    LogitAdjustedCrossEntropy,
    MultiLabelCrossEntropy,
    SmoothF1CrossEntropy,
    TruncatedCrossEntropy,
    WeightedCrossEntropy,
    make_loss,
    registry,
)

WEIGHT = (0.5, 2.0, 1.5)
COUNTS = (50, 5, 20)


def p_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits.softmax(-1)[torch.arange(len(labels)), labels]


def f1_oracle(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    p, classes = logits.softmax(-1), logits.shape[-1]
    f1 = [2 * p[labels == c, c].sum() / ((labels == c).sum() + p[:, c].sum()) for c in range(classes)]
    total = torch.zeros((), dtype=torch.float64)
    positives = [1] if classes == 2 else range(classes)
    for c in positives:
        weight = f1[c].detach()
        right, wrong = labels == c, labels != c
        total = total - (1 - weight / 2) * p[right, c].log().sum() - weight / 2 * (1 - p[wrong, c]).log().sum()
    return total / len(positives) / len(labels)


def dice_oracle(logits: torch.Tensor, labels: torch.Tensor, alpha: float) -> torch.Tensor:
    p = logits.softmax(-1)
    w = (1 - p) ** alpha * p
    y = torch.nn.functional.one_hot(labels, logits.shape[-1]).double()
    classes = [1] if logits.shape[-1] == 2 else range(logits.shape[-1])
    return 1 - sum((2 * (w * y)[:, c].sum() + 1) / (w[:, c].sum() + y[:, c].sum() + 1) for c in classes) / len(classes)


def margins() -> torch.Tensor:
    counts = torch.tensor(COUNTS, dtype=torch.float64)
    return 0.5 * (counts.min() / counts) ** 0.25


def ldam_oracle(f: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    z = f.clone()
    z[torch.arange(len(y)), y] = z[torch.arange(len(y)), y] - margins()[y]
    return -(4 * z).log_softmax(-1)[torch.arange(len(y)), y].mean()


ORACLES: dict[str, tuple[Any, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    "plain": (WeightedCrossEntropy(), lambda f, y: -p_of(f, y).log().mean()),
    "weighted": (
        WeightedCrossEntropy(WEIGHT),
        lambda f, y: -(torch.tensor(WEIGHT, dtype=torch.float64)[y] * p_of(f, y).log()).mean(),
    ),
    "focal": (FocalLoss(1.5), lambda f, y: -((1 - p_of(f, y)) ** 1.5 * p_of(f, y).log()).mean()),
    "focal_weighted": (
        FocalLoss(2.0, WEIGHT),
        lambda f, y: -(torch.tensor(WEIGHT, dtype=torch.float64)[y] * (1 - p_of(f, y)) ** 2 * p_of(f, y).log()).mean(),
    ),
    "truncated": (
        TruncatedCrossEntropy(0.4),
        lambda f, y: -((p_of(f, y) <= 0.4).double() * p_of(f, y).log()).mean(),
    ),
    "truncated_soft": (
        TruncatedCrossEntropy(0.6, softness=0.1),
        lambda f, y: -(torch.sigmoid((0.6 - p_of(f, y)) / 0.1) * p_of(f, y).log()).mean(),
    ),
    "dice": (DiceLoss(), lambda f, y: dice_oracle(f, y, 0.0)),
    "dice_adjusting": (DiceLoss(alpha=0.7), lambda f, y: dice_oracle(f, y, 0.7)),
    "smooth_f1": (SmoothF1CrossEntropy(), f1_oracle),
    "logit_adjusted": (
        LogitAdjustedCrossEntropy(COUNTS, tau=1.5),
        lambda f, y: -p_of(f + 1.5 * torch.tensor(COUNTS, dtype=torch.float64).div(sum(COUNTS)).log(), y).log().mean(),
    ),
    "ldam": (LdamLoss(COUNTS, scale=4.0), ldam_oracle),
}
LOSSES = {name: loss for name, (loss, _) in ORACLES.items()}


def sample(classes: int = 3, items: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(items, classes, generator=generator)
    return logits, torch.randint(classes, (items,), generator=generator)


def gradient(loss: Callable[[torch.Tensor], torch.Tensor], at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    at = at.clone().requires_grad_()
    value = loss(at)
    value.backward()
    assert at.grad is not None
    return value.detach(), at.grad


@pytest.mark.parametrize("name", ORACLES)
def test_value_and_gradient_are_the_definition_s(name: str) -> None:
    loss, oracle = ORACLES[name]
    logits, labels = sample()
    value, grad = gradient(lambda f: loss({"logits": f}, labels), logits)
    expected, expected_grad = gradient(lambda f: oracle(f, labels), logits.double())
    assert abs(value.item() - expected.item()) < 1e-6 * max(1, abs(expected.item()))
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-5, atol=1e-7)
    # The comparison can fail: with the labels of other items it does.
    other, _ = gradient(lambda f: loss({"logits": f}, labels.roll(1)), logits)
    assert abs(other.item() - expected.item()) > 1e-3


@pytest.mark.parametrize("name", ORACLES)
def test_gradients_of_equal_logits(name: str) -> None:
    """As of a new head: probabilities are exactly 1/3, or 1/2, where a loss may change its formula."""
    loss, oracle = ORACLES[name]
    logits = torch.cat([torch.zeros(6, 3), torch.tensor([[0.0, 0.0, -40.0], [0.0, -40.0, 0.0], [-40.0, 0.0, 0.0]])])
    labels = torch.arange(9) % 3
    value, grad = gradient(lambda f: loss({"logits": f}, labels), logits)
    expected, expected_grad = gradient(lambda f: oracle(f, labels), logits.double())
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["plain", "focal", "truncated_soft", "dice", "smooth_f1"])
def test_two_classes(name: str) -> None:
    loss, oracle = ORACLES[name]
    logits, labels = sample(classes=2, seed=1)
    value, grad = gradient(lambda f: loss({"logits": f}, labels), logits)
    expected, expected_grad = gradient(lambda f: oracle(f, labels), logits.double())
    assert abs(value.item() - expected.item()) < 1e-6
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-5, atol=1e-7)
    # One logit is that of class 1; labels of the logits' shape are items of two classes each.
    single = logits[:, 1:] - logits[:, :1]
    assert abs(loss({"logits": single}, labels).item() - expected.item()) < 1e-6
    assert abs(loss({"logits": single.reshape(8, 5)}, labels.reshape(8, 5).float()).item() - expected.item()) < 1e-6


@pytest.mark.parametrize("name", ORACLES)
def test_tokens_and_ignored_labels(name: str) -> None:
    """Of tokens [batch, length] those with -100 count for nothing, whatever their logits."""
    loss = LOSSES[name]
    logits, labels = sample()
    spoilt = torch.cat([logits, torch.full((8, 3), 1e4)]).reshape(8, 6, 3)
    padded = torch.cat([labels, torch.full((8,), -100)]).reshape(8, 6)
    expected, _ = gradient(lambda f: loss({"logits": f}, labels), logits)
    found, grad = gradient(lambda f: loss({"logits": f}, padded), spoilt)
    torch.testing.assert_close(found, expected)
    assert not grad.reshape(-1, 3)[40:].any()


@pytest.mark.parametrize("name", ORACLES)
def test_a_class_without_examples_in_the_batch(name: str) -> None:
    loss, oracle = ORACLES[name]
    logits, labels = sample()
    labels = labels % 2
    value, grad = gradient(lambda f: loss({"logits": f}, labels), logits)
    expected, expected_grad = gradient(lambda f: oracle(f, labels), logits.double())
    assert abs(value.item() - expected.item()) < 1e-6 * max(1, abs(expected.item()))
    torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "expected"), [("smooth_f1", 0.0), ("dice", 0.0), ("dice_adjusting", 0.0)])
def test_a_positive_class_that_neither_occurs_nor_is_predicted(name: str, expected: float) -> None:
    logits = torch.tensor([[1e4, 0.0], [1e4, 0.0]])
    value, grad = gradient(lambda f: LOSSES[name]({"logits": f}, torch.tensor([0, 0])), logits)
    assert value.item() == expected and not grad.any()


@pytest.mark.parametrize("count", [None, torch.tensor(0)])
@pytest.mark.parametrize("name", [*ORACLES, "multi_label"])
def test_no_labels_at_all_give_zero(name: str, count: Any) -> None:
    loss = LOSSES.get(name, MultiLabelCrossEntropy())
    logits, labels = sample()
    labels = torch.full_like(logits, -100) if name == "multi_label" else torch.full_like(labels, -100)
    value, grad = gradient(lambda f: loss({"logits": f}, labels, count), logits)
    assert grad.isfinite().all() and not grad.any()
    assert value.item() == 0


@pytest.mark.parametrize("name", [*ORACLES, "multi_label"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_of_ten_thousand_in_half_precision(name: str, dtype: torch.dtype) -> None:
    logits, labels = sample()
    logits = (logits.sign() * 1e4).to(dtype)
    if name == "multi_label":
        labels = torch.nn.functional.one_hot(labels, 3).float()
    value, grad = gradient(lambda f: LOSSES.get(name, MultiLabelCrossEntropy())({"logits": f}, labels), logits)
    assert value.isfinite() and grad.isfinite().all()


@pytest.mark.parametrize("name", ORACLES)
def test_parts_of_a_batch_add_up(name: str) -> None:
    """Gradient accumulation: sums over items are exact; dice and smooth F1 are as their docstrings say."""
    loss = LOSSES[name]
    logits, labels = sample()
    count = torch.tensor(40)
    whole, grad = gradient(lambda f: loss({"logits": f}, labels, count), logits)
    parts, part_grads = zip(
        *(
            gradient(lambda f, at=at: loss({"logits": f}, labels[at : at + 10], count), logits[at : at + 10])
            for at in range(0, 40, 10)
        ),
        strict=True,
    )
    if name.startswith(("dice", "smooth")):
        alone = [loss({"logits": logits[at : at + 10]}, labels[at : at + 10]) for at in range(0, 40, 10)]
        torch.testing.assert_close(sum(parts), sum(alone) / 4)
        assert abs(sum(parts).item() - whole.item()) > 1e-5
    else:
        torch.testing.assert_close(sum(parts), whole)
        torch.testing.assert_close(torch.cat(part_grads), grad)


def test_smooth_f1_is_weighted_cross_entropy() -> None:
    """The derivation of kexue.fm/archives/7708: the gradient of F1 with dp replaced by d log p."""
    logits, labels = sample(classes=2)
    p = logits.softmax(-1)[:, 1].double()
    f1 = (2 * p[labels == 1].sum() / ((labels == 1).sum() + p.sum())).item()
    _, grad = gradient(lambda f: SmoothF1CrossEntropy()({"logits": f}, labels), logits)
    weighted = WeightedCrossEntropy((f1 / 2, 1 - f1 / 2))
    _, expected = gradient(lambda f: weighted({"logits": f}, labels), logits)
    torch.testing.assert_close(grad, expected)
    # F1's own gradient, item by item, has the same weights times dp instead of d log p, up to one factor.
    _, own = gradient(lambda f: -_f1(f, labels), logits.double())
    slope = torch.where(labels == 1, p, 1 - p)
    ratio = own[:, 1] / (expected[:, 1].double() * slope)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


def _f1(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    p = logits.softmax(-1)[:, 1]
    return 2 * p[labels == 1].sum() / ((labels == 1).sum() + p.sum())


def test_an_adjusted_logit_is_a_bias() -> None:
    loss = LogitAdjustedCrossEntropy(COUNTS, tau=0.5)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 3))
    x, (_, labels) = torch.randn(40, 4), sample()
    torch.nn.init.zeros_(model[1].bias)
    adjusted = loss({"logits": model(x)}, labels)
    loss.initialize_bias(model)
    torch.testing.assert_close(WeightedCrossEntropy()({"logits": model(x)}, labels), adjusted)
    expected = 0.5 * torch.tensor(COUNTS).div(sum(COUNTS)).log()
    torch.testing.assert_close(model[1].bias.detach(), expected)
    # Of several such layers, the last is the classifier.
    two = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    first = two[0].bias.detach().clone()
    loss.initialize_bias(two)
    assert torch.equal(two[0].bias, first) and torch.equal(two[1].bias.detach(), model[1].bias.detach())
    with pytest.raises(ValueError, match="no linear layer with a bias for each of 3 classes"):
        loss.initialize_bias(torch.nn.Linear(4, 5))


class TestSeveralLabels:
    def test_the_definition(self) -> None:
        logits, _ = sample(classes=5)
        labels = (torch.randn(40, 5, generator=torch.Generator().manual_seed(2)) > 0.5).float()

        def oracle(f: torch.Tensor) -> torch.Tensor:
            rows = [
                (1 + row[y == 0].exp().sum()).log() + (1 + (-row[y == 1]).exp().sum()).log()
                for row, y in zip(f, labels, strict=True)
            ]
            return torch.stack(rows).mean()

        value, grad = gradient(lambda f: MultiLabelCrossEntropy()({"logits": f}, labels), logits)
        expected, expected_grad = gradient(oracle, logits.double())
        assert abs(value.item() - expected.item()) < 1e-6
        torch.testing.assert_close(grad.double(), expected_grad, rtol=1e-5, atol=1e-7)
        # As Trainer counts: 40 * 5 labels.
        again = MultiLabelCrossEntropy()({"logits": logits}, labels, torch.tensor(200))
        assert abs(again.item() - expected.item()) < 1e-6

    def test_numbers_of_labels(self) -> None:
        logits, _ = sample(classes=5, items=3)
        dense = torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
        dense[2, 4] = 1
        sparse = torch.tensor([[0, 3], [-100, -100], [1, 4]])
        # The mean over 4 labels, not over 3 rows.
        expected = MultiLabelCrossEntropy()({"logits": logits}, dense) * 3 / 4
        torch.testing.assert_close(MultiLabelCrossEntropy()({"logits": logits}, sparse), expected)

    def test_one_positive_with_its_logit_above_all_is_softmax_s(self) -> None:
        """With one label, log(1 + sum e^s) + log(1 + e^-t) is softmax cross entropy of s - t up to the threshold."""
        logits, labels = sample(classes=4, items=5)
        dense = torch.nn.functional.one_hot(labels, 4).float()
        rows = torch.arange(5)
        for shift in (20.0, 30.0):
            # The threshold 0 far below the label's logit, and the others at it: its terms vanish.
            moved = logits + shift
            found = MultiLabelCrossEntropy()({"logits": moved}, dense)
            others = moved.masked_fill(dense.bool(), float("-inf")).logsumexp(-1)
            torch.testing.assert_close(found, torch.nn.functional.softplus(others).mean(), rtol=1e-5, atol=1e-5)
        # The unified form of the post, log(1 + sum e^(s_i - s_j)), is softmax cross entropy for one positive.
        unified = torch.stack(
            [(1 + (logits[i][dense[i] == 0] - logits[i, labels[i]]).exp().sum()).log() for i in rows]
        ).mean()
        torch.testing.assert_close(WeightedCrossEntropy()({"logits": logits}, labels), unified)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (torch.zeros(2, 4), "must have the shape"),
            (torch.tensor([[0, 9], [1, -100]]), "from 0 to 4, or -100, got 9"),
            (torch.tensor([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0]]), "give 0 and 1 as floats"),
            (torch.tensor([0, 1]), "labels must be 0 and 1"),
            (torch.tensor([[0, -2], [1, -100]]), "from 0 to 4, or -100, got -2"),
            (torch.full((2, 5), 0.9), "must be 0, 1 or -100 .ignored.; soft labels are not supported"),
            (torch.full((2, 5), 2.0), "must be 0, 1 or -100"),
        ],
    )
    def test_labels_that_cannot_be(self, labels: torch.Tensor, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            MultiLabelCrossEntropy()({"logits": torch.zeros(2, 5)}, labels)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 3]), "from 0 to 2, or -100 to be ignored, got 3"),
        (torch.tensor([0, 1, -1, 2]), "got -1"),
        (torch.tensor([0.5, 1, 0, 2]), "whole numbers"),
        (torch.zeros(3, dtype=torch.long), r"must have the shape \[4\]"),
    ],
)
def test_labels_that_cannot_be(name: str, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LOSSES[name]({"logits": torch.zeros(4, 3)}, labels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WeightedCrossEntropy((1, 2))({"logits": torch.zeros(1, 3)}, torch.tensor([0])), "must be 3, one for"),
        (lambda: FocalLoss(2, (1, 0, 1))({"logits": torch.zeros(1, 3)}, torch.tensor([0])), "above 0 and finite"),
        (lambda: FocalLoss(-1), "gamma must be 0 or more, got -1"),
        (lambda: FocalLoss(float("inf")), "gamma must be 0 or more, got inf"),
        (lambda: DiceLoss(alpha=float("nan")), "alpha must be 0 or more, got nan"),
        (lambda: LdamLoss((3, 1), max_margin=-1), "max_margin must be 0 or more"),
        (lambda: LogitAdjustedCrossEntropy((3, 1), tau=-1), "tau must be 0 or more"),
        (lambda: TruncatedCrossEntropy(1.5), "margin must be from 0 to 1"),
        (lambda: TruncatedCrossEntropy(softness=0), "softness must be above 0"),
        (lambda: DiceLoss(smooth=0), "smooth must be above 0"),
        (lambda: LogitAdjustedCrossEntropy((3, 0, 1)), "class 1 has 0"),
        (lambda: LdamLoss((3,)), "there are 1 classes"),
        (lambda: LdamLoss((3, 1), scale=0), "scale must be above 0"),
        (lambda: LdamLoss((3, 1))({"logits": torch.zeros(1, 3)}, torch.tensor([0])), "prior must have 3 numbers"),
        (lambda: FocalLoss()({"loss": 1}, torch.tensor([0])), "outputs have no logits"),
        (lambda: make_loss("focus"), "the loss must be one of cross_entropy, focal"),
        (lambda: make_loss("focal", ["gama=2"]), "one of these keys: gamma, weight; got 'gama=2'"),
        (lambda: make_loss("focal", ["gamma=x"]), "gamma must be a number"),
        (lambda: make_loss("focal", ["gamma=1,5"]), "gamma must be one number, got '1,5'"),
        (lambda: make_loss("focal", ["gamma=-2"]), "the loss focal: gamma must be 0 or more"),
        (lambda: make_loss("ldam"), "the loss ldam needs the counts"),
        (lambda: make_loss("focal", ["weight=inverse"]), "weight=inverse needs the counts"),
        (lambda: make_loss("focal", ["weight=1,2,3"], ClassPrior((1, 2))), "weight must be 2 numbers.*got 3"),
        (lambda: make_loss("ldam", ["prior=1,2,3"], ClassPrior((1, 2))), "prior must be 2 numbers.*got 3"),
    ],
)
def test_wrong_options(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "numbers",
    [(1, 2), (1, 2, 3, 4), (1, 0, 1), (1, -1, 1), (1, float("nan"), 1), (1, float("inf"), 1)],
)
@pytest.mark.parametrize(
    ("make", "messages"),
    [
        (WeightedCrossEntropy, ("weights must be 3", "above 0 and finite")),
        (lambda weight: FocalLoss(weight=weight), ("weights must be 3", "above 0 and finite")),
        (LogitAdjustedCrossEntropy, ("prior must have 3", "needs a positive count")),
        (LdamLoss, ("prior must have 3", "needs a positive count")),
    ],
    ids=["weighted", "focal", "logit_adjusted", "ldam"],
)
def test_numbers_of_classes_that_cannot_be(
    make: Callable[[Any], Any], messages: tuple[str, str], numbers: tuple[float, ...]
) -> None:
    """Not one for each class, or not above 0 and finite."""
    with pytest.raises(ValueError, match=messages[len(numbers) == 3]):
        make(numbers)({"logits": torch.zeros(1, 3)}, torch.tensor([0]))


@pytest.mark.parametrize("name", ORACLES)
def test_they_print_compare_and_travel(name: str) -> None:
    loss = LOSSES[name]
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert other == loss and hash(other) == hash(loss) and repr(other) == repr(loss)
    assert type(loss).__name__ in repr(loss)
    with pytest.raises(AttributeError):
        loss.gamma = 3


def test_by_name() -> None:
    assert make_loss("focal", ["gamma=1", "weight=1,2"]) == FocalLoss(1.0, (1.0, 2.0))
    assert make_loss("logit_adjusted", ["tau=2", "prior=1,3"]) == LogitAdjustedCrossEntropy((1, 3), 2.0)
    prior = ClassPrior((1, 3))
    kinds = {name: type(make_loss(name, prior=prior)) for name in registry.LOSSES}
    assert kinds == {
        "cross_entropy": WeightedCrossEntropy,
        "focal": FocalLoss,
        "truncated": TruncatedCrossEntropy,
        "dice": DiceLoss,
        "smooth_f1": SmoothF1CrossEntropy,
        "logit_adjusted": LogitAdjustedCrossEntropy,
        "ldam": LdamLoss,
        "multi_label": MultiLabelCrossEntropy,
    }
    assert make_loss("ldam", prior=prior) == LdamLoss((1, 3))
    assert make_loss("ldam", ["prior=2,5"], prior) == LdamLoss((2, 5))
    for name in ("inverse", "sqrt_inverse", "effective"):
        made = make_loss("cross_entropy", [f"weight={name}"], prior)
        assert made == WeightedCrossEntropy(getattr(prior, name)())
