"""Prepare texts for a model: find the special tokens around a text, and split long texts into windows.

Each token is scored once, in the window where its distance to the nearer end is greatest. An end of the whole text
does not count as an end, because no context is missing there.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from .given_texts import all_texts

# Used if neither model nor tokenizer has a limit.
_DEFAULT_LENGTH = 512
_VERY_LARGE = 1 << 40


@dataclasses.dataclass(frozen=True)
class EncodedText:
    """A text as ids without special tokens; `offsets` are [start, end) of each token in the text, if known."""

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
    """Tokens [start, end) of a text, of which this window scores [first, last)."""

    start: int
    end: int
    first: int
    last: int


def encode_texts(tokenizer: Any, texts: Iterable[str] | str) -> list[EncodedText]:
    """Tokenize texts without special tokens.

    Raises:
        ValueError: the argument does not consist of texts; see `all_texts`.
    """
    texts = all_texts(texts)
    if not texts:
        return []
    options = {"add_special_tokens": False, "return_attention_mask": False, "verbose": False}
    try:
        encoded = tokenizer(texts, return_offsets_mapping=True, **options)
    except NotImplementedError:  # a Python tokenizer without offsets
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
    """Return the special tokens that the tokenizer adds to a single text.

    Raises:
        ValueError: the tokens cannot be found, for example because the tokenizer inserts some in the middle.
    """
    for probe in ("a", "天", "1"):
        bare = list(tokenizer(probe, add_special_tokens=False)["input_ids"])
        full = list(tokenizer(probe)["input_ids"])
        for start in range(len(full) - len(bare) + 1 if bare else 0):
            if full[start : start + len(bare)] == bare:
                return Frame(full[:start], full[start + len(bare) :])
    raise ValueError(f"expected a tokenizer that adds special tokens only at the ends, got {type(tokenizer).__name__}")


def default_max_length(model: Any, tokenizer: Any) -> int:
    """Return the default `max_length`, the lower of the limits of model and tokenizer; it counts special tokens."""
    named = getattr(tokenizer, "model_max_length", None)
    bounds = [bound for bound in (position_limit(model), named) if bound is not None and 0 < bound < _VERY_LARGE]
    return min(bounds, default=_DEFAULT_LENGTH)


def max_length_limit(model: Any, tokenizer: Any) -> int:
    """Return the highest `max_length` allowed: the model's limit. The tokenizer's limit is only a default."""
    bound = position_limit(model)
    if bound is not None:
        return bound
    unlimited = getattr(getattr(model, "config", None), "max_text_tokens", 0) is None
    return _VERY_LARGE if unlimited else default_max_length(model, tokenizer)


def position_limit(model: Any) -> int | None:
    """Return the number of positions of a model or configuration; None if unknown or unlimited."""
    config = getattr(model, "config", model)
    if hasattr(config, "max_text_tokens"):
        # A model of this package whose positions extend beyond their table, or that has no table.
        return None if config.max_text_tokens is None else int(config.max_text_tokens)
    bound = getattr(config, "max_position_embeddings", None)
    if not isinstance(bound, int) or bound < 1:
        return None
    # The `base_model` of a model without a head is the model itself.
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    if any(hasattr(embeddings, f"create_position_ids_from_{what}") for what in ("input_ids", "inputs_embeds")):
        # RoBERTa's positions begin after the padding index.
        bound -= (getattr(config, "pad_token_id", None) or 0) + 1
    return bound


def window_capacity(model: Any, tokenizer: Any, frame: Frame, max_length: int | None = None) -> int:
    """Return the number of text tokens that fit into a window: `max_length`, or the default length, minus the frame.

    Raises:
        ValueError: `max_length` has no room for a token, or exceeds the model's limit.
    """
    return resolve_max_length(model, tokenizer, len(frame) + 1, max_length) - len(frame)


def resolve_max_length(model: Any, tokenizer: Any, shortest: int, max_length: int | None) -> int:
    """Return `max_length`, or the default length of model and tokenizer.

    Raises:
        ValueError: `max_length` is below `shortest` or exceeds the model's positions.
    """
    if max_length is None:
        return default_max_length(model, tokenizer)
    longest = max_length_limit(model, tokenizer)
    if not shortest <= max_length <= longest:
        raise ValueError(f"max_length must be from {shortest} to {longest} for this model, got {max_length}")
    return max_length


def windows(length: int, capacity: int, overlap: int | None = None) -> Iterator[Window]:
    """Yield windows of at most `capacity` tokens over a text of `length` tokens.

    There is a single window if the text fits, even if it is empty.

    Args:
        overlap: minimum number of tokens that neighbouring windows share; by default half of `capacity`.

    Raises:
        ValueError: `capacity` is below 1, or `overlap` is not from 0 to `capacity` - 1.
    """
    overlap = capacity // 2 if overlap is None else overlap
    if capacity < 1 or not 0 <= overlap < capacity:
        raise ValueError(f"overlap must be from 0 to {capacity - 1} for windows of {capacity} tokens, got {overlap}")
    start = first = 0
    while True:
        end = min(start + capacity, length)
        if end == length:
            yield Window(start, end, first, length)
            return
        # The last window begins earlier instead of being shorter.
        following = min(start + capacity - overlap, length - capacity)
        last = (following + end + 1) // 2
        yield Window(start, end, first, last)
        start, first = following, last


__all__ = [
    "EncodedText",
    "Frame",
    "Window",
    "default_max_length",
    "encode_texts",
    "frame_of",
    "position_limit",
    "resolve_max_length",
    "window_capacity",
    "windows",
]
