"""Encode pairs of texts: special tokens between and around the two, segments, and truncation.

Truncation follows bert4keras, the library of the Sohu 2021 baseline: while a row is too long, it drops the last token
of the longer text, counting each text's special tokens; of the first text if they are equally long. (The tokenizers of
transformers differ by one token in rows where both texts are truncated.)
"""

import dataclasses
import itertools
import unicodedata
from collections.abc import Sequence
from typing import Any

from .text_windows import resolve_max_length

FIELDS = ("text_a", "text_b")


@dataclasses.dataclass(frozen=True)
class TextPair:
    """Two texts, and the task (a name or an id) to compare them by, if the pair has one."""

    text_a: str
    text_b: str
    task: str | int | None = None


def read_pair(given: Any, place: str = "", fields: tuple[str, str] = FIELDS) -> TextPair:
    """Read a pair given as a `TextPair`, two texts, or a dictionary with `text_a`, `text_b` and optionally `task`.

    Args:
        place: position of the pair, for the message.
        fields: names of the texts in a dictionary.

    Raises:
        ValueError: the argument has another form, or a text is not a string, is blank, or contains an unpaired
            surrogate.
    """
    at = f"{place}: " if place else ""
    task = None
    if isinstance(given, TextPair):
        texts, task = [given.text_a, given.text_b], given.task
    elif isinstance(given, dict):
        for name in fields:
            if name not in given:
                found = ", ".join(map(str, given)) or "nothing"
                raise ValueError(f"{at}expected a pair with {' and '.join(fields)}, got {found:.80} without {name!r}")
        texts, task = [given[name] for name in fields], given.get("task")
    elif isinstance(given, list | tuple) and len(given) == 2:
        texts = list(given)
    else:
        raise ValueError(
            f"{at}a pair must be two texts or a dictionary with {' and '.join(fields)}, got {given!r:.60}"
        )
    for name, text in zip(fields, texts, strict=True):
        if not isinstance(text, str):
            raise ValueError(f"{at}{name} must be a string, got {type(text).__name__}")
        if is_blank(text):
            raise ValueError(f"{at}{name} is empty; a pair needs two texts")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{at}{name} contains an unpaired surrogate, which is not a character") from None
    return TextPair(texts[0], texts[1], task)


def is_blank(text: str) -> bool:
    """Return whether a text is invisible: empty, or only spaces, controls and zero-width characters."""
    return all(character.isspace() or unicodedata.category(character) in ("Cc", "Cf") for character in text)


@dataclasses.dataclass(frozen=True)
class PairFrame:
    """The special tokens before, between and after two texts: ids, and segments of these and of the two texts.

    `segments` is None if the tokenizer has no segments.
    """

    before: list[int]
    between: list[int]
    after: list[int]
    segments: tuple[list[int], int, list[int], int, list[int]] | None

    @property
    def shortest(self) -> int:
        """Smallest row length with room for a token of each text, however long the texts are."""
        return 2 * (max(len(self.before) + len(self.between), len(self.after)) + 1)


def pair_frame_of(tokenizer: Any) -> PairFrame:
    """Return the special tokens that the tokenizer adds to a pair.

    Raises:
        ValueError: the tokenizer does not support pairs, or inserts special tokens in the middle of a text.
    """
    for probe in ("a", "天", "1"):
        bare = list(tokenizer(probe, add_special_tokens=False)["input_ids"])
        try:
            encoded = tokenizer(probe, probe)
        except (TypeError, ValueError, NotImplementedError):
            break
        full, types = list(encoded["input_ids"]), encoded.get("token_type_ids")
        size = len(bare)
        places = [start for start in range(len(full) - size + 1) if size and full[start : start + size] == bare]
        if len(places) == 2 and places[0] + size <= places[1]:
            first, second = places
            cuts = [0, first, first + size, second, second + size, len(full)]
            parts = [[list(row[i:j]) for i, j in itertools.pairwise(cuts)] for row in (full, types or [])]
            (before, _, between, _, after), kinds = parts
            segments = (kinds[0], kinds[1][0], kinds[2], kinds[3][0], kinds[4]) if types is not None else None
            return PairFrame(before, between, after, segments)
    raise ValueError(
        "expected a tokenizer that adds special tokens only around and between two texts, got "
        f"{type(tokenizer).__name__}"
    )


def pair_length(model: Any, tokenizer: Any, frame: PairFrame, max_length: int | None = None) -> int:
    """Return the maximum number of tokens per row: `max_length`, or the model's limit.

    Raises:
        ValueError: `max_length` has no room for a token of each text, or exceeds the model's limit.
    """
    return resolve_max_length(model, tokenizer, frame.shortest, max_length)


@dataclasses.dataclass(frozen=True)
class EncodedPair:
    """The ids of a row, and its segments if the tokenizer has any."""

    ids: list[int]
    segments: list[int] | None


def encode_pairs(
    tokenizer: Any, pairs: Sequence[TextPair], frame: PairFrame, length: int | None = None
) -> list[EncodedPair]:
    """Encode pairs as rows of at most `length` tokens."""
    if not pairs:
        return []
    # Each text once: one text is often compared with many.
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.text_a, pair.text_b)))
    options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    ids = dict(zip(texts, tokenizer(texts, **options)["input_ids"], strict=True))
    rows = []
    for pair in pairs:
        first, second = list(ids[pair.text_a]), list(ids[pair.text_b])
        around = (len(frame.before) + len(frame.between), len(frame.after))
        kept = _kept(len(first) + around[0], len(second) + around[1], length)
        first, second = first[: kept[0] - around[0]], second[: kept[1] - around[1]]
        segments = None
        if frame.segments is not None:
            before, of_first, between, of_second, after = frame.segments
            segments = [*before, *[of_first] * len(first), *between, *[of_second] * len(second), *after]
        rows.append(EncodedPair([*frame.before, *first, *frame.between, *second, *frame.after], segments))
    return rows


def _kept(first: int, second: int, length: int | None) -> tuple[int, int]:
    """Return how many tokens of each text remain after truncation to `length` (see the module's docstring)."""
    if length is None or first + second <= length:
        return first, second
    half = length // 2
    if first <= half:
        return first, length - first
    if second <= length - half:
        return length - second, second
    return half, length - half


__all__ = [
    "FIELDS",
    "EncodedPair",
    "PairFrame",
    "TextPair",
    "encode_pairs",
    "is_blank",
    "pair_frame_of",
    "pair_length",
    "read_pair",
]
