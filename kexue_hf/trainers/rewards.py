"""Rewards for `PolicyGradientTrainer`: numbers that say how good predictions are, from metrics without a gradient.

A reward is any callable `reward(predictions, labels)`. Both arguments are tensors of whole numbers; `predictions` is
-100 where `labels` is. It returns one of

* one number for each label, in the shape of `labels`: it may depend on that prediction and label alone;
* one number for each row, [batch]: it may depend on the whole row;
* or it is a [`SetReward`], which divides a metric of all items among them.

For generation, rows of both arguments are token ids, -100 behind their ends; the two may differ in width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.losses.items import IGNORED


@dataclass(frozen=True)
class Accuracy:
    """1 for each label that is predicted, else 0."""

    def __call__(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (predictions == labels).float()


@dataclass(frozen=True)
class ExactMatch:
    """1 for each row whose labels are all predicted, else 0 [batch]."""

    def __call__(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if labels.dim() == 1:
            return (predictions == labels).float()
        longer = predictions.shape[-1] - labels.shape[-1]
        predictions = functional.pad(predictions, (0, max(0, -longer)), value=IGNORED)
        labels = functional.pad(labels, (0, max(0, longer)), value=IGNORED)
        return (predictions == labels).flatten(1).all(-1).float()


@dataclass(frozen=True)
class EditSimilarity:
    """1 - edit distance / length of the longer of prediction and label, for each row [batch]; 1 for two empty rows."""

    def __call__(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        found = []
        for predicted, expected in zip(predictions.tolist(), labels.tolist(), strict=True):
            first = [token for token in predicted if token != IGNORED]
            second = [token for token in expected if token != IGNORED]
            found.append(1 - edit_distance(first, second) / max(1, len(first), len(second)))
        return torch.tensor(found, device=labels.device)


def edit_distance(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the Levenshtein distance: how many insertions, deletions and substitutions turn one into the other."""
    row = list(range(len(second) + 1))
    for number, one in enumerate(first, 1):
        above, row[0] = row[0], number
        for place, other in enumerate(second, 1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (one != other))
    return row[-1]


@dataclass(frozen=True)
class TextReward:
    """A score of two texts, for generation: decode both and return `score(predicted, reference)` of each row [batch].

    Args:
        tokenizer: has `decode`.
        score: takes two texts and returns a number: ROUGE, BLEU, an edit similarity.
    """

    tokenizer: Any
    score: Callable[[str, str], float]

    def __call__(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        pairs = zip(self._texts(predictions), self._texts(labels), strict=True)
        return torch.tensor([float(self.score(*pair)) for pair in pairs], device=labels.device)

    def _texts(self, rows: torch.Tensor) -> list[str]:
        kept = ([token for token in row if token != IGNORED] for row in rows.tolist())
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in kept]


class SetReward:
    """A metric of all items of a batch, divided among the items.

    The credit of an item is the metric with its prediction minus the metric without the item. The second part does
    not depend on the prediction, so it changes no expected gradient: the gradient is that of the expected metric.
    """

    def of_classes(self, predictions: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
        """Return the credit of each item if its prediction were each class, the others' as they are.

        Returns:
            [*labels.shape, classes], 0 where the label is -100.
        """
        raise NotImplementedError

    def __call__(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the credit of each item's prediction, in the shape of `labels`, 0 where the label is -100."""
        classes = 1 + max(0, int(predictions.max()), int(labels.max())) if labels.numel() else 1
        credits = self.of_classes(predictions, labels, classes)
        return credits.gather(-1, predictions.clamp(min=0)[..., None]).squeeze(-1)


@dataclass(frozen=True)
class LeaveOneOut(SetReward):
    """The credits of any metric, by computing it anew without each item and with each class of each item.

    Args:
        metric: takes predictions [items] and labels [items], without -100, and returns a number. It is not called for
            no items; its value is 0 then. For n items and k classes it is called n (k + 1) times in a step.
    """

    metric: Callable[[torch.Tensor, torch.Tensor], Any]

    def of_classes(self, predictions: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
        kept = labels != IGNORED
        predicted, expected = predictions[kept], labels[kept]
        found = torch.zeros(*labels.shape, classes, device=labels.device)
        credits = torch.zeros(len(predicted), classes, device=labels.device)
        for number in range(len(predicted)):
            without = self._without(predicted, expected, number)
            for one in range(classes):
                changed = predicted.clone()
                changed[number] = one
                credits[number, one] = float(self.metric(changed, expected)) - without
        found[kept] = credits
        return found

    def __call__(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        kept = labels != IGNORED
        predicted, expected = predictions[kept], labels[kept]
        found = torch.zeros(labels.shape, device=labels.device)
        if len(predicted):
            whole = float(self.metric(predicted, expected))
            found[kept] = torch.tensor(
                [whole - self._without(predicted, expected, number) for number in range(len(predicted))],
                device=labels.device,
            )
        return found

    def _without(self, predicted: torch.Tensor, expected: torch.Tensor, number: int) -> float:
        others = torch.arange(len(predicted), device=predicted.device) != number
        return float(self.metric(predicted[others], expected[others])) if len(predicted) > 1 else 0.0


def macro_f1(predictions: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean over classes of F1 = 2 hits / (predicted + expected); -100 is ignored.

    Classes that are neither predicted nor expected do not count, as in scikit-learn.
    """
    kept = labels != IGNORED
    hits, total = _counts(predictions[kept], labels[kept])
    occurring = total > 0
    return float((2 * hits[occurring] / total[occurring]).mean()) if bool(occurring.any()) else 0.0


def _counts(predicted: torch.Tensor, expected: torch.Tensor, classes: int | None = None) -> tuple[torch.Tensor, ...]:
    """Return for each class [classes] how often it is predicted rightly, and how often predicted plus expected."""
    if classes is None:
        classes = 1 + max(int(predicted.max()), int(expected.max())) if len(expected) else 1
    hits = torch.bincount(expected[predicted == expected], minlength=classes)
    total = torch.bincount(predicted, minlength=classes) + torch.bincount(expected, minlength=classes)
    return hits.float(), total.float()


@dataclass(frozen=True)
class MacroF1(SetReward):
    """Credits of macro-F1, equal to `LeaveOneOut(macro_f1)` in time proportional to items times classes.

    The F1 of a batch is that of its few items. Use batches with several items of each class: with fewer, the expected
    F1 of a batch is far from the F1 of the data.
    """

    def of_classes(self, predictions: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
        kept = labels != IGNORED
        predicted, expected = predictions[kept], labels[kept]
        hits, total = _counts(predicted, expected, classes)
        mine = functional.one_hot(expected, classes).float()
        # The counts without each item [items, classes].
        hits = hits - mine * (predicted == expected)[:, None]
        total = total - mine - functional.one_hot(predicted, classes).float()
        f1, occurring = _f1(hits, total), total > 0
        sums, number = f1.sum(-1, keepdim=True), occurring.sum(-1, keepdim=True).float()
        without = sums / number.clamp(min=1)
        # What each class gains or loses if it is predicted wrongly, and the item's class if it is only expected.
        one_more = _f1(hits, total + 1) - f1
        missed = (mine * one_more).sum(-1, keepdim=True)
        new = (mine * ~occurring).sum(-1, keepdim=True)
        wrong = (sums + missed + one_more) / (number + new + (~occurring).float())
        gained = (mine * (_f1(hits + 1, total + 2) - f1)).sum(-1, keepdim=True)
        right = (sums + gained) / (number + new)
        found = torch.zeros(*labels.shape, classes, device=labels.device)
        found[kept] = torch.where(mine > 0, right, wrong) - without
        return found


def _f1(hits: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    return 2 * hits / total.clamp(min=1)


__all__ = [
    "Accuracy",
    "EditSimilarity",
    "ExactMatch",
    "LeaveOneOut",
    "MacroF1",
    "SetReward",
    "TextReward",
    "edit_distance",
    "macro_f1",
]
