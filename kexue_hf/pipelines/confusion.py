"""Which characters does one write in place of which others? Candidates for a correction, and how unlikely each is.

Most misspellings of Chinese replace a character by one that sounds the same, or nearly the same by the rules below
(those of the fuzzy input methods), or looks alike. The tables are in `similar_characters`. A user's own file takes
their place.

Each candidate has a cost, as in a noisy channel: log p(this was written | that was meant), less than for a character
of the same syllable and tone. The few numbers in `COSTS` are counted on wrong and right sentences: SIGHAN's training
rows (data for research; none of it is in here), by benchmarks/tta_correction_constants.py, which also counts how many
of the errors the tables cover; the rules of near sounds were chosen with an eye on the same rows.
"""

import functools
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from .similar_characters import SHAPES, SOUNDS

# What `confusion` stands for.
KINDS = ("sound", "near_sound", "shape")
# Natural logarithms, see above. `shape too` is added where something sounds and looks alike.
COSTS = {"same tone": 0.0, "other tone": 1.0, "near sound": 1.6, "shape": 2.1, "shape too": -1.7}
# zh and z, n and l, f and h, ü and u, ang and an, ... are one.
_NEAR = ((re.compile("^([zcs])h"), r"\1"), (re.compile("^n"), "l"), (re.compile("^f"), "h"), (re.compile("ng$"), "n"))
# Bytes of a file of candidates.
_LARGEST = 1 << 26
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


class Confusion:
    """Candidates for a piece of text, all of its length.

    Args:
        mapping: text to candidates, or to candidates and their costs, which are 0 else. A text that is not in it, of
            several characters, has those which differ from it in one character by one of this character's candidates.

    Raises:
        ValueError: a candidate has another number of characters than its text, or either is not Chinese characters
            only (numbers, letters and punctuation are never replaced), or a cost is no number.
    """

    def __init__(self, mapping: Mapping[str, Iterable[str] | Mapping[str, float]]) -> None:
        self.mapping: dict[str, dict[str, float]] = {}
        for text, candidates in mapping.items():
            costs = candidates if isinstance(candidates, Mapping) else dict.fromkeys(candidates, 0.0)
            others = {other: float(cost) for other, cost in costs.items() if other != text}
            for part in (text, *others):
                if not is_han(part):
                    raise ValueError(f"expected Chinese characters, got {part!r}: nothing else is replaced")
            for other, cost in others.items():
                if len(other) != len(text):
                    raise ValueError(
                        f"{text!r} has {len(text)} characters, {other!r} {len(other)}: a correction keeps the length"
                    )
                if not math.isfinite(cost):
                    raise ValueError(f"the cost of {other!r} for {text!r} must be a number, got {cost}")
            self.mapping[text] = others

    def __call__(self, text: str) -> dict[str, float]:
        """The candidates for a text and their costs; it is not one of them."""
        if text in self.mapping or len(text) < 2:
            return self.mapping.get(text, {})
        return {
            text[:place] + other + text[place + 1 :]: cost
            for place, char in enumerate(text)
            for other, cost in self.mapping.get(char, {}).items()
        }

    @classmethod
    def of_kinds(cls, *kinds: str, costs: Mapping[str, float] | None = None) -> "Confusion":
        """From the tables that come along: `sound` (the same syllable, any tone), `near_sound`, `shape`.

        Args:
            costs: those that are not to be as in `COSTS`.

        Raises:
            ValueError: no such kind, or no such cost.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"there is no kind of confusion {kind!r}, only {', '.join(KINDS)}")
        for name in costs or ():
            if name not in COSTS:
                raise ValueError(f"there is no cost {name!r}, only {', '.join(COSTS)}")
        return _of_kinds(kinds, tuple({**COSTS, **(costs or {})}.values()))

    @classmethod
    def from_file(cls, path: str | Path) -> "Confusion":
        """From a UTF-8 file, by its ending.

        .jsonl: a line is `{"text": "竟", "candidates": ["境", "竞"]}`. Anything else: a line is a text, a tab, and its
        candidates with spaces between; those of a single character need no spaces. Lines of the same text add up.

        Raises:
            ValueError: a line is not of this form (its number is said), or the file holds none.
            OSError: it cannot be read.
        """
        mapping: dict[str, list[str]] = defaultdict(list)
        for place, text, candidates in _entries(Path(path)):
            try:
                cls({text: candidates})
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            mapping[text] += candidates
        if not mapping:
            raise ValueError(f"{path}: holds no candidates")
        return cls(mapping)


def is_han(text: str) -> bool:
    """Whether a text is Chinese characters and nothing else (at least one)."""
    return _HAN.fullmatch(text) is not None


def _entries(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Place, text and candidates of each line that is not empty."""
    form = ".jsonl: an object with text and candidates" if path.suffix == ".jsonl" else "a text, a tab, its candidates"
    if path.stat().st_size > _LARGEST or not path.is_file():
        raise ValueError(f"{path}: expected a regular file of at most {_LARGEST:,} bytes, with {form} in each line")
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            place = f"{path}, line {number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                if not line:
                    continue
                if path.suffix == ".jsonl":
                    row = json.loads(line)
                    text, candidates = row["text"], list(row["candidates"])
                else:
                    text, joined = line.split("\t")
                    parts = joined.split()
                    candidates = [*"".join(parts)] if len(text) == 1 and len(parts) == 1 else parts
                if not isinstance(text, str) or not all(isinstance(other, str) for other in candidates):
                    raise TypeError
            except UnicodeDecodeError:
                raise ValueError(f"{place}: not UTF-8") from None
            except (ValueError, KeyError, TypeError, RecursionError):
                raise ValueError(f"{place}: expected {form}") from None
            yield place, text, candidates


@functools.cache
def _of_kinds(kinds: tuple[str, ...], costs: tuple[float, ...]) -> Confusion:
    same_tone, other_tone, near_sound, shape, shape_too = costs
    mapping: dict[str, dict[str, float]] = defaultdict(dict)
    # The most expensive first: what is also of a cheaper kind gets that one's cost.
    if "near_sound" in kinds:
        _join(mapping, _groups(_near_syllable), near_sound)
    if "sound" in kinds:
        _join(mapping, _groups(_syllable), other_tone)
        _join(mapping, _groups(str), same_tone)
    if "shape" in kinds:
        for line in SHAPES.splitlines():
            char, others = line.split()
            for one, other in ((a, b) for each in others for a, b in ((char, each), (each, char))):
                mapping[one][other] = mapping[one][other] + shape_too if other in mapping[one] else shape
    return Confusion(mapping)


def _join(mapping: dict[str, dict[str, float]], groups: Iterable[Iterable[str]], cost: float) -> None:
    for group in groups:
        for char in group:
            mapping[char].update(dict.fromkeys(group, cost))


def _groups(key: Callable[[str], str]) -> Iterable[Iterable[str]]:
    """The characters whose readings have the same key."""
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for line in SOUNDS.splitlines():
        reading, chars = line.split()
        groups[key(reading)].update(dict.fromkeys(chars))
    return groups.values()


def _syllable(reading: str) -> str:
    return reading[:-1]


def _near_syllable(reading: str) -> str:
    """Without what is easily taken for something else."""
    syllable = _syllable(reading)
    for pattern, by in _NEAR:
        syllable = pattern.sub(by, syllable)
    return syllable.replace("v", "u")


__all__ = ["COSTS", "KINDS", "Confusion", "is_han"]
