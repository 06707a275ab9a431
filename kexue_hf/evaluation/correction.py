"""Precision, recall and F1 of spelling correction, by sentences and by characters.

Detection asks for the places of the errors alone, correction for the places and what was put there.

* `sentence`: as SIGHAN's bake-offs count (Tseng et al. 2015, "Introduction to SIGHAN 2015 Bake-off for Chinese
  Spelling Check", and its evaluation tool). A sentence with errors is a true positive if exactly its errors were found
  (or corrected), and a false negative otherwise, whatever else was changed in it; a sentence without errors is a false
  positive if anything was changed. Precision says little where few sentences are without errors.
* `sentence_strict`: as most papers since count. Precision is over all sentences in which anything was changed: one
  that was changed in a wrong way counts against it also if it has errors. Recall is the same.
* `character`: every changed character, every erroneous character; a character that is wrong and was changed into
  another wrong one is detected, not corrected.

The false positive rate is the share of the sentences without errors in which something was changed.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from kexue_hf.errors import InputError


@dataclasses.dataclass
class Score:
    """Right ones, those that were proposed, and those that should have been."""

    right: int = 0
    proposed: int = 0
    wanted: int = 0

    @property
    def precision(self) -> float:
        """0 where nothing was proposed."""
        return self.right / self.proposed if self.proposed else 0.0

    @property
    def recall(self) -> float:
        """0 where nothing was to be found."""
        return self.right / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where nothing was right."""
        return 2 * self.right / (self.proposed + self.wanted) if self.right else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Precision, recall, F1 and the three counts."""
        return {"precision": self.precision, "recall": self.recall, "f1": self.f1, **dataclasses.asdict(self)}


class CorrectionMetrics:
    """Counts sentence by sentence.

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
        """Count a sentence: as it was, as it should be, and as it was corrected.

        Raises:
            InputError: they are not of one length.
        """
        if not len(source) == len(target) == len(predicted):
            raise InputError(
                f"source, target and prediction must have one length, got {len(source)}, {len(target)} and "
                f"{len(predicted)}: {source!r}"
            )
        errors = {place for place, (a, b) in enumerate(zip(source, target, strict=True)) if a != b}
        changed = {place for place, (a, b) in enumerate(zip(source, predicted, strict=True)) if a != b}
        right = {place for place in errors & changed if predicted[place] == target[place]}
        self.sentences += 1
        self.without_errors += not errors
        self.false_positives += bool(changed) and not errors
        for task, as_it_should in (("detection", changed == errors), ("correction", predicted == target)):
            self.accurate[task] += as_it_should
            hit = bool(errors) and as_it_should
            sentence, strict, character = (self.scores[level][task] for level in self.scores)
            for score, proposed in ((sentence, hit or (bool(changed) and not errors)), (strict, bool(changed))):
                score.right += hit
                score.proposed += proposed
                score.wanted += bool(errors)
            character.right += len(errors & changed if task == "detection" else right)
            character.proposed += len(changed)
            character.wanted += len(errors)

    def to_dict(self) -> dict[str, Any]:
        """{level: {detection, correction: {precision, recall, f1, right, proposed, wanted}}}, for the level `sentence`
        also the accuracy, and the false positive rate (None if every sentence has errors)."""
        found: dict[str, Any] = {
            level: {task: score.to_dict() for task, score in tasks.items()} for level, tasks in self.scores.items()
        }
        for task, number in self.accurate.items():
            found["sentence"][task]["accuracy"] = number / self.sentences if self.sentences else 0.0
        rate = self.false_positives / self.without_errors if self.without_errors else None
        return {
            "sentences": self.sentences,
            "without_errors": self.without_errors,
            "false_positive_rate": rate,
            **found,
        }


def correction_metrics(rows: Iterable[tuple[str, str, str]]) -> dict[str, Any]:
    """`CorrectionMetrics` of (source, target, predicted) sentences.

    Raises:
        InputError: the three of a row are not of one length.
    """
    metrics = CorrectionMetrics()
    for row in rows:
        metrics.add(*row)
    return metrics.to_dict()


__all__ = ["CorrectionMetrics", "Score", "correction_metrics"]
