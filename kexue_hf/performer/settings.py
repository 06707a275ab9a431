"""Read, check and write the settings that `use_performer` stores in a configuration, `config.performer`.

A mapping with the key "feature_map" is ours; anything else belongs to another library. The values are the arguments of
`use_performer`, but "feature_map" may also be a list with one name for each attention layer. A part that is saved
alone has "offset", the number of its first layer in the whole model. "active": False says that the model was set to
softmax when it was saved.
"""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from kexue_hf.models.performer_bert.favor_performer_bert import MAP_NAME
from kexue_hf.models.performer_bert.feature_maps_performer_bert import (
    FEATURE_MAPS,
    NORMS,
    FeatureMap,
    LowOrderMap,
    RandomFeatures,
)

SETTING = "performer"
# Layer i of a model has the seed: the model's seed times this, plus i.
SEEDS = 1_009
_DEFAULTS: dict[str, Any] = {"num_features": 256, "norm": "chi", "seed": 0, "redraw": None, "layers": None}


def settings_of(config: Any) -> dict[str, Any] | None:
    """Return the settings in a configuration, with defaults; None if it has no settings of this package.

    Raises:
        ValueError: an invalid value.
    """
    found = getattr(config, SETTING, None)
    if not isinstance(found, Mapping) or "feature_map" not in found:
        return None
    settings = {**_DEFAULTS, **found}
    try:
        return validate_settings(settings)
    except ValueError as error:
        raise ValueError(f"the configuration's {SETTING!r}: {error}") from None


def validate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with values that JSON can hold.

    Raises:
        ValueError: an invalid value.
    """
    found = dict(settings)
    kinds = found["feature_map"]
    wrong = [kind for kind in ([kinds] if isinstance(kinds, str) else _listed(kinds, "feature_map"))
             if kind not in FEATURE_MAPS]  # fmt: skip
    if wrong:
        raise ValueError(f"feature map must be one of {', '.join(FEATURE_MAPS)}, got {wrong[0]!r}")
    if found["norm"] not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, got {found['norm']!r}")
    found["num_features"] = _integer(found["num_features"], "num_features", 1)
    found["seed"] = _integer(found["seed"], "seed")
    if found["redraw"] is not None:
        found["redraw"] = _integer(found["redraw"], "redraw", 1)
        other = next((kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if "favor" not in kind), None)
        if other is not None:
            raise ValueError(f"redraw is for random features, and {other!r} has none: leave redraw out")
    if found["layers"] is not None:
        layers = _listed(found["layers"], "layers")
        found["layers"] = [_integer(layer, "a number of layers") for layer in layers]
    if "offset" in found:
        found["offset"] = _integer(found["offset"], "offset", 0)
    return found


def _listed(values: Any, name: str) -> list[Any]:
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise ValueError(f"{name} must be a list, got {values!r}")
    return list(values)


def _integer(value: Any, name: str, least: int | None = None) -> int:
    try:
        # numpy integers are accepted, True and 2.5 are not.
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None:
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if least is not None and found < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return found


def settings_to_save(settings: Mapping[str, Any], modules: list[nn.Module], active: bool) -> dict[str, Any] | None:
    """Return the settings that describe the present maps of these attention modules: which have one, of which kind.

    Args:
        settings: the settings of the model, or of the model that it is a part of.
        active: whether the maps are in use.

    Returns:
        The settings; None if no layer has a map although the settings ask for some.
    """
    maps = [module._modules.get(MAP_NAME) for module in modules]
    chosen = [number for number, found in enumerate(maps) if isinstance(found, FeatureMap)]
    if not chosen and settings["layers"] != []:
        return None
    kinds: Any = [_kind(found) if found is not None else None for found in maps]
    if len({kind for kind in kinds if kind is not None}) == 1:
        kinds = next(kind for kind in kinds if kind is not None)
    elif chosen:
        kinds = [kind or _kind(maps[chosen[0]]) for kind in kinds]
    else:
        kinds = settings["feature_map"]
    # Recovered from a layer's seed, see `SEEDS`.
    offset = settings.get("offset", 0)
    for number in chosen:
        seed = getattr(maps[number], "seed", None)
        if seed is not None:
            offset = seed - settings["seed"] * SEEDS - number
            break
    found = {**settings, "feature_map": kinds, "layers": None if len(chosen) == len(modules) else chosen}
    for name in ("offset", "active"):
        found.pop(name, None)
    return {**found, **({"offset": offset} if offset > 0 else {}), **({} if active else {"active": False})}


def _kind(feature_map: Any) -> str:
    if isinstance(feature_map, RandomFeatures):
        return "favor++" if feature_map.optimal else "favor+"
    return "low_order" if isinstance(feature_map, LowOrderMap) else "learned"


__all__ = ["SEEDS", "SETTING", "settings_of", "settings_to_save", "validate_settings"]
