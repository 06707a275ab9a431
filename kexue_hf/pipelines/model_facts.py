"""What was found out about a network by trying, remembered for as long as it is made of the same modules.

Trying costs a pass or two over a few tokens, which is nothing beside a batch, but much beside a single short text.
What is found depends on how the modules are put together and not on their weights. Where one was replaced (another
trunk, a new output layer, an adapter, a quantized layer), all is found out anew.
"""

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, ref

from torch import nn

T = TypeVar("T")
# Weak references: an old module is not kept alive, and a new one in its place in memory is not taken for it.
_known: "WeakKeyDictionary[nn.Module, tuple[list[ref[nn.Module]], dict[str, Any]]]" = WeakKeyDictionary()


def remembered(model: nn.Module, fact: str, find: Callable[[], T]) -> T:
    """What `find` returns, or returned earlier while the model had the same modules. It must hold none of them."""
    modules = list(model.modules())
    known = _known.get(model)
    if (
        known is None
        or len(known[0]) != len(modules)
        or any(old() is not new for old, new in zip(known[0], modules, strict=True))
    ):
        known = _known[model] = ([ref(module) for module in modules], {})
    facts = known[1]
    if fact not in facts:
        facts[fact] = find()
    found: T = facts[fact]
    return found


__all__ = ["remembered"]
