"""Pairs of texts as rows that a model can take: what is between and around the two, segments, and truncation.

Truncation is that of the Sohu 2021 baseline's library, bert4keras: as long as a row is too long, the last token of the
longer of the two goes, the special tokens of each counted with it; of the first, where they are equally long. (The
tokenizers of transformers differ by one token, in rows whose two texts are both cut.)
"""

import dataclasses
import itertools
import unicodedata
from collections.abc import Sequence
from typing import Any

from .text_windows import checked_length

FIELDS = ("text_a", "text_b")


@dataclasses.dataclass(frozen=True)
class TextPair:
    """Two texts, and the task (a name or an id) by which they are to be compared, if it is their own."""

    text_a: str
    text_b: str
    task: str | int | None = None


def read_pair(given: Any, place: str = "", fields: tuple[str, str] = FIELDS) -> TextPair:
    """A pair that is given as a `TextPair`, as two texts, or as a dictionary with `text_a`, `text_b`, perhaps `task`.

    Args:
        place: where it stands, for the message. fields: what the texts are called in a dictionary.

    Raises:
        ValueError: it is none of these, or one of the texts is no string, blank, or holds half a surrogate pair.
    """
    at = f"{place}: " if place else ""
    task = None
    if isinstance(given, TextPair):
        texts, task = [given.text_a, given.text_b], given.task
    elif isinstance(given, dict):
        for name in fields:
            if name not in given:
                found = ", ".join(map(str, given)) or "nothing"
                raise ValueError(f"{at}has no field {name!r}, only {found:.80}; a pair has {' and '.join(fields)}")
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
            raise ValueError(f"{at}{name} holds half a surrogate pair, which is no character") from None
    return TextPair(texts[0], texts[1], task)


def is_blank(text: str) -> bool:
    """Whether nothing in a text is to be seen: it is empty, or of spaces, controls and zero-width characters only."""
    return all(character.isspace() or unicodedata.category(character) in ("Cc", "Cf") for character in text)


@dataclasses.dataclass(frozen=True)
class PairFrame:
    """What a tokenizer puts before, between and after two texts: ids, and the segment of each; `segments` are also
    those of the texts, None where the tokenizer has no segments."""

    before: list[int]
    between: list[int]
    after: list[int]
    segments: tuple[list[int], int, list[int], int, list[int]] | None

    @property
    def shortest(self) -> int:
        """Tokens of a row in which a token of either text has a place, however long they are."""
        return 2 * (max(len(self.before) + len(self.between), len(self.after)) + 1)


def pair_frame_of(tokenizer: Any) -> PairFrame:
    """What the tokenizer puts around a pair.

    Raises:
        ValueError: it takes no pairs, or puts something into the middle of a text.
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
    raise ValueError(f"cannot tell which special tokens {type(tokenizer).__name__} puts around a pair of texts")


def pair_length(model: Any, tokenizer: Any, frame: PairFrame, max_length: int | None = None) -> int:
    """How many tokens a row may have: `max_length`, or what the model takes.

    Raises:
        ValueError: `max_length` has no room for a token of each text, or is more than the model takes.
    """
    return checked_length(model, tokenizer, frame.shortest, max_length)


@dataclasses.dataclass(frozen=True)
class EncodedPair:
    """A row: ids, and segments where there are any."""

    ids: list[int]
    segments: list[int] | None


def encode_pairs(
    tokenizer: Any, pairs: Sequence[TextPair], frame: PairFrame, length: int | None = None
) -> list[EncodedPair]:
    """The pairs as rows of at most `length` tokens."""
    if not pairs:
        return []
    # One text is often compared with many.
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
    """How many tokens of either remain, if one by one the longer loses its last, or the first where they are equal."""
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
