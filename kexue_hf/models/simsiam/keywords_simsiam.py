# Copied from keywords_wobert.py
"""Refuse keywords that a forward pass would silently drop.

transformers' models take `**kwargs` and ignore names that they do not know. A cache, mask or labels under an unknown
name (misspelt or renamed) would have no effect, and the results would be wrong.
"""

import numbers
import re
from collections.abc import Collection
from typing import Any

import torch

_WITHOUT_CACHE = "it is an encoder, without a cache"
_WITHOUT_CROSS_ATTENTION = "it has no cross-attention"
REASONS = {
    "cache": _WITHOUT_CACHE,
    "past_key_values": _WITHOUT_CACHE,
    "encoder_hidden_states": _WITHOUT_CROSS_ATTENTION,
    "encoder_attention_mask": _WITHOUT_CROSS_ATTENTION,
}
# A tuple, because torch 2.8 does not compile a union.
_FLAGS = (bool, str, numbers.Number)
# Trainer passes this to every model whose forward takes `**kwargs`.
_HARMLESS = ("num_items_in_batch",)
# Names of keywords that carry a cache, mask, labels or positions. Other batch columns (length, idx) never have an
# effect.
_CARRIES = re.compile("cache|past|mask|label|target|state|position|segment|type|bias|embed", re.IGNORECASE)


def refuse_unknown(
    model: str, keywords: dict[str, Any], reasons: dict[str, str] = REASONS, known: Collection[str] = ()
) -> None:
    """Raise ValueError for the first keyword that carries a cache, mask, labels or the like and would be ignored.

    Flags (booleans, numbers, names) and other batch columns, such as `length`, are accepted.

    Args:
        model: name of the model in the error.
        keywords: keywords that the forward pass does not name.
        reasons: keywords of BERT that the model refuses, with the reason.
        known: keywords that the model passes on.
    """
    for name, value in keywords.items():
        if value is None or name in _HARMLESS:
            continue
        if name in reasons:
            raise ValueError(f"{model} takes no {name}: {reasons[name]}")
        if name in known:
            continue
        flag = isinstance(value, _FLAGS) or type(value).__name__ == "bool"
        # `output_hidden_states` and its like may be lists of layers.
        flag = flag or (name.startswith("output_") and not isinstance(value, torch.Tensor))
        if not flag and (hasattr(value, "get_seq_length") or _CARRIES.search(name)):
            raise ValueError(
                f"{model} takes no {name} (got {type(value).__name__}), which would have no effect: leave it out or "
                "check its name"
            )


__all__ = ["REASONS", "refuse_unknown"]
