"""Texts cut into pieces that a model takes whole, and batches of them; words hidden for a masked language model."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from kexue_hf.errors import InputError
from kexue_hf.pipelines.text_windows import Frame, encode_texts, frame_of, longest_row, room_in

# Tokens of its own that a piece has at least: the rest of a text is left out where it is shorter.
LEAST_TOKENS = 8
MASKED_SHARE = 0.15


class Pieces:
    """Pieces of texts, one after the other, that share no token; special tokens are around each.

    Attributes:
        rows: ids of each piece.
        max_length: tokens of a piece at most, special ones included.

    Args:
        max_length: None for what model and tokenizer allow.

    Raises:
        InputError: texts too short for two pieces, or no word that the tokenizer knows.
        ValueError: `max_length` has no room for a token, or is more than the model takes.
    """

    def __init__(self, model: Any, tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> None:
        # What transformers makes where there is no tokenizer.
        if len(tokenizer) <= len(tokenizer.all_special_ids):
            raise InputError(
                "the model has no tokenizer, or one that knows no words: its folder lacks the files of one"
            )
        self.frame = frame_of(tokenizer)
        room = _room(model, tokenizer, self.frame, max_length)
        least = min(room, LEAST_TOKENS)
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
        """The first tokens of a row, as a row of at most `length`."""
        if len(row) <= length or length <= len(self.frame):
            return row
        begin = len(self.frame.before)
        return self._framed(row[begin : begin + length - len(self.frame)])

    def batches(self, rows: Sequence[list[int]], size: int) -> list[dict[str, torch.Tensor]]:
        """Inputs of the model, `size` rows at a time, padded on the right."""
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
        """Whether the tokenizer has a token to hide words with."""
        return self._mask is not None

    def hidden(self, batches: Sequence[dict[str, torch.Tensor]]) -> Iterator[tuple[dict[str, torch.Tensor], Any]]:
        """Each batch with words hidden, the same ones every time, and labels, -100 where none is hidden."""
        assert self._mask is not None  # the caller has asked `has_mask`
        generator = torch.Generator().manual_seed(0)
        special = torch.tensor([*self.frame.before, *self.frame.after, self._pad])
        for batch in batches:
            ids = batch["input_ids"]
            own = batch["attention_mask"].bool() & ~torch.isin(ids, special)
            # The least of random numbers: every row has one hidden, however short it is.
            drawn = torch.rand(ids.shape, generator=generator).masked_fill(~own, 2.0)
            hide = own & ((drawn < MASKED_SHARE) | (drawn == drawn.amin(-1, keepdim=True)))
            yield {**batch, "input_ids": ids.masked_fill(hide, self._mask)}, ids.masked_fill(~hide, -100)

    def following(self, batches: Sequence[dict[str, torch.Tensor]]) -> Iterator[tuple[dict[str, torch.Tensor], Any]]:
        """Each batch, and as labels the token that follows each, -100 where none does."""
        for batch in batches:
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100).roll(-1, -1)
            labels[:, -1] = -100
            yield batch, labels


def _room(model: Any, tokenizer: Any, frame: Frame, max_length: int | None) -> int:
    """Tokens of a text in a piece."""
    if max_length is None and getattr(model.config, "model_type", None) == "performer_bert":
        # Softmax, which it is compared with, takes the square of the time: by default no further than the table.
        max_length = min(longest_row(model, tokenizer), model.config.max_position_embeddings)
    return room_in(model, tokenizer, frame, max_length)


__all__ = ["LEAST_TOKENS", "Pieces"]
