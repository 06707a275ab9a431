"""Cut texts into passages that fit a model, batch them, and mask words for a masked language model."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from kexue_hf.errors import InputError
from kexue_hf.pipelines.text_windows import Frame, default_max_length, encode_texts, frame_of, window_capacity

# Minimum number of a passage's own tokens: shorter rests of a text are dropped.
MIN_TOKENS = 8
MASKED_SHARE = 0.15


class Passages:
    """Consecutive passages of texts without overlap; special tokens surround each.

    Attributes:
        rows: ids of each passage.
        max_length: maximum number of tokens of a passage, special tokens included.

    Args:
        max_length: None for the maximum of model and tokenizer.

    Raises:
        InputError: the texts are too short for two passages, or the tokenizer knows no words.
        ValueError: `max_length` leaves no room for a token, or exceeds the model's maximum.
    """

    def __init__(self, model: Any, tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> None:
        # transformers creates an empty tokenizer for a folder without one.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise InputError(
                "the model has no tokenizer, or one without words: add the tokenizer's files to its folder"
            )
        self.frame = frame_of(tokenizer)
        room = _room(model, tokenizer, self.frame, max_length)
        least = min(room, MIN_TOKENS)
        bodies: list[list[int]] = []
        tokens = 0
        for text in encode_texts(tokenizer, texts):
            tokens += len(text.ids)
            cut = (text.ids[start : start + room] for start in range(0, len(text.ids), room))
            bodies.extend(body for body in cut if len(body) >= least)
        self.max_length = room + len(self.frame)
        if len(bodies) < 2:
            raise InputError(
                f"the text has {tokens:,} tokens, too few for two pieces of up to {self.max_length} (one to calibrate "
                "on, one to measure on): give more text, or a smaller max_length"
            )
        self.rows = [self._framed(body) for body in bodies]
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._mask: int | None = getattr(tokenizer, "mask_token_id", None)

    def _framed(self, body: list[int]) -> list[int]:
        return [*self.frame.before, *body, *self.frame.after]

    def shortened(self, row: list[int], length: int) -> list[int]:
        """Return a row's first tokens as a row of at most `length`."""
        if len(row) <= length or length <= len(self.frame):
            return row
        begin = len(self.frame.before)
        return self._framed(row[begin : begin + length - len(self.frame)])

    def batches(self, rows: Sequence[list[int]], size: int) -> list[dict[str, torch.Tensor]]:
        """Return inputs of the model, `size` rows each, padded on the right."""
        return [self._batch(rows[start : start + size]) for start in range(0, len(rows), size)]

    def _batch(self, rows: Sequence[list[int]]) -> dict[str, torch.Tensor]:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._pad)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}

    @property
    def has_mask(self) -> bool:
        """Whether the tokenizer has a token for masking words."""
        return self._mask is not None

    def masked(self, batches: Sequence[dict[str, torch.Tensor]]) -> Iterator[tuple[dict[str, torch.Tensor], Any]]:
        """Yield each batch with words masked, the same ones every time, and labels, -100 where nothing is masked."""
        assert self._mask is not None  # the caller has checked `has_mask`
        generator = torch.Generator().manual_seed(0)
        special = torch.tensor([*self.frame.before, *self.frame.after, self._pad])
        for batch in batches:
            ids = batch["input_ids"]
            own = batch["attention_mask"].bool() & ~torch.isin(ids, special)
            # The smallest random number is always included, so that every row has a masked token.
            drawn = torch.rand(ids.shape, generator=generator).masked_fill(~own, 2.0)
            hide = own & ((drawn < MASKED_SHARE) | (drawn == drawn.amin(-1, keepdim=True)))
            yield {**batch, "input_ids": ids.masked_fill(hide, self._mask)}, ids.masked_fill(~hide, -100)

    def next_tokens(self, batches: Sequence[dict[str, torch.Tensor]]) -> Iterator[tuple[dict[str, torch.Tensor], Any]]:
        """Yield each batch with the token after each as labels, -100 at the end and in padding."""
        for batch in batches:
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100).roll(-1, -1)
            labels[:, -1] = -100
            yield batch, labels


def _room(model: Any, tokenizer: Any, frame: Frame, max_length: int | None) -> int:
    """Return the number of text tokens in a passage."""
    if max_length is None and getattr(model.config, "model_type", None) == "performer_bert":
        # The softmax used for comparison takes quadratic time: by default, passages do not exceed the position table.
        max_length = min(default_max_length(model, tokenizer), model.config.max_position_embeddings)
    return window_capacity(model, tokenizer, frame, max_length)


__all__ = ["MIN_TOKENS", "Passages"]
