"""Feature maps of a model that is saved and loaded again: written as they are, and attached before a file fills them.

transformers knows nothing of maps, so that `restore_after_construction` changes its base class: every model whose
configuration has settings gets its maps when it is made, and says in its configuration what it has when it is saved.

A model that is loaded with an `attn_implementation` has that one, and one that had been set to another than "favor"
when it was saved has the usual one; the maps are there, and `set_attn_implementation("favor")` puts them to use.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from torch import nn

from kexue_hf.models.performer_bert.favor_performer_bert import FAVOR, register
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap
from kexue_hf.models.performer_bert.redraws_performer_bert import fill_missing
from kexue_hf.performer.settings import SETTING, settings_of
from kexue_hf.performer.swap import activate, attach, described_parts

# Of a model that is being made: by configuration, which implementation its maker has asked for.
_ASKED = "_favor_asked"


def restore_after_construction(model_class: type) -> None:
    """Have every model of transformers call `restore` once it is made."""
    # The ignores: mypy takes methods for fixed, and a function for something without attributes.
    construct = model_class.__init__  # type: ignore[misc]
    save = model_class.save_pretrained  # type: ignore[attr-defined]
    post_init = model_class.post_init  # type: ignore[attr-defined]
    initialize = model_class._initialize_weights  # type: ignore[attr-defined]
    if getattr(post_init, "restores_performer", False):
        return

    @functools.wraps(construct)
    def construct_and_note(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        # Afterwards there is no telling what was asked for from what was filled in.
        asked = _implementations(config) if hasattr(config, SETTING) else None
        construct(self, config, *args, **kwargs)
        if asked is not None:
            self.__dict__[_ASKED] = asked

    @functools.wraps(save)
    def save_as_it_is(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _saved_as_it_is(self):
            return save(self, *args, **kwargs)

    @functools.wraps(post_init)
    def post_init_and_restore(self: Any, *args: Any, **kwargs: Any) -> None:
        post_init(self, *args, **kwargs)
        restore(self)

    @functools.wraps(initialize)
    def initialize_maps_too(self: Any, module: nn.Module, *args: Any, **kwargs: Any) -> None:
        # Whatever the file has not, the model's own `_init_weights` knows nothing of it.
        if isinstance(module, FeatureMap) and not getattr(module, "_is_hf_initialized", False):
            fill_missing(module)
        initialize(self, module, *args, **kwargs)

    post_init_and_restore.restores_performer = True  # type: ignore[attr-defined]
    model_class.__init__ = construct_and_note  # type: ignore[misc]
    model_class.save_pretrained = save_as_it_is  # type: ignore[attr-defined]
    model_class.post_init = post_init_and_restore  # type: ignore[attr-defined]
    model_class._initialize_weights = initialize_maps_too  # type: ignore[attr-defined]


def restore(model: Any) -> None:
    """Called at the end of every model's construction: attach what its configuration asks for.

    Raises:
        ValueError: "favor" is asked for where attention cannot be exchanged; or wrong settings.
    """
    asked = model.__dict__.pop(_ASKED, {})
    settings = settings_of(model.config)
    if settings is not None:
        register()
        attach(model, settings, anew=False)
        wanted = asked.get(id(model.config))
        if wanted == FAVOR or (wanted is None and settings.get("active", True)):
            activate(model, asked)
    elif getattr(model.config, "_attn_implementation", None) == FAVOR and not model._can_set_attn_implementation():
        raise ValueError(
            f"the attention of {type(model).__name__} is its own and cannot be exchanged: 'favor' has no meaning there"
        )


def _implementations(config: Any) -> dict[int, str | None]:
    found = {id(config): getattr(config, "_attn_implementation", None)}
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None:
            found.update(_implementations(part))
    return found


@contextlib.contextmanager
def _saved_as_it_is(model: Any) -> Iterator[None]:
    """Within the block all configurations say what hangs on the model's layers, and whether it is in use."""
    before = []
    try:
        for config, settings in list(described_parts(model)):
            before.append((config, vars(config).get(SETTING)))
            if settings is None:
                vars(config).pop(SETTING, None)
            else:
                setattr(config, SETTING, settings)
        yield
    finally:
        for config, settings in before:
            if settings is None:
                vars(config).pop(SETTING, None)
            else:
                setattr(config, SETTING, settings)


__all__ = ["restore", "restore_after_construction"]
