"""Feature maps as modules of a model: hung on its attention modules, put to use, and said in settings.

Both `use_performer`, on a model that there is, and restoring_performer_bert.py, on one that is being made, do it by
these. No settings are written here, `activate` sets the implementation alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from transformers.modeling_utils import PreTrainedModel

from .exchange_performer_bert import attention_modules, heads_and_dim, refuse_what_has_no_place
from .favor_performer_bert import FAVOR, MAP_NAME, SOFTMAX_MARK
from .feature_maps_performer_bert import FeatureMap, RandomFeatures, create_feature_map
from .redraws_performer_bert import count_steps, start_counting
from .settings_performer_bert import SEEDS, SETTING, checked, described, settings_of


def parts_of(model: Any) -> list[Any]:
    """The models of transformers that a model is made of, itself among them."""
    return [part for part in model.modules() if isinstance(part, PreTrainedModel)]


def attach(model: Any, settings: dict[str, Any], anew: bool) -> dict[str, Any]:
    """Hang maps on the layers; return the settings, with layers counted from 0.

    Args:
        anew: replace all maps. If not, the model may be part of another one that is being made, which comes last and
            has the last word: what it would make in the same way stays, and layers that the part has not are no error.

    Raises:
        ValueError: wrong settings; fewer names of maps than layers; heads or head_dim that cannot be told; or, anew, a
            model without exchangeable attention, with attention that is more than softmax of q . k in a part that is
            to have a linear layer, or layers that do not exist. The model is then as it was.
    """
    modules = list(attention_modules(model).values())
    if not modules and anew:
        raise ValueError(f"{type(model).__name__} has no attention that can be exchanged")
    settings = checked(settings)
    layers = settings["layers"]
    if layers is None:
        chosen = set(range(len(modules)))
    elif anew:
        chosen = _chosen(layers, len(modules))
    else:
        chosen = set(layers)
    if anew:
        refuse_what_has_no_place(modules, chosen)
    # All are made before the first is attached: an error leaves the model as it was.
    made = [_make(module, number, settings) if number in chosen else None for number, module in enumerate(modules)]
    for module, created in zip(modules, made, strict=True):
        module.__dict__.pop(SOFTMAX_MARK, None)
        if created is None:
            module._modules.pop(MAP_NAME, None)
            setattr(module, SOFTMAX_MARK, True)
        elif anew or repr(getattr(module, MAP_NAME, None)) != repr(created):
            reference = next(module.parameters(), None)
            if reference is not None and reference.device.type != "meta":
                created.to(reference.device)
                # Complete: nothing is to be initialised. What is made without storage is filled from a file.
                created.__dict__["_is_hf_initialized"] = True
            setattr(module, MAP_NAME, created.train(module.training))
    # Parts as well: they may be trained without the whole.
    for part in model.modules():
        if part is model or isinstance(part, PreTrainedModel):
            count_steps(part)
    return {**settings, "layers": None if layers is None else sorted(chosen)}


def _make(module: nn.Module, number: int, settings: dict[str, Any]) -> FeatureMap:
    heads, head_dim = heads_and_dim(module)
    # Other draws for every layer.
    seed = settings["seed"] * SEEDS + settings.get("offset", 0) + number
    kind = settings["feature_map"]
    # One for all layers; or, where attention transfer has chosen, one for each.
    if not isinstance(kind, str):
        if number >= len(kind):
            raise ValueError(f"feature_map must name a map for each layer, got {len(kind)} names for layer {number}")
        kind = kind[number]
    created = create_feature_map(kind, head_dim, settings["num_features"], heads, settings["norm"], seed)
    if settings["redraw"] is not None and isinstance(created, RandomFeatures):
        start_counting(created, settings["redraw"])
    return created


def _chosen(layers: list[Any], count: int) -> set[int]:
    wrong = [layer for layer in layers if not -count <= layer < count]
    if wrong:
        raise ValueError(f"layers must be numbers of the model's {count} attention layers, from 0 on, got {layers}")
    return {layer % count for layer in layers}


def activate(model: Any, asked: Mapping[int, str | None] | None = None) -> None:
    """Set "favor" for the layers with maps, and for the models that they are part of: those make the masks.

    Args:
        asked: implementations by the id of a configuration; those are left.
    """
    wanted = [model.config]
    for part in parts_of(model):
        linear = [module for module in attention_modules(part).values() if MAP_NAME in module._modules]
        if linear:
            wanted += [part.config, *(getattr(module, "config", None) for module in linear)]
    for config in wanted:
        if config is not None and (asked or {}).get(id(config)) is None:
            # Not set_attn_implementation, which reaches the parts that have no linear layer, too.
            config._attn_implementation_internal = FAVOR


def described_parts(model: Any) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Configurations of a model and of its parts, and the settings that each is to be saved with."""
    whole = settings_of(model.config)
    seen: set[int] = set()
    for part in parts_of(model):
        config = part.config
        # The outermost of those that have it.
        if id(config) in seen:
            continue
        seen.add(id(config))
        settings = settings_of(config) or (None if hasattr(config, SETTING) else whole)
        modules = list(attention_modules(part).values())
        if settings is not None and modules:
            linear = [module for module in modules if MAP_NAME in module._modules]
            configs = [getattr(module, "config", config) for module in linear] or [config]
            yield config, described(settings, modules, any(one._attn_implementation == FAVOR for one in configs))


__all__ = ["activate", "attach", "described_parts", "parts_of"]
