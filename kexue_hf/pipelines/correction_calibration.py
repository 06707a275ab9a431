"""The threshold at which a model's corrections are worth having, found on texts like those that it will read.

    found = calibrate_correction(Corrector(model, tokenizer, threshold=0.0), texts)
    model.config.correction = found.to_dict()   # saved with the model; `Corrector` takes its threshold from there

The texts are taken as right, as most are. What the model would change in them are false corrections, by their gain.
In a copy of each text one character is replaced as people do (a candidate of `confusion`, by its cost and by how
common it is): those that the model puts right again are the right corrections. With `error_rate` as the share of texts
that have an error, both together give the precision at each threshold.
"""

import collections
import dataclasses
import math
import random
from collections.abc import Iterable
from typing import Any

from .confusion import KINDS, Confusion, is_han
from .given_texts import all_texts
from .text_correction import Corrector, Proposal

# Fewer right corrections than this say nothing.
_FEWEST = 10


@dataclasses.dataclass(frozen=True)
class CorrectionCalibration:
    """What was found; shares from 0 to 1.

    threshold: the lowest at which the precision is as asked for; None if there is none.
    precision: share of the corrections that are right, if `error_rate` of the texts have an error. At the threshold,
        or, without one, the highest that was reached.
    recall: share of the errors that are put right. changed: share of the right texts in which something is changed.
    """

    threshold: float | None
    precision: float
    recall: float
    changed: float
    texts: int
    error_rate: float

    def to_dict(self) -> dict[str, Any]:
        """As a configuration holds it."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in vars(self).items()}


def calibrate_correction(
    corrector: Corrector,
    texts: Iterable[str] | str,
    *,
    precision: float = 0.7,
    error_rate: float = 0.1,
    seed: int = 0,
) -> CorrectionCalibration:
    """Find the lowest threshold at which at least `precision` of the corrections are right.

    Args:
        corrector: any threshold; its candidates and protected words are those that it will be used with.
        texts: a few hundred or more, right ones for the most part.
        precision: share of the corrections that must be right, above 0 and below 1.
        error_rate: share of the texts that will have an error.
        seed: of the errors that are made.

    Raises:
        ValueError: a share out of range, or texts without any character that could be replaced.
    """
    for name, share in (("precision", precision), ("error_rate", error_rate)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be above 0 and below 1, got {share}")
    right = [text for text in all_texts(texts) if any(map(is_han, text))]
    misspell = _Misspelling(corrector.tokenizer, right, seed)
    wrong = [one for one in map(misspell, right) if one is not None]
    if len(wrong) < _FEWEST:
        raise ValueError(
            f"expected at least {_FEWEST} texts with Chinese characters to calibrate on, got {len(wrong)}"
        )
    made = corrector.propose(right)
    false_gains = sorted(one.gain for proposals in made for one in proposals)
    first_gains = sorted(max((one.gain for one in proposals), default=-math.inf) for proposals in made)
    found = corrector.propose(text for text, _, _ in wrong)
    right_gains = sorted(
        gain
        for proposals, (_, place, char) in zip(found, wrong, strict=True)
        if (gain := _gain_of(proposals, place, char)) is not None
    )
    # Other changes in the wrong copies are those of the right ones.
    best = CorrectionCalibration(None, 0.0, 0.0, 0.0, len(right), error_rate)
    for limit in sorted({round(gain, 1) for gain in right_gains if gain > 0}):
        hits, misses = _above(right_gains, limit), _above(false_gains, limit)
        if hits < _FEWEST:
            break
        share = error_rate * hits / len(wrong)
        # As if one more right text were changed: few texts prove little.
        reached = share / (share + (misses + 1) / len(right))
        changed = _above(first_gains, limit) / len(right)
        found_here = CorrectionCalibration(limit, reached, hits / len(wrong), changed, len(right), error_rate)
        if reached >= precision:
            return found_here
        if reached > best.precision:
            best = dataclasses.replace(found_here, threshold=None)
    return best


def _above(gains: list[float], limit: float) -> int:
    return sum(gain > limit for gain in gains)


class _Misspelling:
    """Replaces one character of a text as people do: by one that sounds or looks alike, common ones more often."""

    def __init__(self, tokenizer: Any, texts: list[str], seed: int) -> None:
        self.confusion = Confusion.of_kinds(*KINDS)
        self.known = set(tokenizer.get_vocab())
        self.counts = collections.Counter(char for text in texts for char in text)
        self.random = random.Random(seed)

    def __call__(self, text: str) -> tuple[str, int, str] | None:
        """The text with an error, its place, and the character that was there; None if nothing can be replaced."""
        places = [place for place, char in enumerate(text) if self._candidates(char)]
        if not places:
            return None
        place = self.random.choice(places)
        candidates = self._candidates(text[place])
        weights = [math.exp(-cost) * (1 + self.counts[char]) for char, cost in candidates]
        wrong, _ = self.random.choices(candidates, weights)[0]
        return text[:place] + wrong + text[place + 1 :], place, text[place]

    def _candidates(self, char: str) -> list[tuple[str, float]]:
        # What the vocabulary lacks the model reads as [UNK], which no correction replaces.
        return sorted(pair for pair in self.confusion(char).items() if pair[0] in self.known)


def _gain_of(proposals: list[Proposal], place: int, char: str) -> float | None:
    """The gain of putting the character at a place right again, if that is what is proposed there."""
    for one in proposals:
        if one.start <= place < one.end and one.replacement[place - one.start] == char:
            return one.gain
    return None


__all__ = ["CorrectionCalibration", "calibrate_correction"]
