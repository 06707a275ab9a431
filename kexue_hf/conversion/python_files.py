"""The Python files that a saved folder needs in order to load where this package is not installed.

Found as transformers finds them when it saves a model: from the modules that the auto_map names, along every
`from .sibling import name`.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import kexue_hf.models
from kexue_hf.errors import ConversionError

_IMPORT = re.compile(r"^\s*from\s+\.(\w+)\s+import\s", re.MULTILINE)


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
