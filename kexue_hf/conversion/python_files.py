"""The Python files that a saved folder needs in order to load where this package is not installed.

Found as transformers finds them when it saves a model: from the modules that the auto_map names, along every
`from .sibling import name`.
"""

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import kexue_hf.models
from kexue_hf.conversion.families import convertible
from kexue_hf.errors import ConversionError

_IMPORT = re.compile(r"^\s*from\s+\.(\w+)\s+import\s", re.MULTILINE)


def names_of_python_files() -> frozenset[str]:
    """The names of the files that `python_files` finds for any family that is converted."""
    return frozenset(path.name for family in convertible() for path in python_files(family, references(family)))


def references(family: str) -> list[str]:
    """Every class that a family's auto_map names, as "modeling_wobert.WoBertModel"."""
    auto_map = import_module(f"kexue_hf.models.{family}.auto_map_{family}")
    return [*auto_map.AUTO_MAP.values(), auto_map.TOKENIZER_AUTO_MAP["AutoTokenizer"][0]]


def python_files(family: str, references: Iterable[str]) -> list[Path]:
    """The files behind references like "modeling_wobert.WoBertModel", and every file that they import, by name.

    Raises:
        ConversionError: one is not installed.
    """
    folder = Path(kexue_hf.models.__path__[0]) / family
    wanted = [reference.partition(".")[0] for reference in references]
    found: dict[str, Path] = {}
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        path = folder / f"{name}.py"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            raise ConversionError(f"{path}: missing; this installation of kexue_hf is not complete") from None
        found[name] = path
        wanted += _IMPORT.findall(text)
    return [found[name] for name in sorted(found)]
