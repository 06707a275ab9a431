"""Compare the model with the tokenizer in every new `Pipeline` and `Trainer`."""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from kexue_hf.integrations.hooks import Losses
from kexue_hf.vocabulary.tokenizer_check import check_pairing

CHECK = "the check that model and tokenizer belong together"
LABELS = "evaluation losses without optional labels"


def guard_pipelines(losses: Losses) -> None:
    """Have every `Pipeline` compare its model and tokenizer at the end of `__init__`."""
    check_after_init(importlib.import_module("transformers.pipelines.base").Pipeline, "tokenizer")


def guard_trainer(losses: Losses) -> None:
    """Have every `Trainer` compare its model and tokenizer at the end of `__init__`.

    It also stops requiring the labels that a class of ours declares optional (`optional_label_names`).
    """
    trainer = importlib.import_module("transformers.trainer").Trainer
    check_after_init(trainer, "processing_class", drop_optional_labels)


def drop_optional_labels(trainer: Any) -> None:
    """Remove the labels that the model declares optional from `trainer.label_names`."""
    # Trainer evaluates without a loss if any label in the signature of the model's forward pass is missing.
    optional = getattr(getattr(trainer, "model", None), "optional_label_names", ())
    if not optional or _warn_without(trainer, ("args", "label_names"), LABELS):
        return
    if trainer.args.label_names is None:
        trainer.label_names = [name for name in trainer.label_names if name not in optional]


def check_after_init(cls: type, attribute: str, then: Callable[[Any], None] | None = None) -> None:
    """Wrap `cls.__init__`: compare `self.model` with the tokenizer in `attribute`, then call `then(self)`."""
    # The ignores: mypy does not allow assigning a method, or an attribute of a function.
    init = cls.__init__  # type: ignore[misc]  # of any class
    if getattr(init, "is_guarded", False):
        return

    @functools.wraps(init)
    def checked_init(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if not _warn_without(self, ("model", attribute), CHECK):
            model, tokenizer = self.model, getattr(self, attribute)
            if model is not None and hasattr(tokenizer, "get_vocab"):
                check_pairing(model, tokenizer)
        if then is not None:
            then(self)

    checked_init.is_guarded = True  # type: ignore[attr-defined]  # a mark on the function
    cls.__init__ = checked_init  # type: ignore[misc]  # on purpose


def _warn_without(instance: Any, names: tuple[str, ...], what: str) -> bool:
    """Return whether the instance lacks one of these attributes; warn once if so."""
    missing = next((name for name in names if not hasattr(instance, name)), None)
    if missing is None:
        return False
    kind = next(cls for cls in type(instance).__mro__ if cls.__module__.startswith("transformers."))
    losses = Losses()
    losses.add(what, f"{kind.__module__}.{kind.__qualname__}.{missing}")
    losses.warn()
    return True


__all__ = ["CHECK", "LABELS", "check_after_init", "drop_optional_labels", "guard_pipelines", "guard_trainer"]
