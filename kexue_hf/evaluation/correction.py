"""Precision, recall and F1 of spelling correction, per sentence and per character.

Detection counts only the positions of the errors; correction counts the positions and the replacements.

* `sentence`: the definition of SIGHAN's bake-offs (Tseng et al. 2015, "Introduction to SIGHAN 2015 Bake-off for
  Chinese Spelling Check", and its evaluation tool). A sentence with errors is a true positive if exactly its errors
  were found (or corrected), and a false negative otherwise, even if other characters were changed. A sentence without
  errors is a false positive if anything was changed. This precision says little if most sentences have errors.
* `sentence_strict`: the definition of most later papers. Precision is over all changed sentences, so a wrong change
  lowers it even in a sentence with errors. Recall is the same.
* `character`: every changed and every erroneous character. A wrong character that was changed to another wrong one is
  detected, but not corrected.

The false positive rate is the share of the sentences without errors in which anything was changed.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from kexue_hf.errors import InputError


@dataclasses.dataclass
class Score:
    """Counts of right, proposed and wanted items, and their precision, recall and F1."""

    right: int = 0
    proposed: int = 0
    wanted: int = 0

    @property
    def precision(self) -> float:
        """Right / proposed; 0 if nothing was proposed."""
        return self.right / self.proposed if self.proposed else 0.0

    @property
    def recall(self) -> float:
        """Right / wanted; 0 if nothing was wanted."""
        return self.right / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 if nothing was right."""
        return 2 * self.right / (self.proposed + self.wanted) if self.right else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return precision, recall, F1 and the three counts."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, **dataclasses.asdict(self)}


class CorrectionMetrics:
    """Accumulates the counts of corrected sentences.

    Example:
        >>> metrics = CorrectionMetrics()
        >>> metrics.add("遇到逆竟时", "遇到逆境时", "遇到逆境时")
        >>> metrics.to_dict()["sentence"]["correction"]["f1"]
        1.0
    """

    def __init__(self) -> None:
        self.sentences = self.without_errors = self.false_positives = 0
        self.accurate = {"detection": 0, "correction": 0}
        levels = ("sentence", "sentence_strict", "character")
        self.scores = {level: {"detection": Score(), "correction": Score()} for level in levels}

    def add(self, source: str, target: str, predicted: str) -> None:
        """Count one sentence.

        Args:
            source: the sentence before correction.
            target: the reference correction.
            predicted: the correction to evaluate.

        Raises:
            InputError: the lengths differ.
        """
        if not len(source) == len(target) == len(predicted):
            raise InputError(
                f"source, target and prediction must have the same length, got {len(source)}, {len(target)} and "
                f"{len(predicted)}: {source!r}"
            )
        errors = {place for place, (a, b) in enumerate(zip(source, target, strict=True)) if a != b}
        changed = {place for place, (a, b) in enumerate(zip(source, predicted, strict=True)) if a != b}
        right = {place for place in errors & changed if predicted[place] == target[place]}
        self.sentences += 1
        self.without_errors += not errors
        self.false_positives += bool(changed) and not errors
        for task, exact in (("detection", changed == errors), ("correction", predicted == target)):
            self.accurate[task] += exact
            hit = bool(errors) and exact
            sentence, strict, character = (self.scores[level][task] for level in self.scores)
            for score, proposed in ((sentence, hit or (bool(changed) and not errors)), (strict, bool(changed))):
                score.right += hit
                score.proposed += proposed
                score.wanted += bool(errors)
            character.right += len(errors & changed if task == "detection" else right)
            character.proposed += len(changed)
            character.wanted += len(errors)

    def to_dict(self) -> dict[str, Any]:
        """Return {level: {task: {precision, recall, f1, right, proposed, wanted}}} and the totals.

        Level `sentence` also has the accuracy. The false positive rate is None if every sentence has errors.
        """
        levels: dict[str, Any] = {
            level: {task: score.to_dict() for task, score in tasks.items()} for level, tasks in self.scores.items()
        }
        for task, number in self.accurate.items():
            levels["sentence"][task]["accuracy"] = number / self.sentences if self.sentences else 0.0
        rate = self.false_positives / self.without_errors if self.without_errors else None
        return {
            "sentences": self.sentences,
            "without_errors": self.without_errors,
            "false_positive_rate": rate,
            **levels,
        }


def correction_metrics(rows: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
    """Return the figures of `CorrectionMetrics` for rows (source, target, predicted).

    Raises:
        InputError: the lengths in a row differ.
    """
    metrics = CorrectionMetrics()
    for row in rows:
        metrics.add(*row)
    return metrics.to_dict()


__all__ = ["CorrectionMetrics", "Score", "correction_metrics"]
