"""Hooks into `Pipeline` and `Trainer`: each new one compares its model with its tokenizer."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from kexue_hf.vocabulary.pairing import check_pairing


def guard_pipelines(module: ModuleType) -> None:
    """Have every `Pipeline` in `transformers.pipelines.base` compare its model and tokenizer once it is made."""
    _check_after_init(module.Pipeline, "tokenizer")


def guard_trainer(module: ModuleType) -> None:
    """Have every `Trainer` in `transformers.trainer` compare its model and tokenizer once it is made.

    It also no longer requires the labels that a class of ours calls optional (`optional_label_names`).
    """
    _check_after_init(module.Trainer, "processing_class", _require_no_optional_labels)


def _require_no_optional_labels(trainer: Any) -> None:
    # Trainer evaluates without a loss where any label that the model's signature names is missing.
    optional = getattr(trainer.model, "optional_label_names", ())
    if optional and trainer.args.label_names is None:
        trainer.label_names = [name for name in trainer.label_names if name not in optional]


def _check_after_init(cls: type, attribute: str, then: Callable[[Any], None] | None = None) -> None:
    # The ignores: mypy takes a class's __init__ for fixed, and a function for something without attributes.
    init = cls.__init__  # type: ignore[misc]
    if getattr(init, "is_guarded", False):
        return

    @functools.wraps(init)
    def checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        model, tokenizer = getattr(self, "model", None), getattr(self, attribute, None)
        if model is not None and hasattr(tokenizer, "get_vocab"):
            check_pairing(model, tokenizer)
        if then is not None:
            then(self)

    checked_init.is_guarded = True  # type: ignore[attr-defined]
    cls.__init__ = checked_init  # type: ignore[misc]
