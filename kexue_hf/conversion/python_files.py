"""The Python files that a saved folder needs to load where this package is not installed.

They are found as transformers finds them on saving: start at the modules in the auto_map and follow every
`from .sibling import name`.
"""

import re
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

import kexue_hf.models
from kexue_hf.conversion.families import convertible, load_weight_map
from kexue_hf.errors import ConversionError

_IMPORT = re.compile(r"^\s*from\s+\.(\w+)\s+import\s", re.MULTILINE)


def names_of_python_files() -> frozenset[str]:
    """Return the names of the files that `python_files` finds for any convertible family."""
    return frozenset(
        path.name
        for family in convertible()
        for vocabulary in load_weight_map(family).TOKENIZERS
        for path in python_files(family, references(family, vocabulary))
    )


def references(family: str, vocabulary: str) -> list[str]:
    """Return our classes that a folder of the family refers to, such as "modeling_wobert.WoBertModel".

    Args:
        vocabulary: "words", "characters" or "pieces"; it decides which tokenizer the folder has.
    """
    weight_map = load_weight_map(family)
    own = auto_map(weight_map.MODEL_TYPE).values() if "auto_map" in weight_map.CONFIG_DERIVED else ()
    tokenizer = weight_map.TOKENIZERS[vocabulary]
    return [*own, tokenizer] if "/" in tokenizer else [*own]


def auto_map(model_type: str) -> dict[str, str]:
    """Return the mapping from Auto classes to the classes of one of our models."""
    mapping: dict[str, str] = import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}").AUTO_MAP
    return mapping


def python_files(family: str, references: Iterable[str]) -> list[Path]:
    """Return the files that references such as "modeling_wobert.WoBertModel" need, sorted by name.

    A reference points into the family's own folder, or with a prefix into another model's
    ("wobert/tokenization_wobert.WoBertTokenizer").

    Raises:
        ConversionError: a file is not installed.
    """
    models = Path(kexue_hf.models.__path__[0])
    wanted = []
    for reference in references:
        folder, _, name = reference.rpartition("/")
        wanted.append((folder or family, name.partition(".")[0]))
    found: dict[str, Path] = {}
    while wanted:
        folder, name = wanted.pop()
        if name in found:
            continue
        path = models / folder / f"{name}.py"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            raise ConversionError(f"{path}: missing; install kexue-hf again") from None
        found[name] = path
        wanted += [(folder, other) for other in _IMPORT.findall(text)]
    return [found[name] for name in sorted(found)]
