"""Choose a corrector's threshold on mostly correct texts, so that its corrections reach a required precision.

    found = calibrate_correction(Corrector(model, tokenizer, threshold=0.0), texts)
    model.config.correction = found.to_dict()   # saved with the model; `Corrector` reads its threshold from there

The texts are assumed to be correct, so every change in them is wrong. In a copy of each text one character is replaced
by a typical misspelling (a candidate of `confusion`, sampled by its cost and its frequency): there only the change
that restores the character is right. The two results, weighted by the assumed share of texts with an error
(`error_rate`), give the precision at each threshold.
"""

import collections
import dataclasses
import math
import random
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from kexue_hf.pipelines.confusion import KINDS, Confusion, is_han
from kexue_hf.pipelines.given_texts import all_texts
from kexue_hf.pipelines.text_correction import Corrector, Proposal

# With fewer right corrections, or fewer texts, the estimate is not reliable.
_MIN_HITS, _MIN_TEXTS = 10, 100
# A lower recall is not worth the false corrections.
_MIN_RECALL = 0.05
_TEXTS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class CorrectionCalibration:
    """Result of a calibration. Shares are from 0 to 1.

    threshold: the lowest threshold with the required precision; None if none has it with a recall of at least 5 %.
    precision: share of the corrections that are right, if `error_rate` of the texts have an error: at the threshold,
        or the highest precision reached if no threshold has it.
    recall: share of the errors that are corrected.
    changed: share of the correct texts in which anything is changed.
    texts: number of texts.
    error_rate: the assumed share of texts with an error.
    candidates: the corrector's candidates, for which the threshold is valid: a name, or `set` and the digest of those
        of a file.
    """

    threshold: float | None
    precision: float
    recall: float
    changed: float
    texts: int
    error_rate: float
    candidates: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are stored in a configuration, rounded to 4 digits."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in vars(self).items()}


def calibrate_correction(
    corrector: Corrector,
    texts: Iterable[str] | str,
    *,
    precision: float = 0.7,
    error_rate: float = 0.1,
    seed: int = 0,
    progress: bool = False,
) -> CorrectionCalibration:
    """Find the lowest threshold at which at least `precision` of the corrections are right.

    Args:
        corrector: a corrector with its final candidates and protected words, and any threshold.
        texts: at least a few hundred mostly correct texts.
        precision: required share of right corrections, above 0 and below 1.
        error_rate: expected share of texts with an error.
        seed: random seed of the misspellings.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: a share is out of range, fewer than 100 texts have Chinese characters, or the texts are too few
            for the required precision.
    """
    for name, share in (("precision", precision), ("error_rate", error_rate)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be above 0 and below 1, got {share}")
    right = [text for text in all_texts(texts) if any(map(is_han, text))]
    misspell = _Misspelling(corrector.tokenizer, right, seed)
    wrong = [misspelt for misspelt in map(misspell, right) if misspelt is not None]
    if len(wrong) < _MIN_TEXTS:
        raise ValueError(
            f"expected at least {_MIN_TEXTS} texts with Chinese characters to calibrate on, got {len(wrong)}; give "
            "a few hundred"
        )
    # Gains of all changes in correct texts, and the largest of each text.
    changes: list[float] = []
    largest: list[float] = []
    # Gains of the changes in misspelt texts: those that restore the text, and all others.
    restoring: list[float] = []
    others: list[float] = []
    with tqdm(total=len(right) + len(wrong), disable=not progress, unit=" texts", leave=False) as bar:
        for start in range(0, len(right), _TEXTS_AT_ONCE):
            for proposals in corrector.propose(right[start : start + _TEXTS_AT_ONCE], above=0.0):
                changes += [proposal.gain for proposal in proposals]
                largest.append(max((proposal.gain for proposal in proposals), default=-math.inf))
                bar.update()
        for start in range(0, len(wrong), _TEXTS_AT_ONCE):
            batch = wrong[start : start + _TEXTS_AT_ONCE]
            proposed = corrector.propose([text for text, _, _ in batch], 0.0)
            for proposals, (_, place, char) in zip(proposed, batch, strict=True):
                for proposal in proposals:
                    (restoring if _restores(proposal, place, char) else others).append(proposal.gain)
                bar.update()
    best = CorrectionCalibration(None, 0.0, 0.0, 0.0, len(right), error_rate, corrector.candidates)
    texts_needed = math.inf
    for threshold in sorted({(math.ceil(gain * 10) - 1) / 10 for gain in restoring}):
        hits, misses = _count_above(restoring, threshold), _count_above(changes, threshold)
        if hits < _MIN_HITS or hits < _MIN_RECALL * len(wrong):
            break
        good = error_rate * hits / len(wrong)
        bad_in_wrong = error_rate * _count_above(others, threshold) / len(wrong)
        # One miss is added, so that a few texts without a miss do not count as perfect.
        bad = bad_in_wrong + (1 - error_rate) * (misses + 1) / len(right)
        reached = good / (good + bad)
        found = CorrectionCalibration(
            threshold,
            reached,
            hits / len(wrong),
            _count_above(largest, threshold) / len(right),
            len(right),
            error_rate,
            corrector.candidates,
        )
        if reached >= precision:
            return found
        if reached > best.precision:
            best = dataclasses.replace(found, threshold=None)
        allowed_bad = good * (1 - precision) / precision - bad_in_wrong
        if misses == 0 and allowed_bad > 0:
            texts_needed = min(texts_needed, (1 - error_rate) / allowed_bad)
    if texts_needed < math.inf:
        raise ValueError(
            f"{len(right)} texts are too few to tell: none of them would be changed, but at most {best.recall:.0%} of "
            f"the errors would be corrected; give {math.ceil(texts_needed):,} or more"
        )
    return best


def _count_above(gains: list[float], threshold: float) -> int:
    return sum(gain > threshold for gain in gains)


class _Misspelling:
    """Replaces one character of a text by one of similar sound or shape, frequent characters more often."""

    def __init__(self, tokenizer: Any, texts: list[str], seed: int) -> None:
        self.confusion = Confusion.of_kinds(*KINDS)
        self.known = set(tokenizer.get_vocab())
        self.counts = collections.Counter(char for text in texts for char in text)
        self.random = random.Random(seed)

    def __call__(self, text: str) -> tuple[str, int, str] | None:
        """Return the misspelt text, the position and the original character; None if no character can be replaced."""
        places = [place for place, char in enumerate(text) if self._candidates(char)]
        if not places:
            return None
        place = self.random.choice(places)
        candidates = self._candidates(text[place])
        weights = [math.exp(-cost) * (1 + self.counts[char]) for char, cost in candidates]
        wrong, _ = self.random.choices(candidates, weights)[0]
        return text[:place] + wrong + text[place + 1 :], place, text[place]

    def _candidates(self, char: str) -> list[tuple[str, float]]:
        # The model reads other characters as [UNK], which no correction replaces.
        return sorted(pair for pair in self.confusion(char).items() if pair[0] in self.known)


def _restores(proposal: Proposal, place: int, char: str) -> bool:
    """Return whether a proposal restores the character at a position and changes nothing else."""
    offset = place - proposal.start
    if not 0 <= offset < len(proposal.original):
        return False
    return proposal.replacement == proposal.original[:offset] + char + proposal.original[offset + 1 :]


__all__ = ["CorrectionCalibration", "calibrate_correction"]
