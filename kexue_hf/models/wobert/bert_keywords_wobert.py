"""The keywords that transformers' BERT, the base of WoBERT's classes, passes on."""

import inspect
from typing import Any

from transformers import BertModel
from transformers.utils import TransformersKwargs

from .cache_name_wobert import CACHE_NAMES, under_installed_name
from .keywords_wobert import REASONS, refuse_unknown

_KNOWN = {*inspect.signature(BertModel.forward).parameters, *TransformersKwargs.__annotations__}
_CROSS_ATTENTION = {name: reason for name, reason in REASONS.items() if name not in CACHE_NAMES}


def bert_keywords(config: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords for BERT, with a cache under the installed version's name.

    Raises:
        ValueError: a keyword carries data that BERT would ignore under this configuration.
    """
    keywords = under_installed_name(keywords)
    refuse_unknown("WoBERT", keywords, {} if config.is_decoder else _CROSS_ATTENTION, _KNOWN)
    return keywords


__all__ = ["bert_keywords"]
