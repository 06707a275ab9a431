"""Which characters does one write in place of which others? Candidates for a correction.

Most misspellings of Chinese replace a character by one that sounds the same (73 % of those in SIGHAN's training rows,
any tone) or nearly the same (8 % more by the rules below, those of the fuzzy input methods) or looks alike. The tables
are in `similar_characters`. A user's own file takes their place.
"""

import functools
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from .similar_characters import SHAPES, SOUNDS

# What `confusion` stands for.
KINDS = ("sound", "near_sound", "shape")
# zh and z, n and l, f and h, ü and u, ang and an, ... are one.
_NEAR = ((re.compile("^([zcs])h"), r"\1"), (re.compile("^n"), "l"), (re.compile("^f"), "h"), (re.compile("ng$"), "n"))
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


class Confusion:
    """Candidates for a piece of text, all of its length.

    Args:
        mapping: text to candidates. A text that is not in it, of several characters, has those which differ from it in
            one character by one of this character's candidates.

    Raises:
        ValueError: a candidate has another number of characters than its text, or either is not Chinese characters
            only (numbers, letters and punctuation are never replaced).
    """

    def __init__(self, mapping: Mapping[str, Iterable[str]]) -> None:
        self.mapping: dict[str, tuple[str, ...]] = {}
        for text, candidates in mapping.items():
            others = tuple(dict.fromkeys(other for other in candidates if other != text))
            for part in (text, *others):
                if not is_han(part):
                    raise ValueError(f"expected Chinese characters, got {part!r}: nothing else is replaced")
            for other in others:
                if len(other) != len(text):
                    raise ValueError(
                        f"{text!r} has {len(text)} characters, {other!r} {len(other)}: a correction keeps the length"
                    )
            self.mapping[text] = others

    def __call__(self, text: str) -> tuple[str, ...]:
        """The candidates for a text; it is not one of them."""
        if text in self.mapping or len(text) < 2:
            return self.mapping.get(text, ())
        return tuple(
            text[:place] + other + text[place + 1 :]
            for place, char in enumerate(text)
            for other in self.mapping.get(char, ())
        )

    @classmethod
    def of_kinds(cls, *kinds: str) -> "Confusion":
        """From the tables that come along: `sound` (the same syllable, any tone), `near_sound`, `shape`.

        Raises:
            ValueError: no such kind.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"there is no kind of confusion {kind!r}, only {', '.join(KINDS)}")
        return _of_kinds(kinds)

    @classmethod
    def from_file(cls, path: str | Path) -> "Confusion":
        """From a UTF-8 file, by its ending.

        .jsonl: a line is `{"text": "竟", "candidates": ["境", "竞"]}`. Anything else: a line is a text, a tab, and its
        candidates with spaces between; those of a single character need no spaces. Lines of the same text add up.

        Raises:
            ValueError: a line is not of this form (its number is said), or the file holds none.
            OSError: it cannot be read.
        """
        mapping: dict[str, dict[str, None]] = defaultdict(dict)
        for place, text, candidates in _entries(Path(path)):
            try:
                cls({text: candidates})
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
            mapping[text].update(dict.fromkeys(candidates))
        if not mapping:
            raise ValueError(f"{path}: holds no candidates")
        return cls(mapping)


def is_han(text: str) -> bool:
    """Whether a text is Chinese characters and nothing else (at least one)."""
    return _HAN.fullmatch(text) is not None


def _entries(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Place, text and candidates of each line that is not empty."""
    form = ".jsonl: an object with text and candidates" if path.suffix == ".jsonl" else "a text, a tab, its candidates"
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
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{place}: expected {form}") from None
            yield place, text, candidates


@functools.cache
def _of_kinds(kinds: tuple[str, ...]) -> Confusion:
    mapping: dict[str, dict[str, None]] = defaultdict(dict)
    for kind in kinds:
        for char, others in _table(kind).items():
            mapping[char].update(dict.fromkeys(others))
    return Confusion(mapping)


@functools.cache
def _table(kind: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = defaultdict(dict)
    if kind == "shape":
        for line in SHAPES.splitlines():
            char, others = line.split()
            for other in others:
                found[char][other] = found[other][char] = None
    else:
        groups: dict[str, dict[str, None]] = defaultdict(dict)
        for line in SOUNDS.splitlines():
            reading, chars = line.split()
            groups[_syllable(reading, near=kind == "near_sound")].update(dict.fromkeys(chars))
        for group in groups.values():
            for char in group:
                found[char].update(group)
    return {char: tuple(other for other in others if other != char) for char, others in found.items()}


def _syllable(reading: str, near: bool) -> str:
    """A reading without its tone, and for `near` without what is easily taken for something else."""
    syllable = reading[:-1]
    for pattern, by in _NEAR if near else ():
        syllable = pattern.sub(by, syllable)
    return syllable.replace("v", "u") if near else syllable


__all__ = ["KINDS", "Confusion", "is_han"]
