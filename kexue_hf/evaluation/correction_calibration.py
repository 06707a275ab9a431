"""The threshold at which a model's corrections are worth having, found on texts like those that it will read.

    found = calibrate_correction(Corrector(model, tokenizer, threshold=0.0), texts)
    model.config.correction = found.to_dict()   # saved with the model; `Corrector` takes its threshold from there

The texts are taken as right, as most are; whatever the model would change in them is wrong. In a copy of each text one
character is replaced as people do (a candidate of `confusion`, by its cost and by how common it is): there the change
that restores it is right, and every other change is wrong. With `error_rate` as the share of texts that have an error,
both together give the precision at each threshold.
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

# Fewer right corrections, or texts, than this say nothing.
_FEWEST_HITS, _FEWEST_TEXTS = 10, 100
# Putting less than this share of the errors right is not worth the errors that are made.
_LEAST_RECALL = 0.05
_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class CorrectionCalibration:
    """What was found; shares from 0 to 1.

    threshold: the lowest at which the precision is as asked for; None if there is none at which at least 5 % of the
        errors are put right.
    precision: share of the corrections that are right, if `error_rate` of the texts have an error. At the threshold,
        or, without one, the highest that was reached.
    recall: share of the errors that are put right. changed: share of the right texts in which something is changed.
    candidates: what the corrector's candidates were; the threshold holds for these.
    """

    threshold: float | None
    precision: float
    recall: float
    changed: float
    texts: int
    error_rate: float
    candidates: str

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
    progress: bool = False,
) -> CorrectionCalibration:
    """Find the lowest threshold at which at least `precision` of the corrections are right.

    Args:
        corrector: any threshold; its candidates and protected words are those that it will be used with.
        texts: a few hundred or more, right ones for the most part.
        precision: share of the corrections that must be right, above 0 and below 1.
        error_rate: share of the texts that will have an error.
        seed: of the errors that are made.
        progress: show a progress bar on stderr.

    Raises:
        ValueError: a share out of range, fewer than 100 texts with Chinese characters, or too few to tell.
    """
    for name, share in (("precision", precision), ("error_rate", error_rate)):
        if not 0 < share < 1:
            raise ValueError(f"{name} must be above 0 and below 1, got {share}")
    right = [text for text in all_texts(texts) if any(map(is_han, text))]
    misspell = _Misspelling(corrector.tokenizer, right, seed)
    wrong = [one for one in map(misspell, right) if one is not None]
    if len(wrong) < _FEWEST_TEXTS:
        raise ValueError(
            f"expected at least {_FEWEST_TEXTS} texts with Chinese characters to calibrate on, got {len(wrong)}; some "
            "hundreds tell more"
        )
    # Gains: of changes in right texts, the largest of each; in wrong ones, of what restores them and of all else.
    changes: list[float] = []
    first: list[float] = []
    restored: list[float] = []
    others: list[float] = []
    with tqdm(total=len(right) + len(wrong), disable=not progress, unit=" texts", leave=False) as bar:
        for start in range(0, len(right), _AT_ONCE):
            for proposals in corrector.propose(right[start : start + _AT_ONCE], above=0.0):
                changes += [one.gain for one in proposals]
                first.append(max((one.gain for one in proposals), default=-math.inf))
                bar.update()
        for start in range(0, len(wrong), _AT_ONCE):
            part = wrong[start : start + _AT_ONCE]
            for proposals, (_, place, char) in zip(
                corrector.propose([one[0] for one in part], 0.0), part, strict=True
            ):
                for one in proposals:
                    (restored if _restores(one, place, char) else others).append(one.gain)
                bar.update()
    best = CorrectionCalibration(None, 0.0, 0.0, 0.0, len(right), error_rate, corrector.candidates)
    needed = math.inf
    for limit in sorted({(math.ceil(gain * 10) - 1) / 10 for gain in restored}):
        hits, misses = _above(restored, limit), _above(changes, limit)
        if hits < _FEWEST_HITS or hits < _LEAST_RECALL * len(wrong):
            break
        good = error_rate * hits / len(wrong)
        beside = error_rate * _above(others, limit) / len(wrong)
        # As if one more right text were changed: few texts prove little.
        bad = beside + (1 - error_rate) * (misses + 1) / len(right)
        reached = good / (good + bad)
        found = CorrectionCalibration(
            limit,
            reached,
            hits / len(wrong),
            _above(first, limit) / len(right),
            len(right),
            error_rate,
            corrector.candidates,
        )
        if reached >= precision:
            return found
        if reached > best.precision:
            best = dataclasses.replace(found, threshold=None)
        room = good * (1 - precision) / precision - beside
        if misses == 0 and room > 0:
            needed = min(needed, (1 - error_rate) / room)
    if needed < math.inf:
        raise ValueError(
            f"{len(right)} texts are too few to tell: none of them would be changed, but at most {best.recall:.0%} of "
            f"the errors would be put right; give {math.ceil(needed):,} or more"
        )
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


def _restores(proposal: Proposal, place: int, char: str) -> bool:
    """Whether a proposal puts the character at a place right again, and changes nothing else."""
    at = place - proposal.start
    if not 0 <= at < len(proposal.original):
        return False
    return proposal.replacement == proposal.original[:at] + char + proposal.original[at + 1 :]


__all__ = ["CorrectionCalibration", "calibrate_correction"]
