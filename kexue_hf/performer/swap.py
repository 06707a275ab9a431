"""Swap the softmax attention of any transformers model for linear attention and back.

`use_performer` attaches a feature map to every attention module whose attention transformers can swap. The values of
the maps are persistent buffers, and their settings are in `model.config.performer` (in a model of several parts, in
the configurations of the parts too). So a folder written by `save_pretrained` gives the same outputs wherever this
package is imported (see `kexue_hf.integrations.performer_models`). Elsewhere it loads as the softmax model that it
was, and transformers reports the buffers as unexpected.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from kexue_hf.models.performer_bert.favor_performer_bert import FAVOR, MAP_NAME, SOFTMAX_MARK, register
from kexue_hf.models.performer_bert.feature_maps_performer_bert import FeatureMap, RandomFeatures, create_feature_map
from kexue_hf.models.performer_bert.redraws_performer_bert import count_steps, start_counting
from kexue_hf.performer.attention_modules import (
    attention_modules,
    heads_and_dim,
    refuse_shared_configuration,
    refuse_unsupported_attention,
)
from kexue_hf.performer.calibrate_model import AUTO, batches_of, calibrate_and_choose
from kexue_hf.performer.layer_comparison import LINEAR_ERROR, weight_sharing_copy
from kexue_hf.performer.settings import SEEDS, SETTING, settings_of, settings_to_save, validate_settings

logger = logging.get_logger(__name__)

# Marks a map created on the meta device that has no values yet.
UNFILLED = "unfilled"


def use_performer(
    model: Any,
    feature_map: str = "low_order",
    num_features: int = 256,
    norm: str = "chi",
    seed: int = 0,
    redraw: int | None = None,
    layers: Iterable[int] | str | None = None,
    texts: Iterable[Any] | None = None,
    tokenizer: Any = None,
    threshold: float = LINEAR_ERROR,
    max_length: int | None = None,
) -> Any:
    """Replace the attention of a model by linear attention, in place.

    This trains nothing: how far the outputs move depends on the model. `calibrate_performer` on some texts brings them
    closer. Linear attention has no attention weights, so these layers apply no dropout to them. `remove_performer`
    undoes the swap.

    With PEFT: an adapter's folder does not record the swap. Save the model with its maps first and load the adapter
    onto the model loaded from that folder; or merge the adapter and save the whole model.

    Args:
        model: a transformers model whose attention goes through `AttentionInterface`; for a SentenceTransformer pass
            `model[0].auto_model`.
        feature_map: "low_order", "favor+", "favor++", or "learned", which needs training: see `transfer_attention`.
        num_features: the maximum number of features per head.
        norm: the norm of random features: "chi", "sqrt_d" or "stratified".
        seed: the seed of random features. Each layer has its own draws, which are the same in every process.
        redraw: for random features, the number of optimizer steps after which new ones are drawn. Steps of any
            `torch.optim.Optimizer` that trains the model in training mode are counted; for other optimizers see
            `count_performer_step`. None: never.
        layers: the attention modules to make linear, numbered from 0 in their order in the model; the others keep
            softmax. None: all. "auto": those whose output is close enough to that of softmax on `texts`, see
            `calibrate_performer`; their maps are calibrated, and the configuration stores their numbers.
        texts, tokenizer, max_length: for "auto", what to calibrate and compare on, as for `calibrate_performer`.
        threshold: for "auto", the largest relative L2 error of a linear layer.

    Returns:
        The model.

    Raises:
        ValueError: the model is unchanged, because

            * its attention cannot be swapped, or it is a part of an encoder-decoder;
            * a part with a linear layer uses attention other than plain softmax(q·k), such as relative positions,
              windows, score limits or sinks;
            * it has its own feature maps, or masks pairs of tokens (a T-TA, a UniLM);
            * a name, size or layer does not exist;
            * redraws are set for a map that is not random;
            * "auto" comes without texts, with texts longer than the model supports, or with a model of several tasks;
            * texts come without "auto".
    """
    _check_model(model)
    _refuse_pair_masks(model)
    refuse_shared_configuration(model)
    automatic = layers == AUTO
    if isinstance(layers, str) and not automatic:
        raise ValueError(f"layers must be numbers of layers, 'auto' or None, got {layers!r}")
    if (texts is None) is automatic:
        raise ValueError(
            "layers='auto' needs texts and their tokenizer, to find out which layers may be linear"
            if texts is None
            else "texts have no effect without layers='auto': calibrate with kexue_hf.calibrate_performer"
        )
    register()
    found: dict[int, FeatureMap] = {}
    chosen: list[int] | None = None
    if texts is not None:
        trial = weight_sharing_copy(model)
        replace_maps(trial, feature_map, num_features, norm, seed, redraw)
        activate(trial)
        batches = batches_of(model, texts, tokenizer, max_length)
        found, _ = calibrate_and_choose(trial, batches, threshold, False)
        chosen = sorted(found)
    elif layers is not None and not isinstance(layers, str):
        chosen = validate_settings({**_arguments(feature_map, num_features, norm, seed, redraw), "layers": layers})[
            "layers"
        ]
        if not chosen:  # "auto" may choose no layer, a caller may not
            count = len(attention_modules(model))
            raise ValueError(f"layers must be numbers of the model's {count} attention layers, from 0 on, got none")
    settings = replace_maps(model, feature_map, num_features, norm, seed, redraw, chosen)
    for number, module in enumerate(attention_modules(model).values()):
        if number in found:
            getattr(module, MAP_NAME).load_state_dict(found[number].state_dict())
    for part in parts_of(model):
        if settings_of(part.config) is not None:
            delattr(part.config, SETTING)
    setattr(model.config, SETTING, settings)
    activate(model)
    for config, of_part in list(described_parts(model)):
        if of_part is not None:
            setattr(config, SETTING, of_part)
    logger.info("linear attention (%s): these layers apply no dropout to attention weights", feature_map)
    return model


def remove_performer(model: Any) -> Any:
    """Remove all feature maps from a model, in place: it computes softmax again and is saved without maps.

    Args:
        model: a model on which `use_performer` was called, or which was loaded from the folder of one.

    Returns:
        The model, with transformers' default attention, or with the implementation that was set in the meantime.

    Raises:
        ValueError: the architecture of the model has feature maps (performer_bert).
    """
    _check_model(model)
    for module in attention_modules(model).values():
        module._modules.pop(MAP_NAME, None)
        module.__dict__.pop(SOFTMAX_MARK, None)
    for part in parts_of(model):
        count_steps(part)
        if settings_of(part.config) is not None:
            delattr(part.config, SETTING)
        if part.config._attn_implementation == FAVOR:
            _set_implementation(part.config, part.get_correct_attn_implementation(None, is_init_check=True))
    return model


def replace_maps(
    model: Any,
    feature_map: str = "low_order",
    num_features: int = 256,
    norm: str = "chi",
    seed: int = 0,
    redraw: int | None = None,
    layers: Iterable[int] | None = None,
) -> dict[str, Any]:
    """Attach new maps to a model's attention modules, replace the old ones, and change nothing else.

    Arguments and errors are those of `use_performer`; `layers` may be empty.

    Returns:
        The settings, in the form that a configuration stores.
    """
    _refuse_pair_masks(model)
    return attach_maps(model, {**_arguments(feature_map, num_features, norm, seed, redraw), "layers": layers})


def attach_maps(model: Any, settings: dict[str, Any], replace: bool = True) -> dict[str, Any]:
    """Attach maps to the layers; return the settings, with layers counted from 0.

    The configuration is left alone: `use_performer` writes the settings, `activate` sets the implementation.

    Args:
        replace: replace all maps. If False (the model is still being built and may be part of a larger one), keep maps
            that would be identical and ignore layers that this part does not have.

    Raises:
        ValueError: wrong settings; fewer map names than layers; unknown number of heads or head_dim; or, with
            `replace`, attention that cannot be swapped, a part with a linear layer that uses attention other than
            plain softmax(q·k), or layers that do not exist. The model is then unchanged.
    """
    modules = list(attention_modules(model).values())
    if not modules and replace:
        raise ValueError(f"{type(model).__name__} has no attention that can be swapped")
    settings = validate_settings(settings)
    layers = settings["layers"]
    if layers is None:
        chosen = set(range(len(modules)))
    elif replace:
        chosen = _resolve_layers(layers, len(modules))
    else:
        chosen = set(layers)
    if replace:
        refuse_unsupported_attention(modules, chosen)
    # All maps are created before the first is attached: an error leaves the model unchanged.
    maps = [
        _create_map(module, number, settings) if number in chosen else None for number, module in enumerate(modules)
    ]
    for module, new in zip(modules, maps, strict=True):
        module.__dict__.pop(SOFTMAX_MARK, None)
        if new is None:
            module._modules.pop(MAP_NAME, None)
            setattr(module, SOFTMAX_MARK, True)
        elif replace or repr(getattr(module, MAP_NAME, None)) != repr(new):
            reference = next(module.parameters(), None)
            if reference is not None and reference.device.type != "meta":
                new.to(reference.device)
            else:
                setattr(new, UNFILLED, True)
            setattr(module, MAP_NAME, new.train(module.training))
    # Parts of the model are counted too, because they may be trained on their own.
    for part in model.modules():
        if part is model or isinstance(part, PreTrainedModel):
            count_steps(part)
    return {**settings, "layers": None if layers is None else sorted(chosen)}


def _create_map(module: nn.Module, number: int, settings: dict[str, Any]) -> FeatureMap:
    heads, head_dim = heads_and_dim(module)
    # Each layer has its own draws.
    seed = settings["seed"] * SEEDS + settings.get("offset", 0) + number
    kind = settings["feature_map"]
    # One name for all layers or, as `transfer_attention` may choose, one for each.
    if not isinstance(kind, str):
        if number >= len(kind):
            raise ValueError(f"feature_map must name a map for each layer, got {len(kind)} names for layer {number}")
        kind = kind[number]
    created = create_feature_map(kind, head_dim, settings["num_features"], heads, settings["norm"], seed)
    if settings["redraw"] is not None and isinstance(created, RandomFeatures):
        start_counting(created, settings["redraw"])
    return created


def _resolve_layers(layers: list[Any], count: int) -> set[int]:
    """Return the layer numbers, resolving negative ones."""
    if any(not -count <= layer < count for layer in layers):
        raise ValueError(f"layers must be numbers of the model's {count} attention layers, from 0 on, got {layers}")
    return {layer % count for layer in layers}


def activate(model: Any, requested: Mapping[int, str | None] | None = None) -> None:
    """Set the implementation to "favor" for layers with maps, and for the models around them, which create the masks.

    Args:
        requested: implementations by the id of a configuration; these configurations keep theirs.
    """
    configs = [model.config]
    for part in parts_of(model):
        linear = [module for module in attention_modules(part).values() if MAP_NAME in module._modules]
        if linear:
            configs += [part.config, *(getattr(module, "config", None) for module in linear)]
    for config in configs:
        if config is not None and (requested or {}).get(id(config)) is None:
            _set_implementation(config, FAVOR)


def _set_implementation(config: Any, name: str) -> None:
    """Set a configuration's attention implementation, and leave its sub-configurations as they are.

    `model.set_attn_implementation` would also change parts without a linear layer.
    """

    def unchanged(config: Any) -> dict[str, Any]:
        subs = {key: getattr(config, key, None) for key in getattr(config, "sub_configs", {})}
        return {key: {"": sub._attn_implementation, **unchanged(sub)} for key, sub in subs.items() if sub is not None}

    config._attn_implementation = {**unchanged(config), "": name}


def parts_of(model: Any) -> list[Any]:
    """Return every PreTrainedModel inside `model`, including itself."""
    return [part for part in model.modules() if isinstance(part, PreTrainedModel)]


def described_parts(model: Any) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Yield the configurations of a model and of its parts, each with the settings to save in it."""
    whole = settings_of(model.config)
    seen: set[int] = set()
    for part in parts_of(model):
        config = part.config
        # If parts share a configuration, use the outermost.
        if id(config) in seen:
            continue
        seen.add(id(config))
        settings = settings_of(config) or (None if hasattr(config, SETTING) else whole)
        modules = list(attention_modules(part).values())
        if settings is not None and modules:
            linear = [module for module in modules if MAP_NAME in module._modules]
            configs = [getattr(module, "config", config) for module in linear] or [config]
            yield (
                config,
                settings_to_save(settings, modules, any(one._attn_implementation == FAVOR for one in configs)),
            )


def _arguments(feature_map: Any, num_features: Any, norm: Any, seed: Any, redraw: Any) -> dict[str, Any]:
    return {
        "feature_map": feature_map, "num_features": num_features, "norm": norm, "seed": seed, "redraw": redraw,
        "layers": None,
    }  # fmt: skip


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module) or not callable(getattr(model, "set_attn_implementation", None)):
        raise ValueError(
            f"expected a transformers model, got {type(model).__name__} (for a SentenceTransformer pass "
            "model[0].auto_model)"
        )
    if any(getattr(part.config, "model_type", None) == "performer_bert" for part in parts_of(model)):
        raise ValueError("performer_bert already has feature maps: choose them in its configuration")


def _refuse_pair_masks(model: Any) -> None:
    for part in parts_of(model):
        if getattr(part, "needs_pairwise_mask", False):
            raise ValueError(
                f"linear attention cannot mask pairs of tokens, and {type(part).__name__} masks some of them (the "
                "diagonal in a T-TA, later tokens in a UniLM): use another head or model"
            )


__all__ = [
    "UNFILLED",
    "activate",
    "attach_maps",
    "described_parts",
    "parts_of",
    "remove_performer",
    "replace_maps",
    "use_performer",
]
