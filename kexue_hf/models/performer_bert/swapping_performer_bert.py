"""Feature maps on any model of transformers: attached, redrawn, calibrated, and back after loading.

`use_performer` hangs a map on every attention module whose attention transformers can exchange. The maps' numbers are
persistent buffers and their settings lie in `model.config.performer` (of a model of several parts, in the parts'
configurations as well), so that a folder written by `save_pretrained` loads to the same outputs wherever this package
is imported. Elsewhere it loads as the softmax model that it was, with a word about the buffers that are left over.

A model that is loaded with an `attn_implementation` has that one, and one that had been set to another than "favor"
when it was saved has the usual one; the maps are there, and `set_attn_implementation("favor")` puts them to use.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from tqdm import tqdm
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

from .calibration_performer_bert import calibrate
from .comparison_performer_bert import LINEAR_ERROR, compare_layers, near_enough, on_device, twin_of
from .exchange_performer_bert import (
    attention_modules,
    heads_and_dim,
    refuse_shared_configuration,
    refuse_what_has_no_place,
)
from .favor_performer_bert import FAVOR, MAP_NAME, RECORDER, SOFTMAX_MARK, register
from .feature_maps_performer_bert import FeatureMap, RandomFeatures, create_feature_map
from .redraws_performer_bert import count_steps, fill_missing, start_counting
from .settings_performer_bert import SEEDS, SETTING, checked, described, settings_of

logger = logging.get_logger(__name__)

AUTO = "auto"
# Of a model that is being made: by configuration, which implementation its maker has asked for.
_ASKED = "_favor_asked"
# Tokens, padding included, whose queries and keys are held for calibration.
MOST_POSITIONS = 16_384


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
    max_length: int = 256,
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
            that has feature maps of its own; a part that shares its configuration with layers outside; a name, size
            or layer that does not exist; redraws of a map that is not random; or "auto" without texts, or texts
            without it. The model is then as it was.
    """
    _check_model(model)
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
        _activate(twin)
        batches = _batches(texts, tokenizer, max_length)
        found, _ = _calibrate_and_choose(twin, batches, threshold, False)
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
    for part in _parts(model):
        if settings_of(part.config) is not None:
            delattr(part.config, SETTING)
    setattr(model.config, SETTING, settings)
    _activate(model)
    for config, of_part in list(_described(model)):
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
    return _attach(model, {**_arguments(feature_map, num_features, norm, seed, redraw), "layers": layers}, anew=True)


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
    for part in _parts(model):
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
    if any(getattr(part.config, "model_type", None) == "performer_bert" for part in _parts(model)):
        raise ValueError("performer_bert has feature maps of its own: choose them in its configuration")


def _parts(model: Any) -> list[Any]:
    """The models of transformers that a model is made of, itself among them."""
    return [part for part in model.modules() if isinstance(part, PreTrainedModel)]


def _activate(model: Any, asked: Mapping[int, str | None] | None = None) -> None:
    """Set "favor" for the layers with maps, and for the models that they are part of: those make the masks.

    Args:
        asked: implementations by the id of a configuration; those are left.
    """
    wanted = [model.config]
    for part in _parts(model):
        linear = [module for module in attention_modules(part).values() if MAP_NAME in module._modules]
        if linear:
            wanted += [part.config, *(getattr(module, "config", None) for module in linear)]
    for config in wanted:
        if config is not None and (asked or {}).get(id(config)) is None:
            # Not set_attn_implementation, which reaches the parts that have no linear layer, too.
            config._attn_implementation_internal = FAVOR


def _described(model: Any) -> Iterator[tuple[Any, dict[str, Any] | None]]:
    """Configurations of a model and of its parts, and the settings that each is to be saved with."""
    whole = settings_of(model.config)
    seen: set[int] = set()
    for part in _parts(model):
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


@contextlib.contextmanager
def _saved_as_it_is(model: Any) -> Iterator[None]:
    """Within the block all configurations say what hangs on the model's layers, and whether it is in use."""
    before = []
    try:
        for config, settings in list(_described(model)):
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


def restore(model: Any) -> None:
    """Called at the end of every model's construction: attach what its configuration asks for.

    Raises:
        ValueError: "favor" is asked for where attention cannot be exchanged; or wrong settings.
    """
    asked = model.__dict__.pop(_ASKED, {})
    settings = settings_of(model.config)
    if settings is not None:
        register()
        _attach(model, settings, anew=False)
        wanted = asked.get(id(model.config))
        if wanted == FAVOR or (wanted is None and settings.get("active", True)):
            _activate(model, asked)
    elif getattr(model.config, "_attn_implementation", None) == FAVOR and not model._can_set_attn_implementation():
        raise ValueError(
            f"the attention of {type(model).__name__} is its own and cannot be exchanged: 'favor' has no meaning there"
        )


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


def _implementations(config: Any) -> dict[int, str | None]:
    found = {id(config): getattr(config, "_attn_implementation", None)}
    for name in getattr(config, "sub_configs", {}):
        part = getattr(config, name, None)
        if part is not None:
            found.update(_implementations(part))
    return found


def _attach(model: Any, settings: dict[str, Any], anew: bool) -> dict[str, Any]:
    """Hang maps on the layers; return the settings, with layers counted from 0.

    Args:
        anew: replace all maps. If not, the model may be part of another one that is being made, which comes last and
            has the last word: what it would make in the same way stays, and layers that the part has not are no error.
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


@torch.no_grad()
def calibrate_performer(
    model: Any,
    batches: Iterable[Any],
    tokenizer: Any = None,
    *,
    max_length: int = 256,
    batch_size: int = 8,
    progress: bool = False,
    threshold: float = LINEAR_ERROR,
) -> dict[str, torch.Tensor]:
    """Fit the constants of every feature map of a model to its own queries and keys.

    The model runs over the texts once as the softmax model that it was, and exact softmax is computed in float64: some
    ten texts of some hundred tokens do. Low orders need at least 2 head_dim tokens in all. Queries and keys of up to
    `MOST_POSITIONS` tokens, padding included, are held in memory, 1.2 GB for a BERT-base in float32: of more, every
    other batch is left out, or three of four and so on, down to one batch. Time grows with the square of a text's
    length.

    Where the configuration of a performer_bert has `linear_layers="auto"`, only every other text (or batch, or row) is
    calibrated on. On the rest each layer is compared with softmax, given the softmax model's own inputs; layers
    that are farther off than `threshold` stay softmax, and the configuration then names the others.

    Args:
        model: one that has feature maps, from `use_performer` or of type performer_bert.
        batches: inputs of the model, mappings of tensors (what is no tensor is passed on as it is); or texts, if
            `tokenizer` is given.
        tokenizer: makes batches of `batch_size` texts of at most `max_length` tokens.
        progress: show a bar on stderr.
        threshold: for "auto", up to which relative L2 error of its own output a layer is linear.

    Returns:
        For each map, by its name in the model, what `calibrate` returns: one number a head. Of layers that become
        softmax too.

    Raises:
        ValueError: a model without maps, or set to another implementation; nothing to calibrate on, or too little for
            low orders (see `calibrate`); for "auto" less than two texts.
    """
    maps = {name: module for name, module in model.named_modules() if isinstance(module, FeatureMap)}
    if not maps:
        raise ValueError("the model has no feature maps: attach them with kexue_hf.use_performer(model)")
    for module in attention_modules(model).values():
        # Of a Performer BERT another implementation is the softmax that it has besides.
        config = getattr(module, "config", None)
        other = getattr(config, "_attn_implementation", FAVOR)
        if MAP_NAME in module._modules and other != FAVOR and settings_of(config) is not None:
            raise ValueError(
                f"the model is set to {other!r}, its feature maps are not in use: call "
                "model.set_attn_implementation('favor') first"
            )
    if tokenizer is not None:
        batches = _batches(batches, tokenizer, max_length, batch_size)
    if getattr(model.config, "linear_layers", None) != AUTO:
        return _calibrate(model, maps, batches, progress)
    found, results = _calibrate_and_choose(model, batches, threshold, progress)
    for number, module in enumerate(attention_modules(model).values()):
        if number not in found:
            module._modules.pop(MAP_NAME, None)
            setattr(module, SOFTMAX_MARK, True)
    model.config.linear_layers = sorted(found)
    return results


def _batches(texts: Iterable[Any], tokenizer: Any, max_length: int, batch_size: int = 8) -> list[Any]:
    """Texts as inputs of a model; what are inputs already, without a tokenizer, as they are."""
    if isinstance(texts, str):
        raise ValueError("expected several texts, got a single string: put texts into a list")
    texts = list(texts)
    if tokenizer is None:
        return texts
    return [
        tokenizer(texts[i : i + batch_size], padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        for i in range(0, len(texts), batch_size)
    ]


def _calibrate_and_choose(
    model: Any, batches: Iterable[Any], threshold: float, progress: bool
) -> tuple[dict[int, FeatureMap], dict[str, torch.Tensor]]:
    """Calibrate on one half; the maps of the layers that are near enough to softmax on the other, by number."""
    if not threshold > 0:
        raise ValueError(f"threshold must be a positive number, got {threshold}")
    calibrating, comparing = _halves(list(batches))
    modules = attention_modules(model)
    maps = {module: found for module in modules.values() if (found := getattr(module, MAP_NAME, None)) is not None}
    names = {name: module for name, module in model.named_modules() if isinstance(module, FeatureMap)}
    results = _calibrate(model, names, calibrating, progress)
    modes = [module for module in model.modules() if module.training]
    model.eval()
    try:
        seen = compare_layers(model, comparing, maps)
    finally:
        for module in modes:
            module.training = True
    found = {}
    for number, module in enumerate(modules.values()):
        errors = seen.get(module)
        if errors is None or not errors.positions:
            continue
        if near_enough(float(errors.error("map")), float(errors.mean_error()), threshold):
            found[number] = maps[module]
    if not found:
        logger.warning(
            "no layer of %s is within %g of softmax on these texts: all stay softmax (kexue-hf performer-report shows "
            "how far off each is)",
            type(model).__name__,
            threshold,
        )
    else:
        logger.info("linear attention in layers %s of %d", sorted(found), len(modules))
    return found, results


def _halves(batches: list[Any]) -> tuple[list[Any], list[Any]]:
    """Every other row of each batch; of batches of one row, every other batch."""
    first: list[Any] = []
    second: list[Any] = []
    lead = 0  # rows that the first half has more
    for batch in batches:
        if not isinstance(batch, Mapping):
            raise ValueError(f"a batch is a mapping of the model's inputs, got {type(batch).__name__}")
        tensors = {name for name, states in batch.items() if torch.is_tensor(states) and states.dim()}
        rows = min((len(batch[name]) for name in tensors), default=0)
        for start in range(min(2, rows)):
            part = {name: states[start::2] if name in tensors else states for name, states in batch.items()}
            (second if lead > 0 else first).append(part)
            lead += -len(range(start, rows, 2)) if lead > 0 else len(range(start, rows, 2))
    if not second:
        raise ValueError(
            "'auto' needs at least two texts, one to calibrate on and one to compare on: give more of them"
        )
    return first, second


def _calibrate(
    model: Any, maps: dict[str, FeatureMap], batches: Iterable[Any], progress: bool
) -> dict[str, torch.Tensor]:
    # Of each batch that is kept, by its number: samples of each map.
    kept: dict[int, dict[int, list[Any]]] = {}
    sizes: dict[int, int] = {}
    told: dict[int, tuple[float, bool]] = {}
    every, current = 1, 0

    def record(
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        real: torch.Tensor | None,
        scaling: float,
        causal: bool,
    ) -> None:
        found = getattr(module, MAP_NAME, None)
        if found is not None:
            kept[current].setdefault(id(found), []).append((query.detach(), key.detach(), real))
            sizes[current] = max(sizes[current], query.shape[0] * query.shape[2])
            told[id(found)] = scaling, causal

    modes = [module for module in model.modules() if module.training]
    model.eval()
    token = RECORDER.set(record)
    try:
        for current, batch in enumerate(batches):
            if not isinstance(batch, Mapping):
                raise ValueError(f"a batch is a mapping of the model's inputs, got {type(batch).__name__}")
            if current % every:
                continue
            kept[current], sizes[current] = {}, 0
            model(**on_device(batch, model.device))
            # Spread evenly over all batches, however many are to come.
            while len(kept) > 1 and sum(sizes.values()) > MOST_POSITIONS:
                every *= 2
                for number in [number for number in kept if number % every]:
                    del kept[number], sizes[number]
    finally:
        RECORDER.reset(token)
        for module in modes:
            module.training = True
    results = {}
    for name, feature_map in tqdm(maps.items(), desc="calibrating", leave=False, disable=not progress):
        if id(feature_map) not in told:
            raise ValueError(f"calibration needs texts that reach every layer, {name} has seen none")
        scaling, causal = told[id(feature_map)]
        # Those of a layer are let go as soon as they have been used.
        samples = [sample for seen in kept.values() for sample in seen.pop(id(feature_map), [])]
        results[name] = calibrate(feature_map, samples, scaling=scaling, causal=causal)
    return results


__all__ = [
    "SETTING",
    "attention_modules",
    "calibrate_performer",
    "remove_performer",
    "replace_maps",
    "restore",
    "restore_after_construction",
    "use_performer",
]
