"""Document the public names of a part of the package where a page says `<!-- public names: MODULE ... -->`.

MODULE is a module with `__all__`, or a part of kexue_hf; of the latter, the names that `kexue_hf` itself exports.
"""

import importlib
import inspect
import re

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.logging import getLogger
from transformers import PreTrainedConfig

import kexue_hf

logger = getLogger(__name__)
MARK = re.compile(r"<!-- public names: (.+?) -->")


def names_of(part: str) -> list[str]:
    """Return the qualified names, in the order in which the package lists them."""
    exported = [
        f"kexue_hf.{name}" for name, place in kexue_hf._LOCATIONS.items() if f"{place}.".startswith(f"{part}.")
    ]
    if exported:
        return exported
    names = getattr(importlib.import_module(part), "__all__", ())
    if not names:
        raise ExtensionError(f"a page asks for the public names of {part}, which has none")
    return [f"{part}.{name}" for name in names]


def directive(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
    else:
        kind = "autofunction" if callable(value) else "autodata"
    return f".. {kind}:: {name}\n"


def document_names(app: Sphinx, document: str, source: list[str]) -> None:
    def block(mark: re.Match[str]) -> str:
        names = [name for part in mark[1].split() for name in names_of(part)]
        documented.extend(names)
        return "```{eval-rst}\n" + "\n".join(map(directive, names)) + "\n```"

    documented: list[str] = []
    source[0] = MARK.sub(block, source[0])
    app.env.metadata[document]["public_names"] = documented


def plain_references(app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """transformers' documentation writes references as [`Name`]."""
    lines[:] = [re.sub(r"\[(`[~\w.]+`)\]", r"\1", line) for line in lines]


def short_signature(app: Sphinx, kind: str, name: str, value: object, *rest: object) -> tuple[str, None] | None:
    """A configuration takes the fields of all configurations of transformers; its docstring lists its own."""
    is_configuration = isinstance(value, type) and issubclass(value, PreTrainedConfig)
    return ("(**fields)", None) if is_configuration else None


def check_all(app: Sphinx, env: object) -> None:
    """Warn of a name that `kexue_hf` exports and that is on no page, or on two."""
    documented = [name for fields in app.env.metadata.values() for name in fields.get("public_names", ())]
    for name in kexue_hf._LOCATIONS:
        if (times := documented.count(f"kexue_hf.{name}")) != 1:
            logger.warning("expected kexue_hf.%s once in docs/api, found it %s times", name, times)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", document_names)
    app.connect("autodoc-process-docstring", plain_references)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("env-updated", check_all)
    return {"parallel_read_safe": True}
