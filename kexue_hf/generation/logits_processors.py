"""Choices of words for a UniLM's `generate(logits_processor=[...])`.

In transformers a model without an encoder sees prompt and continuation as one text: `no_repeat_ngram_size`, say, then
forbids to copy from the prompt, which is what a title or a summary is made of. These keep the two apart. All take the
length of the prompt as it goes into `generate`, padding included: `encoded["input_ids"].shape[1]`.
"""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor


class ContinuationOnly(LogitsProcessor):
    """Another processor, which is shown the continuation only.

    Example:
        >>> processor = ContinuationOnly(NoRepeatNGramLogitsProcessor(2), encoded["input_ids"].shape[1])
        >>> ids = model.generate(**encoded, logits_processor=[processor])  # no two words in a row twice
    """

    def __init__(self, processor: LogitsProcessor, prompt_length: int) -> None:
        self.processor, self.prompt_length = processor, prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Ids [rows, length] and scores [rows, vocabulary] to new scores."""
        changed: torch.Tensor = self.processor(input_ids[:, self.prompt_length :], scores)
        return changed


class PromptWordsOnly(LogitsProcessor):
    """Nothing is written that is not in the prompt.

    Args:
        prompt_length: tokens of the prompt.
        always: ids that may be written all the same: [SEP], or nothing would ever end, and perhaps 的 or 与.

    Example:
        >>> processor = PromptWordsOnly(encoded["input_ids"].shape[1], [tokenizer.sep_token_id])
        >>> ids = model.generate(**encoded, logits_processor=[processor])
    """

    def __init__(self, prompt_length: int, always: Sequence[int]) -> None:
        self.prompt_length, self.always = prompt_length, list(always)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Ids [rows, length] and scores [rows, vocabulary] to new scores."""
        allowed = torch.zeros_like(scores, dtype=torch.bool)
        allowed.scatter_(1, input_ids[:, : self.prompt_length], True)
        allowed[:, self.always] = True
        return scores.masked_fill(~allowed, -torch.inf)


__all__ = ["ContinuationOnly", "PromptWordsOnly"]
