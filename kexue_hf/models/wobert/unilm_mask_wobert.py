"""The attention mask of a UniLM (https://kexue.fm/archives/6933), and the check of the order of its token types.

The rule is bert4keras', i sees j iff cumsum(types)[j] <= cumsum(types)[i], for every input that is a prompt (token
type 0) followed by a continuation (type 1). After a continuation token all others count as continuation, whatever
their type: under the bare rule, a 0 after a 1 would be visible to tokens before it.
"""

from typing import Any

import torch
from torch.nn import functional
from transformers.masking_utils import create_causal_mask

from .cache_name_wobert import CACHE


def unilm_mask(
    config: Any,
    inputs_embeds: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    token_type_ids: torch.Tensor | None = None,
    cache: Any = None,
    **_: Any,
) -> Any:
    """Return the mask of the new tokens over all tokens, in the form that the attention implementation takes.

    Args:
        inputs_embeds: [batch, new, any]; only shape, dtype and device are read.
        attention_mask: [batch, past + new], 0 for padding; one of 4 dimensions is returned unchanged.
        past_key_values, cache: two names of the cache. The new tokens see everything in it.
        token_type_ids: [batch, new]; None means that all tokens are prompt.
    """
    cache = past_key_values if cache is None else cache
    batch, new = inputs_embeds.shape[:2]
    blocks = None
    # A single token sees itself and all tokens before it, in the prompt and in the continuation.
    if new > 1:
        prompt = torch.ones(batch, new, dtype=torch.bool, device=inputs_embeds.device)
        if token_type_ids is not None:
            prompt = ~_is_continuation(token_type_ids.to(inputs_embeds.device), attention_mask)
        past = 0 if cache is None else cache.get_seq_length()
        # Tokens of one block (not -1) see each other; all others see their past.
        blocks = functional.pad(torch.where(prompt, 0, -1), (int(past), 0), value=-1)
    return create_causal_mask(
        config=config,
        inputs_embeds=inputs_embeds,
        attention_mask=attention_mask,
        block_sequence_ids=blocks,
        allow_is_causal_skip=False,
        **{CACHE: cache},
    )


def _is_continuation(token_type_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    """Return [batch, new], True from the first real token of a type other than 0."""
    later = token_type_ids > 0
    if attention_mask is not None and attention_mask.dim() == 2:
        later = later & (attention_mask[:, -later.shape[1] :] != 0)
    return later.cumsum(-1) > 0


def first_disorder(token_type_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> str | None:
    """Return an error text if a real token of type 0 follows one of another type, else None."""
    wrong = _is_continuation(token_type_ids, attention_mask) & (token_type_ids == 0)
    if attention_mask is not None and attention_mask.dim() == 2:
        wrong = wrong & (attention_mask[:, -wrong.shape[1] :] != 0)
    if not bool(wrong.any()):
        return None
    row, column = wrong.nonzero()[0].tolist()
    return (
        f"token_type_ids: expected the prompt's 0s and then the continuation's 1s, got a 0 after a 1 in row {row}, "
        f"token {column}; put the prompt first, or leave token_type_ids out if all tokens are prompt"
    )


__all__ = ["first_disorder", "unilm_mask"]
