"""Who sees whom in a UniLM (https://kexue.fm/archives/6933), and whether the tokens are in the order that it needs.

The rule is bert4keras', i sees j iff cumsum(types)[j] <= cumsum(types)[i], for every input that is a prompt (token
type 0) and then a continuation (type 1). After a continuation token all others count as continuation, whatever their
type: by the bare rule a 0 after a 1 would be seen by tokens before it.
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
    """The attention mask of the new tokens over all tokens, as the configured attention implementation wants it.

    Args:
        inputs_embeds: [batch, new, any]; only shape, type and device are read.
        attention_mask: [batch, past + new], 0 for padding; one of 4 dimensions is returned as it is.
        past_key_values, cache: two names of the cache. Everything in it precedes the new tokens, which all see it.
        token_type_ids: [batch, new]; None means that all are prompt.
    """
    cache = past_key_values if cache is None else cache
    batch, new = inputs_embeds.shape[:2]
    blocks = None
    # A single token sees all before it and itself, whichever part it belongs to.
    if new > 1:
        prompt = torch.ones(batch, new, dtype=torch.bool, device=inputs_embeds.device)
        if token_type_ids is not None:
            prompt = ~_is_continuation(token_type_ids.to(inputs_embeds.device), attention_mask)
        past = 0 if cache is None else cache.get_seq_length()
        # Tokens of one block (not -1) see each other, all others their past.
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
    """[batch, new], True from the first real token of a type other than 0 on."""
    later = token_type_ids > 0
    if attention_mask is not None and attention_mask.dim() == 2:
        later = later & (attention_mask[:, -later.shape[1] :] != 0)
    return later.cumsum(-1) > 0


def first_disorder(token_type_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> str | None:
    """What is wrong if a real token of type 0 follows one of another type, or None."""
    wrong = _is_continuation(token_type_ids, attention_mask) & (token_type_ids == 0)
    if attention_mask is not None and attention_mask.dim() == 2:
        wrong = wrong & (attention_mask[:, -wrong.shape[1] :] != 0)
    if not bool(wrong.any()):
        return None
    row, column = wrong.nonzero()[0].tolist()
    return (
        f"token_type_ids: expected the prompt's 0s and then the continuation's 1s, but in row {row} a 0 comes after a "
        f"1, at token {column}; put the prompt first, or leave token_type_ids out if all is prompt"
    )


__all__ = ["first_disorder", "unilm_mask"]
