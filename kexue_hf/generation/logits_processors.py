"""Logits processors for a UniLM's `generate(logits_processor=[...])`.

For a model without an encoder, transformers treats prompt and continuation as one text. `no_repeat_ngram_size`, for
example, then forbids copying from the prompt, which titles and summaries need. These processors separate the two. They
take the length of the prompt as passed to `generate`, including padding: `encoded["input_ids"].shape[1]`.
"""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class ContinuationOnly(LogitsProcessor):
    """Applies another processor to the continuation only.

    Example:
        >>> processor = ContinuationOnly(NoRepeatNGramLogitsProcessor(2), encoded["input_ids"].shape[1])
        >>> ids = model.generate(**encoded, logits_processor=[processor])  # no two words in a row twice
    """

    def __init__(self, processor: LogitsProcessor, prompt_length: int) -> None:
        self.processor, self.prompt_length = processor, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the new scores [rows, vocabulary] for ids [rows, length] and scores [rows, vocabulary]."""
        changed: torch.Tensor = self.processor(input_ids[:, self.prompt_length :], scores)
        return changed


class PromptWordsOnly(LogitsProcessor):
    """Allows only tokens of the prompt.

    Args:
        prompt_length: length of the prompt in tokens.
        always: ids that are always allowed: [SEP], so that generation can end, and possibly function words (的, 与).

    Example:
        >>> processor = PromptWordsOnly(encoded["input_ids"].shape[1], [tokenizer.sep_token_id])
        >>> ids = model.generate(**encoded, logits_processor=[processor])
    """

    def __init__(self, prompt_length: int, always: Sequence[int]) -> None:
        self.prompt_length, self.always = prompt_length, list(always)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the new scores [rows, vocabulary] for ids [rows, length] and scores [rows, vocabulary]."""
        allowed = torch.zeros_like(scores, dtype=torch.bool)
        allowed.scatter_(1, input_ids[:, : self.prompt_length], True)
        allowed[:, self.always] = True
        return scores.masked_fill(~allowed, -torch.inf)


__all__ = ["ContinuationOnly", "PromptWordsOnly"]
