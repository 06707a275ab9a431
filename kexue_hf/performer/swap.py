"""Linear attention in any model of transformers, and softmax again: `use_performer` and `remove_performer`.

`use_performer` hangs a map on every attention module whose attention transformers can exchange. The maps' numbers are
persistent buffers and their settings lie in `model.config.performer` (of a model of several parts, in the parts'
configurations as well), so that a folder written by `save_pretrained` loads to the same outputs wherever this package
is imported (restoring_performer_bert.py). Elsewhere it loads as the softmax model that it was, with a word about the
buffers that are left over.

Feature maps as modules of a model: hung on its attention modules, put to use, and said in settings.

Both `use_performer`, on a model that there is, and restoring_performer_bert.py, on one that is being made, do it by
these. No settings are written here, `activate` sets the implementation alone.
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
    refuse_what_has_no_place,
)
from kexue_hf.performer.calibrate_model import AUTO, batches_of, calibrate_and_choose
from kexue_hf.performer.layer_comparison import LINEAR_ERROR, twin_of
from kexue_hf.performer.settings import SEEDS, SETTING, checked, described, settings_of


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


logger = logging.get_logger(__name__)


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

    Nothing is trained: how far the result is from the model as it was depends on the model. `calibrate_performer` on
    some texts brings it nearer. Dropout of attention weights is left out in these layers, for there are none.
    `remove_performer` takes it back.

    With PEFT: the folder of an adapter knows nothing of this. Save the model itself first, with its maps, load the
    adapter onto what is loaded from there; or merge the adapter and save the whole.

    Args:
        model: a model of transformers whose attention goes through its `AttentionInterface`; of sentence-transformers
            `model[0].auto_model`.
        feature_map: "low_order", "favor+" or "favor++"; or "learned", which is to be trained: `transfer_attention`.
        num_features: at most so many features a head.
        norm: of random features: "chi", "sqrt_d" or "stratified".
        seed: of random features; every layer has draws of its own, the same in every process.
        redraw: for random features, after how many optimiser steps new ones are drawn: steps of any
            `torch.optim.Optimizer` that trains the model, counted in training mode; where another one does, see
            `count_performer_step`. None: never.
        layers: which of the attention modules, counted from 0 in their order in the model; the others stay softmax.
            None: all. "auto": those whose own output is near enough to softmax's on `texts`, see
            `calibrate_performer`; their maps are calibrated then, and the numbers are stored in the configuration.
        texts, tokenizer, max_length: for "auto", what to calibrate and to compare on, as of `calibrate_performer`.
        threshold: for "auto", up to which relative L2 error a layer is linear.

    Returns:
        The model.

    Raises:
        ValueError: a model without exchangeable attention, or with attention that is more than softmax of q . k
            (relative positions, windows, limits of the scores, sinks) in a part that is to have a linear layer, or
            that has feature maps of its own or masks pairs of tokens (a T-TA, a UniLM); a part that shares its
            configuration with layers outside; a name, size or layer that does not exist; redraws of a map that is not
            random; or "auto" without texts, or texts without it, or longer ones than the model takes, or for a model
            of several tasks. The model is then as it was.
    """
    _check_model(model)
    _refuse_masks_of_pairs(model)
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
        twin = twin_of(model)
        replace_maps(twin, feature_map, num_features, norm, seed, redraw)
        activate(twin)
        batches = batches_of(model, texts, tokenizer, max_length)
        found, _ = calibrate_and_choose(twin, batches, threshold, False)
        chosen = sorted(found)
    elif layers is not None and not isinstance(layers, str):
        chosen = checked({**_arguments(feature_map, num_features, norm, seed, redraw), "layers": layers})["layers"]
        if not chosen:  # What was found may be empty, what is asked for may not.
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
    logger.info("linear attention (%s): weights of attention have no dropout in these layers", feature_map)
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
    """Hang new maps on a model's attention modules in place of all that are there, and change nothing else.

    Arguments and errors are those of `use_performer`; `layers` may be empty.

    Returns:
        The settings, as a configuration holds them.
    """
    _refuse_masks_of_pairs(model)
    return attach(model, {**_arguments(feature_map, num_features, norm, seed, redraw), "layers": layers}, anew=True)


def _arguments(feature_map: Any, num_features: Any, norm: Any, seed: Any, redraw: Any) -> dict[str, Any]:
    return {
        "feature_map": feature_map, "num_features": num_features, "norm": norm, "seed": seed, "redraw": redraw,
        "layers": None,
    }  # fmt: skip


def remove_performer(model: Any) -> Any:
    """Take all feature maps off a model, in place: it is the softmax model that it was, and is saved as one.

    Args:
        model: one on which `use_performer` was called, or that was loaded from its folder.

    Returns:
        The model, with transformers' usual attention, or the one that it had been set to meanwhile.

    Raises:
        ValueError: a model that has feature maps of its own.
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
            part.config._attn_implementation_internal = part.get_correct_attn_implementation(None, is_init_check=True)
    return model


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module) or not callable(getattr(model, "set_attn_implementation", None)):
        raise ValueError(
            f"expected a model of transformers, got {type(model).__name__} (of sentence-transformers, pass "
            "model[0].auto_model)"
        )
    if any(getattr(part.config, "model_type", None) == "performer_bert" for part in parts_of(model)):
        raise ValueError("performer_bert has feature maps of its own: choose them in its configuration")


def _refuse_masks_of_pairs(model: Any) -> None:
    for part in parts_of(model):
        if getattr(part, "masks_pairs", False):
            raise ValueError(
                f"linear attention forms no pairs of tokens, and {type(part).__name__} masks some of them (the tokens "
                "themselves in a T-TA, what follows in a UniLM): take another head or model"
            )


__all__ = ["activate", "attach", "described_parts", "parts_of", "remove_performer", "replace_maps", "use_performer"]
