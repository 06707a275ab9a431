"""Save feature maps with a model, and create them before `from_pretrained` fills them from a file.

transformers does not know feature maps, so `keep_feature_maps` changes its base class: a model whose configuration has
performer settings gets its maps at the end of its construction, and describes its maps in its configuration when it is
saved.

A model that is loaded with an explicit `attn_implementation` uses that one. A model that was saved while set to
another implementation than "favor" uses transformers' default. Both have their maps, and
`set_attn_implementation("favor")` uses them.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from transformers.modeling_utils import PreTrainedModel

from kexue_hf.models.performer_bert.favor_performer_bert import FAVOR, register
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap
from kexue_hf.models.performer_bert.redraws_performer_bert import fill_missing
from kexue_hf.performer.attention_modules import has_only_fixed_attention
from kexue_hf.performer.settings import SETTING, settings_of
from kexue_hf.performer.swap import UNFILLED, activate, attach_maps, described_parts

# On a model under construction: the requested implementation, by id of the configuration.
_REQUESTED = "_favor_requested"


def keep_feature_maps() -> None:
    """Wrap the methods of `PreTrainedModel` that construct, initialise and save a model."""
    # Any: mypy does not allow assigning methods, or attributes of functions.
    model_class: Any = PreTrainedModel
    construct, post_init = model_class.__init__, model_class.post_init
    initialize, save = model_class.initialize_weights, model_class.save_pretrained
    if getattr(post_init, "creates_feature_maps", False):
        return

    @functools.wraps(construct)
    def construct_and_note(self: Any, *args: Any, **kwargs: Any) -> None:
        # Afterwards a requested implementation looks like a default one.
        config = args[0] if args else kwargs.get("config")
        requested = _implementations(config) if hasattr(config, SETTING) else None
        construct(self, *args, **kwargs)
        if requested is not None:
            self.__dict__[_REQUESTED] = requested

    @functools.wraps(post_init)
    def post_init_with_maps(self: Any, *args: Any, **kwargs: Any) -> None:
        post_init(self, *args, **kwargs)
        create_maps(self)

    @functools.wraps(initialize)
    def initialize_with_maps(self: Any, *args: Any, **kwargs: Any) -> None:
        initialize(self, *args, **kwargs)
        for module in self.modules():
            if isinstance(module, FeatureMap) and UNFILLED in module.__dict__:
                fill_unfilled(module)

    @functools.wraps(save)
    def save_with_settings(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _settings_in_configurations(self):
            return save(self, *args, **kwargs)

    post_init_with_maps.creates_feature_maps = True  # type: ignore[attr-defined]  # a mark on the function
    model_class.__init__, model_class.post_init = construct_and_note, post_init_with_maps
    model_class.initialize_weights, model_class.save_pretrained = initialize_with_maps, save_with_settings


def create_maps(model: Any) -> None:
    """Attach the feature maps that a new model's configuration asks for.

    Raises:
        ValueError: "favor" is requested for a model whose attention cannot be swapped; or wrong settings.
    """
    requested = model.__dict__.pop(_REQUESTED, {})
    settings = settings_of(model.config)
    if settings is not None:
        register()
        attach_maps(model, settings, replace=False)
        wanted = requested.get(id(model.config))
        if wanted == FAVOR or (wanted is None and settings.get("active", True)):
            activate(model, requested)
    elif getattr(model.config, "_attn_implementation", None) == FAVOR and has_only_fixed_attention(model):
        raise ValueError(
            f"{type(model).__name__} computes its attention itself, which cannot be swapped: load it without "
            "attn_implementation='favor'"
        )


def fill_unfilled(feature_map: FeatureMap) -> None:
    """Initialise a map that was created on the meta device and that no file has filled, once it has storage."""
    if not any(tensor.is_meta for tensor in (*feature_map.buffers(), *feature_map.parameters())):
        del feature_map.__dict__[UNFILLED]
        fill_missing(feature_map)


def _implementations(config: Any) -> dict[int, str | None]:
    """Return the attention implementations of a configuration and of its sub-configurations, by id."""
    found = {id(config): getattr(config, "_attn_implementation", None)}
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None:
            found.update(_implementations(part))
    return found


@contextlib.contextmanager
def _settings_in_configurations(model: Any) -> Iterator[None]:
    """Within the block, make all configurations describe the maps that the model has and whether it uses them."""
    before = []
    try:
        for config, settings in list(described_parts(model)):
            before.append((config, vars(config).get(SETTING)))
            _set_settings(config, settings)
        yield
    finally:
        for config, settings in before:
            _set_settings(config, settings)


def _set_settings(config: Any, settings: dict[str, Any] | None) -> None:
    if settings is None:
        vars(config).pop(SETTING, None)
    else:
        setattr(config, SETTING, settings)


__all__ = ["create_maps", "fill_unfilled", "keep_feature_maps"]
