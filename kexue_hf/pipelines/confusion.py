"""Confusion sets: the characters that are often written in place of others, and the cost of each correction.

Most Chinese misspellings replace a character with one that sounds the same, sounds nearly the same (by the rules of
fuzzy input methods, below), or looks alike. The tables are in `similar_characters`; a user's file can replace them.

The costs follow the noisy channel model: a cost is -log p(written | meant), relative to a character with the same
syllable and tone. `COSTS` was estimated from the pairs of wrong and right sentences in SIGHAN's training set (research
data, not included here) by benchmarks/tta_correction_constants.py, which also measures how many of the errors the
tables cover. The near-sound rules were chosen on the same data.
"""

import functools
import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from .similar_characters import SHAPES, SOUNDS

# The sources that `candidates="confusion"` combines.
KINDS = ("sound", "near_sound", "shape")
# Natural logarithms. `shape too` is added for a character that both sounds and looks alike.
COSTS = {"same tone": 0.0, "other tone": 1.0, "near sound": 1.6, "shape": 2.1, "shape too": -1.7}
# Treats zh and z, n and l, f and h, ang and an, ... as equal. `_near_syllable` does the same for ü and u.
_NEAR = ((re.compile("^([zcs])h"), r"\1"), (re.compile("^n"), "l"), (re.compile("^f"), "h"), (re.compile("ng$"), "n"))
_MAX_FILE_BYTES = 1 << 26
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


class Confusion:
    """Candidates for a text, each of the same length as the text.

    Args:
        mapping: text to its candidates, or to its candidates and their costs (default 0). For a text of several
            characters that is not in the mapping, the candidates are all texts that replace one of its characters with
            one of that character's candidates.

    Raises:
        ValueError: a text and its candidate differ in length, one of them contains anything but Chinese characters, or
            a cost is not finite.
    """

    def __init__(self, mapping: Mapping[str, Iterable[str] | Mapping[str, float]]) -> None:
        self.mapping: dict[str, dict[str, float]] = {}
        for text, candidates in mapping.items():
            costs = candidates if isinstance(candidates, Mapping) else dict.fromkeys(candidates, 0.0)
            others = {other: float(cost) for other, cost in costs.items() if other != text}
            for part in (text, *others):
                if not is_han(part):
                    raise ValueError(f"expected only Chinese characters, got {part!r}: remove it from the candidates")
            for other, cost in others.items():
                if len(other) != len(text):
                    raise ValueError(
                        f"expected candidates of {len(text)} characters for {text!r}, got {other!r} with "
                        f"{len(other)}: remove it, because a correction keeps the length"
                    )
                if not math.isfinite(cost):
                    raise ValueError(f"the cost of {other!r} for {text!r} must be finite, got {cost}")
            self.mapping[text] = others

    def __call__(self, text: str) -> dict[str, float]:
        """Return the candidates for a text with their costs, without the text itself."""
        if text in self.mapping or len(text) < 2:
            return self.mapping.get(text, {})
        return {
            text[:place] + other + text[place + 1 :]: cost
            for place, char in enumerate(text)
            for other, cost in self.mapping.get(char, {}).items()
        }

    @property
    def digest(self) -> str:
        """A digest of all candidates and costs: that of another set with the same candidates, from whatever file."""
        entries = sorted((text, sorted(costs.items())) for text, costs in self.mapping.items() if costs)
        return hashlib.blake2b(repr(entries).encode(), digest_size=8).hexdigest()

    @classmethod
    def of_kinds(cls, *kinds: str, costs: Mapping[str, float] | None = None) -> "Confusion":
        """Build a confusion set from the included tables.

        Args:
            kinds: `sound` (the same syllable, any tone), `near_sound`, `shape`.
            costs: replacements for entries of `COSTS`.

        Raises:
            ValueError: a kind or a cost is unknown.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"expected a kind of confusion from {', '.join(KINDS)}, got {kind!r}")
        for name in costs or ():
            if name not in COSTS:
                raise ValueError(f"expected a cost from {', '.join(COSTS)}, got {name!r}")
        return _of_kinds(kinds, tuple({**COSTS, **(costs or {})}.values()))

    @classmethod
    def from_file(cls, path: str | Path) -> "Confusion":
        """Read a confusion set from a UTF-8 file.

        Each line of a .jsonl file is `{"text": "竟", "candidates": ["境", "竞"]}`. Each line of any other file is a
        text, a tab, and its candidates separated by spaces; candidates of one character need no spaces. Lines with the
        same text are merged.

        Raises:
            ValueError: a line has another form (the message gives its number), or the file has no candidates.
            OSError: the file cannot be read.
        """
        mapping: dict[str, list[str]] = defaultdict(list)
        for place, text, candidates in _entries(Path(path)):
            try:
                cls({text: candidates})
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            mapping[text] += candidates
        if not mapping:
            raise ValueError(f"{path}: expected at least one line with candidates, got none")
        return cls(mapping)


def is_name(candidates: str) -> bool:
    """Return whether a source of candidates is named, and not the path of a file."""
    return candidates in ("confusion", "top_k") or set(candidates.split("+")) <= set(KINDS)


def candidate_source(candidates: str | Path | Confusion) -> Confusion | None:
    """Return the confusion set for `candidates`; None for `top_k`.

    Raises:
        ValueError: `candidates` is neither a known name nor the path of a file.
    """
    if isinstance(candidates, Confusion):
        return candidates
    if candidates == "top_k":
        return None
    if candidates == "confusion":
        return Confusion.of_kinds(*KINDS)
    if is_name(str(candidates)):
        return Confusion.of_kinds(*str(candidates).split("+"))
    if not Path(candidates).is_file():
        raise ValueError(
            f"candidates must be confusion, top_k, some of {', '.join(KINDS)} joined by +, or the path of a file, "
            f"got {str(candidates)!r}"
        )
    return Confusion.from_file(candidates)


def name_of(candidates: str | Path | Confusion, source: Confusion | None) -> str:
    """Return what a calibration stores: a name, or for a file the digest, which does not depend on its path."""
    if source is None or (not isinstance(candidates, Confusion) and is_name(str(candidates))):
        return str(candidates)
    return f"set {source.digest}"


def is_han(text: str) -> bool:
    """Return whether a text consists of Chinese characters only (at least one)."""
    return _HAN.fullmatch(text) is not None


def _entries(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the place, text and candidates of each line that is not empty."""
    form = ".jsonl: an object with text and candidates" if path.suffix == ".jsonl" else "a text, a tab, its candidates"
    if path.stat().st_size > _MAX_FILE_BYTES or not path.is_file():
        raise ValueError(
            f"{path}: expected a regular file of at most {_MAX_FILE_BYTES:,} bytes, with {form} in each line"
        )
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
    # The most expensive first, so that the cheapest kind of a pair sets its cost.
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
    """Return groups of characters whose readings have the same key."""
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for line in SOUNDS.splitlines():
        reading, chars = line.split()
        groups[key(reading)].update(dict.fromkeys(chars))
    return groups.values()


def _syllable(reading: str) -> str:
    return reading[:-1]


def _near_syllable(reading: str) -> str:
    """Return the syllable with the distinctions removed that are often confused."""
    syllable = _syllable(reading)
    for pattern, replacement in _NEAR:
        syllable = pattern.sub(replacement, syllable)
    return syllable.replace("v", "u")


__all__ = ["COSTS", "KINDS", "Confusion", "candidate_source", "is_han", "is_name", "name_of"]
