"""Which keywords transformers' BERT, from which WoBERT's classes are derived, passes on."""

import inspect
from typing import Any

from transformers import BertModel
from transformers.utils import TransformersKwargs

from .cache_name_wobert import CACHE_NAMES
from .keywords_wobert import REASONS, refuse_unknown

_KNOWN = {*inspect.signature(BertModel.forward).parameters, *TransformersKwargs.__annotations__}
_CROSS_ATTENTION = {name: reason for name, reason in REASONS.items() if name not in CACHE_NAMES}


def refuse_unknown_to_bert(config: Any, keywords: dict[str, Any]) -> None:
    """Raise ValueError for a keyword that carries data and that BERT with this configuration would ignore."""
    refuse_unknown("WoBERT", keywords, {} if config.is_decoder else _CROSS_ATTENTION, _KNOWN)


__all__ = ["refuse_unknown_to_bert"]
