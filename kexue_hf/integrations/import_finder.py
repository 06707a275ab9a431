"""Run hooks when other libraries are imported, without importing them.

A finder in front of `sys.meta_path` lets modules load as they would and runs the hooks right afterwards. Hooks of
modules that are loaded already run at once.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from kexue_hf.integrations.hooks import Hook, IntegrationWarning, Losses, run_hooks

_hooks: dict[str, list[Hook]] = {}


def install(hooks: Sequence[Hook]) -> None:
    """Run each hook after the import of its module, or now if the module is loaded."""
    _hooks.clear()
    for hook in hooks:
        _hooks.setdefault(hook.module, []).append(hook)
    for library in {name.split(".")[0] for name in _hooks}:
        absent = Hook(library, "the search for absent modules", {}, functools.partial(_find_absent_modules, library))
        _hooks.setdefault(library, []).append(absent)
    # By name: a package that is imported again has a new class of the same name, whose finder replaces the old one.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != _PostImportFinder.__name__]
    sys.meta_path.insert(0, _PostImportFinder())
    for name in _hooks:
        if name in sys.modules:
            # import_module and not sys.modules: it waits for another thread that is in the middle of this import.
            importlib.import_module(name)
            _state.loaded.append(name)
    _run_loaded()


def _find_absent_modules(library: str, losses: Losses) -> None:
    """Record the hooks whose module no longer exists: they would never run."""
    root = Path(next(iter(sys.modules[library].__path__)))
    if not root.is_dir():
        return
    for name, hooks in _hooks.items():
        parts = name.split(".")
        path = root.joinpath(*parts[1:])
        if parts[0] == library and len(parts) > 1 and not path.is_dir() and not path.with_suffix(".py").is_file():
            for hook in hooks:
                losses.add(hook.what, name)


class _State:
    """How many modules are in the middle of their import, and which loaded ones still have hooks to run.

    transformers' modules import each other in circles (decorating a BERT class imports the Auto modules), and our
    classes derive from theirs: nothing can be registered before the outermost of all these imports is done. This
    counts the imports of all threads, because importing BERT while another thread is in the same circle makes both
    fail. So a thread that finishes early may see Auto classes that do not know our classes yet.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.running = False
        self.loaded: list[str] = []


_state = _State()


def _run_loaded() -> None:
    """Run the hooks of all loaded modules, unless an import or another call of this function is still running."""
    # Hooks import further modules that have hooks: these join the queue.
    while True:
        with _state.lock:
            if _state.depth or _state.running or not _state.loaded:
                return
            _state.running = True
            name = _state.loaded.pop(0)
        try:
            run_hooks(_hooks.get(name, ()))
        finally:
            with _state.lock:
                _state.running = False


class _PostImportFinder(importlib.abc.MetaPathFinder):
    """Finds modules of transformers and of this package as the other finders do, and watches their execution."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        watched = fullname.startswith(("transformers.", "kexue_hf."))
        if not watched and fullname not in _hooks:
            return None
        try:
            others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        except ValueError:  # replaced by another thread
            return None
        for finder in others:
            if not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    _watch(spec.loader, fullname)
                return spec
        return None


def _watch(loader: importlib.abc.Loader, name: str) -> None:
    """Have a loader run the hooks of module `name` after executing it."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        with _state.lock:
            _state.depth += 1
        try:
            execute(module)
            # A loader may be shared by several modules, as that of a zip file is.
            if module.__name__ == name and name in _hooks:
                _state.loaded.append(name)
        finally:
            with _state.lock:
                _state.depth -= 1
            # Even if this import failed: modules that it imported successfully stay loaded.
            _run_loaded()

    try:
        # Set on the instance, not wrapped: `inspect`, `pkgutil` and `__loader__` still see the ordinary loader.
        loader.exec_module = exec_module  # type: ignore[method-assign]  # on purpose
    except AttributeError:
        # A loader that takes no attributes: its module loads without our hooks.
        if name in _hooks:
            warnings.warn(
                f"kexue_hf cannot watch {name}, loaded by a {type(loader).__name__}: import it before kexue_hf",
                IntegrationWarning,
                stacklevel=2,
            )


__all__ = ["install"]
