"""Batches for training a UniLM to write a target from a source: [CLS] source [SEP] target [SEP].

Differences from transformers' `DataCollatorForSeq2Seq`, whose columns it takes (`input_ids` of the source, `labels` of
the target, both as the tokenizer gives them):

* Both become one row; `token_type_ids` are 0 in the source and 1 in the target, which is all that the mask needs.
* Where a row is too long the source is cut, at its end, and never the target.
* Labels are the target and the [SEP] that ends it, so that `num_items_in_batch` counts what is learned: the loss is
  the same in one batch and accumulated over several.
"""

from collections.abc import Sequence
from typing import Any

import torch

IGNORED = -100


class UniLmCollator:
    """Joins and pads sources and targets.

    Args:
        tokenizer: any tokenizer with [CLS], [SEP] and a padding token; only numbers are kept of it.
        max_length: tokens of a row, the special ones included.
        max_target_length: longer targets are cut to that many tokens ([SEP] not counted, and not put after a target
            that was cut, so that the model does not learn to stop there); None: such a target is an error only where
            it leaves no room for a source.
        pad_to_multiple_of: rounds the padded length up.

    Raises:
        ValueError: the tokenizer lacks one of the three; max_length without room; when called, a target without room.

    Example:
        >>> collator = UniLmCollator(tokenizer, max_length=128)
        >>> batch = collator([{"input_ids": [2, 7, 8, 9, 3], "labels": [2, 7, 9, 3]}])
        >>> batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        ([2, 7, 8, 9, 3, 7, 9, 3], [-100, -100, -100, -100, -100, 7, 9, 3])
    """

    def __init__(
        self, tokenizer: Any, max_length: int = 128, max_target_length: int | None = None, pad_to_multiple_of: int = 1
    ) -> None:
        special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad")}
        if missing := [name for name, index in special.items() if index is None]:
            raise ValueError(
                f"joining source and target needs a tokenizer with cls, sep and pad tokens, got no {missing}"
            )
        if max_length < 4 or (max_target_length is not None and not 0 < max_target_length <= max_length - 4):
            raise ValueError(
                f"expected max_target_length from 1 to max_length - 4, so that there is room for a source, got "
                f"max_target_length={max_target_length}, max_length={max_length}"
            )
        self.cls_token_id, self.sep_token_id, self.pad_token_id = special.values()
        self.max_length, self.max_target_length = max_length, max_target_length
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows of `input_ids` and `labels`, with [CLS] and [SEP] or without, to `input_ids`, `token_type_ids`,
        `attention_mask` and `labels`, int64 [batch, length]."""
        rows = [self._joined(feature["input_ids"], feature["labels"], i) for i, feature in enumerate(features)]
        length = max(len(source) + len(target) for source, target in rows)
        length = -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of
        batch: dict[str, list[list[int]]] = {
            name: [] for name in ("input_ids", "token_type_ids", "attention_mask", "labels")
        }
        for source, target in rows:
            padding = length - len(source) - len(target)
            batch["input_ids"].append(source + target + [self.pad_token_id] * padding)
            batch["token_type_ids"].append([0] * len(source) + [1] * len(target) + [0] * padding)
            batch["attention_mask"].append([1] * (length - padding) + [0] * padding)
            batch["labels"].append([IGNORED] * len(source) + target + [IGNORED] * padding)
        return {name: torch.tensor(values, dtype=torch.int64) for name, values in batch.items()}

    def _joined(self, source_ids: Sequence[int], target_ids: Sequence[int], row: int) -> tuple[list[int], list[int]]:
        source, target = self._bare(source_ids), self._bare(target_ids)
        if self.max_target_length is None or len(target) <= self.max_target_length:
            target = [*target, self.sep_token_id]
        else:
            target = target[: self.max_target_length]
        room = self.max_length - 2 - len(target)
        if room < 1:
            raise ValueError(
                f"row {row} of the batch: expected a target of at most {self.max_length - 4} tokens, which leaves "
                f"room for a source within max_length={self.max_length}, got {len(target) - 1}; cut it or set "
                f"max_target_length"
            )
        return [self.cls_token_id, *source[:room], self.sep_token_id], target

    def _bare(self, ids: Sequence[int]) -> list[int]:
        start = 1 if len(ids) and ids[0] == self.cls_token_id else 0
        end = len(ids) - 1 if len(ids) > start and ids[-1] == self.sep_token_id else len(ids)
        return list(ids[start:end])


__all__ = ["UniLmCollator"]
