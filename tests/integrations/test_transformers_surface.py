"""The table of what we need of transformers against the installed version, and against the package."""

import importlib
import inspect
import pkgutil
from typing import Any

import pytest

import kexue_hf
from tests.integrations.transformers_surface import OVERRIDDEN, USED


def find(name: str) -> Any:
    """The object of transformers under a dotted name, which begins with its module."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["transformers", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
        return found
    raise AssertionError(name)


@pytest.mark.parametrize("name", [*OVERRIDDEN, *USED])
def test_transformers_has_it_with_these_parameters(name: str) -> None:
    found = find(name)
    function = getattr(found, "__func__", getattr(found, "fget", None) or found)
    wanted = (OVERRIDDEN | USED)[name].split()
    parameters = inspect.signature(function).parameters if wanted else {}
    assert [parameter for parameter in wanted if parameter not in parameters] == []


def own_classes() -> list[type]:
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(kexue_hf.__path__, "kexue_hf.")
        if not module.name.endswith("__main__")
    ]
    return [
        found
        for module in modules
        for found in vars(module).values()
        if inspect.isclass(found) and found.__module__ == module.__name__
    ]


def test_every_override_is_in_the_table() -> None:
    found = set()
    for own in own_classes():
        for name, value in vars(own).items():
            special = name.startswith("__") and name not in ("__init__", "__call__")
            if special or not (inspect.isroutine(value) or isinstance(value, classmethod | staticmethod | property)):
                continue
            base = next((base for base in own.__mro__[1:] if name in vars(base)), object)
            if base.__module__.startswith("transformers."):
                found.add(f"{base.__module__.removeprefix('transformers.')}.{base.__qualname__}.{name}")
    assert found == set(OVERRIDDEN)
