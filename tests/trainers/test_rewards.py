"""Rewards against their definitions."""

import itertools

import pytest
import torch

from kexue_hf.trainers.rewards import (
    Accuracy,
    EditSimilarity,
    ExactMatch,
    LeaveOneOut,
    MacroF1,
    TextReward,
    edit_distance,
    macro_f1,
)


def test_rewards_of_labels_and_rows() -> None:
    labels = torch.tensor([[1, 2, -100], [0, 0, 0], [-100, -100, -100]])
    predictions = torch.tensor([[1, 2, -100], [0, 1, 0], [-100, -100, -100]])
    assert Accuracy()(predictions, labels)[:2].tolist() == [[1, 1, 1], [1, 0, 1]]
    assert ExactMatch()(predictions, labels)[:2].tolist() == [1, 0]
    assert ExactMatch()(torch.tensor([1, 0]), torch.tensor([1, 1])).tolist() == [1, 0]
    torch.testing.assert_close(EditSimilarity()(predictions, labels), torch.tensor([1, 2 / 3, 1]))


def test_texts_of_other_lengths() -> None:
    labels, predictions = torch.tensor([[1, 2, -100, -100], [3, 4, 5, 6]]), torch.tensor([[1, 2], [3, 4]])
    assert ExactMatch()(predictions, labels).tolist() == [1, 0]
    assert ExactMatch()(labels, predictions).tolist() == [1, 0]
    assert EditSimilarity()(predictions, labels).tolist() == [1, 0.5]


@pytest.mark.parametrize(
    ("first", "second", "distance"), [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2)]
)
def test_edit_distance(first: str, second: str, distance: int) -> None:
    assert edit_distance(first, second) == edit_distance(second, first) == distance


def test_a_score_of_texts() -> None:
    class Letters:
        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            assert skip_special_tokens
            return "".join(chr(96 + one) for one in ids)

    reward = TextReward(Letters(), lambda predicted, reference: len(predicted) - 10 * len(reference))
    assert reward(torch.tensor([[1, 2, 3]]), torch.tensor([[1, -100, -100]])).tolist() == [-7]


def test_macro_f1_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 3, 9):
        predictions, labels = torch.randint(classes, (2, 12), generator=generator)
        expected = metrics.f1_score(labels, predictions, average="macro", zero_division=0)
        assert macro_f1(predictions, labels) == pytest.approx(expected, abs=1e-6)
        ignored = torch.cat([labels, torch.tensor([-100])])
        assert macro_f1(torch.cat([predictions, torch.tensor([0])]), ignored) == pytest.approx(expected, abs=1e-6)
    assert macro_f1(torch.tensor([]).long(), torch.tensor([]).long()) == 0


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("items", [1, 2, 8])
def test_credits_by_brute_force(items: int, classes: int) -> None:
    """The credit of an item for a class: macro-F1 with that prediction minus macro-F1 of the other items."""
    generator = torch.Generator().manual_seed(items * classes)
    for _ in range(5):
        predictions, labels = torch.randint(classes, (2, items), generator=generator)
        found = MacroF1().of_classes(predictions, labels, classes)
        for item, one in itertools.product(range(items), range(classes)):
            changed = predictions.clone()
            changed[item] = one
            others = torch.arange(items) != item
            expected = macro_f1(changed, labels) - (macro_f1(predictions[others], labels[others]) if items > 1 else 0)
            assert float(found[item, one]) == pytest.approx(expected, abs=1e-6)
        torch.testing.assert_close(LeaveOneOut(macro_f1).of_classes(predictions, labels, classes), found)
        torch.testing.assert_close(LeaveOneOut(macro_f1)(predictions, labels), MacroF1()(predictions, labels))
        chosen = found.gather(1, predictions[:, None])[:, 0]
        torch.testing.assert_close(MacroF1()(predictions, labels), chosen)


def test_credits_of_tokens() -> None:
    labels, predictions = torch.tensor([[0, 1, -100], [1, -100, -100]]), torch.tensor([[0, 0, -100], [1, -100, -100]])
    flat = MacroF1().of_classes(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    for reward in (MacroF1(), LeaveOneOut(macro_f1)):
        found = reward.of_classes(predictions, labels, 2)
        torch.testing.assert_close(found[labels != -100], flat)
        assert not found[labels == -100].any() and not reward(predictions, labels)[labels == -100].any()
