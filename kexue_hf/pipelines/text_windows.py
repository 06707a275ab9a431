"""Texts as rows that a model can take: with its special tokens around, and cut into windows where they are too long.

Every token is scored once: in the window in which the nearer end is farthest, where an end of the whole text does not
count as one, since nothing is missing beyond it.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from .given_texts import all_texts

# Where neither model nor tokenizer names a bound.
_DEFAULT_LENGTH = 512
_VERY_LARGE = 1 << 40


@dataclasses.dataclass(frozen=True)
class EncodedText:
    """A text as ids, without special tokens around it; `offsets` [start, end) of each in the text, where known."""

    text: str
    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]] | None


@dataclasses.dataclass(frozen=True)
class Frame:
    """The special tokens around a text: ids before and after it."""

    before: list[int]
    after: list[int]

    def __len__(self) -> int:
        return len(self.before) + len(self.after)


@dataclasses.dataclass(frozen=True)
class Window:
    """Tokens start ... end - 1 of a text, of which first ... last - 1 are this window's to score."""

    start: int
    end: int
    first: int
    last: int


def encode_texts(tokenizer: Any, texts: Iterable[str] | str) -> list[EncodedText]:
    """The texts' tokens without special tokens around.

    Raises:
        ValueError: what is no text; see `all_texts`.
    """
    texts = all_texts(texts)
    if not texts:
        return []
    options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    try:
        encoded = tokenizer(texts, return_offsets_mapping=True, **options)
    except NotImplementedError:  # a tokenizer in Python that knows no offsets
        encoded = tokenizer(texts, **options)
    offsets = encoded.get("offset_mapping") or [None] * len(texts)
    return [
        EncodedText(
            text,
            list(ids),
            tokenizer.convert_ids_to_tokens(ids),
            None if places is None else [(int(start), int(end)) for start, end in places],
        )
        for text, ids, places in zip(texts, encoded["input_ids"], offsets, strict=True)
    ]


def frame_of(tokenizer: Any) -> Frame:
    """What the tokenizer puts before and after a single text.

    Raises:
        ValueError: it puts something into the middle, or cannot be asked.
    """
    for probe in ("a", "天", "1"):
        bare = list(tokenizer(probe, add_special_tokens=False)["input_ids"])
        full = list(tokenizer(probe)["input_ids"])
        for start in range(len(full) - len(bare) + 1 if bare else 0):
            if full[start : start + len(bare)] == bare:
                return Frame(full[:start], full[start + len(bare) :])
    raise ValueError(f"cannot tell which special tokens {type(tokenizer).__name__} puts around a text")


def longest_row(model: Any, tokenizer: Any) -> int:
    """Return the default length of a row in tokens, special ones included: the lower bound of model and tokenizer."""
    named = getattr(tokenizer, "model_max_length", None)
    bounds = [bound for bound in (max_tokens(model), named) if bound is not None and 0 < bound < _VERY_LARGE]
    return min(bounds, default=_DEFAULT_LENGTH)


def longest_possible(model: Any, tokenizer: Any) -> int:
    """Return the most tokens that a caller may ask for: the model's bound; the tokenizer's is a default."""
    bound = max_tokens(model)
    if bound is not None:
        return bound
    unlimited = getattr(getattr(model, "config", None), "max_text_tokens", 0) is None
    return _VERY_LARGE if unlimited else longest_row(model, tokenizer)


def max_tokens(model: Any) -> int | None:
    """Return how many tokens a model, or its configuration, has positions for; None if unknown or unlimited."""
    config = getattr(model, "config", model)
    if hasattr(config, "max_text_tokens"):
        # A model of ours whose positions reach beyond their table, or that needs no table.
        return None if config.max_text_tokens is None else int(config.max_text_tokens)
    bound = getattr(config, "max_position_embeddings", None)
    if not isinstance(bound, int) or bound < 1:
        return None
    # `base_model` of a model without a head is the model itself.
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    if any(hasattr(embeddings, f"create_position_ids_from_{what}") for what in ("input_ids", "inputs_embeds")):
        # RoBERTa's positions begin after the padding's.
        bound -= (getattr(config, "pad_token_id", None) or 0) + 1
    return bound


def room_in(model: Any, tokenizer: Any, frame: Frame, max_length: int | None = None) -> int:
    """How many tokens of a text a window has room for: of `max_length`, or of what the model takes, less the frame.

    Raises:
        ValueError: `max_length` has no room for a token, or is more than the model takes.
    """
    return checked_length(model, tokenizer, len(frame) + 1, max_length) - len(frame)


def checked_length(model: Any, tokenizer: Any, shortest: int, max_length: int | None) -> int:
    """`max_length`, or what model and tokenizer take.

    Raises:
        ValueError: `max_length` is below `shortest`, or more than the model has positions for.
    """
    if max_length is None:
        return longest_row(model, tokenizer)
    longest = longest_possible(model, tokenizer)
    if not shortest <= max_length <= longest:
        raise ValueError(f"max_length must be from {shortest} to {longest} for this model, got {max_length}")
    return max_length


def windows(length: int, room: int, overlap: int | None = None) -> Iterator[Window]:
    """Windows of at most `room` tokens over a text of `length` tokens; one (perhaps empty) where it fits.

    Args:
        overlap: tokens that neighbouring windows share at least; by default half of `room`.

    Raises:
        ValueError: there is no room, or the overlap leaves nothing to go on with.
    """
    overlap = room // 2 if overlap is None else overlap
    if room < 1 or not 0 <= overlap < room:
        raise ValueError(f"windows of {room} tokens cannot overlap by {overlap}")
    start = first = 0
    while True:
        end = min(start + room, length)
        if end == length:
            yield Window(start, end, first, length)
            return
        # The last window begins earlier rather than being shorter.
        following = min(start + room - overlap, length - room)
        last = (following + end + 1) // 2
        yield Window(start, end, first, last)
        start, first = following, last


__all__ = [
    "EncodedText",
    "Frame",
    "Window",
    "checked_length",
    "encode_texts",
    "frame_of",
    "longest_row",
    "max_tokens",
    "room_in",
    "windows",
]
