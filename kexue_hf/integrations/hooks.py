"""Hooks into other libraries that are left out, with one warning, if the library lacks a name that they bind.

A hook is all or nothing: every name in its `binds` is looked up before `apply` changes anything. What does not need a
missing name goes on working, the import of the other library included.
"""

import importlib
import inspect
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Releases that the suite was run with.
TRIED = {"transformers": "5.20 to 5.24", "peft": "0.15 to 0.21"}


class IntegrationWarning(UserWarning):
    """A part of kexue_hf is switched off, because another library lacks a name or because of a defect of our own."""


class Losses:
    """What does not work, by the missing name that it needs; `warn` issues one warning for each name."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, missing: str) -> None:
        """Record that `what` is left out because the dotted name `missing` does not exist."""
        self._found.setdefault(missing, []).append(what)

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Leave the rest of the block out if another library lacks a name; warn with a traceback of any other error.

        Args:
            what: the feature that does not work without the block.
        """
        try:
            yield
        except Exception as error:
            missing = missing_name(error)
            if missing is not None:
                self.add(what, missing)
            else:
                _warn_of_defect(what)

    def warn(self) -> None:
        """Issue one warning for each missing name. Each warning is issued once per process."""
        for missing, features in self._found.items():
            with _lock:
                new = [what for what in dict.fromkeys(features) if (what, missing) not in _warned]
                _warned.update((what, missing) for what in new)
            if new:
                library = missing.split(".")[0]
                version = getattr(sys.modules.get(library), "__version__", "(unknown version)")
                _issue(
                    f"{library} {version} has no {missing} (kexue_hf was tried with {TRIED.get(library, '?')}); "
                    f"not available: {', '.join(new)}"
                )
        self._found.clear()


_warned: set[tuple[str, str]] = set()
_lock = threading.Lock()


@dataclass(frozen=True)
class Hook:
    """One change to another library.

    Args:
        module: the module after whose import the change is made.
        what: the feature that does not work without it, for the warning.
        binds: names that the hook uses, "module:qualified.name" -> the parameters that we pass, separated by spaces.
        apply: makes the change. It may record parts that it has to leave out.
    """

    module: str
    what: str
    binds: Mapping[str, str]
    apply: Callable[[Losses], None]


def run_hooks(hooks: Iterable[Hook]) -> None:
    """Apply each hook whose names exist, and warn about the others. No error leaves this function."""
    losses = Losses()
    for hook in hooks:
        with losses.guard(hook.what):
            missing = next(filter(None, (_lacking(*bound) for bound in hook.binds.items())), None)
            if missing is None:
                hook.apply(losses)
            else:
                losses.add(hook.what, missing)
    losses.warn()


def _lacking(name: str, parameters: str) -> str | None:
    """Return the dotted name that does not exist, if `name` or one of its parameters does not."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    dotted = module
    for part in path.split("."):
        dotted = f"{dotted}.{part}"
        if not hasattr(found, part):
            return dotted
        found = getattr(found, part)
    if parameters:
        known = inspect.signature(found).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            return next((f"{dotted}({wanted}=...)" for wanted in parameters.split() if wanted not in known), None)
    return None


def missing_name(error: BaseException) -> str | None:
    """Return the dotted name, of a library in `TRIED`, whose absence raised this error; None for other errors."""
    if isinstance(error, ImportError):
        found = re.match(r"cannot import name '(\w+)' from '([\w.]+)'", str(error))
        name = f"{found[2]}.{found[1]}" if found else error.name
    elif isinstance(error, AttributeError):
        owner = error.obj if inspect.ismodule(error.obj) or inspect.isclass(error.obj) else type(error.obj)
        module = [] if inspect.ismodule(owner) else [owner.__module__]
        name = ".".join([*module, getattr(owner, "__qualname__", owner.__name__), str(error.name)])
    else:
        return None
    return name if name is not None and name.split(".")[0] in TRIED else None


def _warn_of_defect(what: str) -> None:
    _issue(f"kexue_hf failed to set up: {what}. Please report this:\n{traceback.format_exc()}")


def _issue(message: str) -> None:
    """Warn, or log where warnings are errors: the caller is importing another library, which must succeed."""
    try:
        warnings.warn(message, IntegrationWarning, stacklevel=3)
    except IntegrationWarning:
        logging.getLogger(__name__).warning(message)


__all__ = ["TRIED", "Hook", "IntegrationWarning", "Losses", "missing_name", "run_hooks"]
