"""A cache of facts about a network that were found by running it.

Finding a fact costs one or two passes over a few tokens: negligible for a batch, but not for a single short text. The
facts depend on the modules and not on their weights. If a module is replaced (another trunk, a new output layer, an
adapter, a quantized layer), all facts are computed again.
"""

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from torch import nn

T = TypeVar("T")
# Weak references keep no module alive, and do not mistake a new module at the same address for the old one.
_cache: "WeakKeyDictionary[nn.Module, tuple[list[ref[nn.Module]], dict[str, Any]]]" = WeakKeyDictionary()


def cached_fact(model: nn.Module, fact: str, find: Callable[[], T]) -> T:
    """Return the result of `find`, cached while the model has the same modules. The result must not hold a module."""
    modules = list(model.modules())
    entry = _cache.get(model)
    if (
        entry is None
        or len(entry[0]) != len(modules)
        or any(old() is not new for old, new in zip(entry[0], modules, strict=True))
    ):
        entry = _cache[model] = ([ref(module) for module in modules], {})
    facts = entry[1]
    if fact not in facts:
        facts[fact] = find()
    found: T = facts[fact]
    return found


__all__ = ["cached_fact"]
