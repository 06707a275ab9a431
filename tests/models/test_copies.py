"""Files that travel to the Hub cannot import another model's, so each model has copies of the shared code."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kexue_hf"
MODELS = PACKAGE / "models"
PATHS = [*sorted(MODELS.rglob("*.py")), *sorted((PACKAGE / "pipelines").glob("*.py"))]
SOURCES = {path.name: path.read_text("utf-8") for path in PATHS if path.name != "__init__.py"}
WHOLE_FILE = re.compile(r"# Copied from (\w+\.py)\n")
FUNCTIONS = re.compile(r"# Functions copied from (\w+\.py)\n")
ONE_FUNCTION = re.compile(r"^# Copied from (\w+)\.(\w+)$", re.MULTILINE)


def functions(source: str) -> dict[str, str]:
    found = {
        node.name: ast.get_source_segment(source, node) for node in ast.parse(source).body if hasattr(node, "name")
    }
    return {name: text for name, text in found.items() if text is not None}


FILES = [(name, match[1]) for name, source in SOURCES.items() if (match := WHOLE_FILE.match(source))]
SUBSETS = [(name, match[1]) for name, source in SOURCES.items() if (match := FUNCTIONS.match(source))]
SINGLE = [
    (name, f"{original}.py", function)
    for name, source in SOURCES.items()
    for original, function in ONE_FUNCTION.findall(source)
    if function != "py"
]


@pytest.mark.parametrize(("copy", "original"), FILES)
def test_a_copied_file_equals_its_original(copy: str, original: str) -> None:
    assert SOURCES[copy].partition("\n")[2] == SOURCES[original]


@pytest.mark.parametrize(("copy", "original"), SUBSETS)
def test_copied_functions_equal_their_originals(copy: str, original: str) -> None:
    copied, originals = functions(SOURCES[copy]), functions(SOURCES[original])
    assert copied
    assert copied == {name: originals[name] for name in copied}


@pytest.mark.parametrize(("copy", "original"), SUBSETS)
def test_a_model_has_copies_only_of_functions_that_it_uses(copy: str, original: str) -> None:
    (path,) = MODELS.rglob(copy)
    siblings = "".join(sibling.read_text("utf-8") for sibling in path.parent.glob("*.py"))
    unused = [name for name in functions(SOURCES[copy]) if len(re.findall(rf"\b{name}\(", siblings)) < 2]
    assert not unused


@pytest.mark.parametrize(("copy", "original", "function"), SINGLE)
def test_a_copied_function_equals_its_original(copy: str, original: str, function: str) -> None:
    assert functions(SOURCES[copy])[function] == functions(SOURCES[original])[function]


def test_all_kinds_of_copies_are_found() -> None:
    assert len(FILES) >= 5
    assert len(SUBSETS) >= 4
    assert len(SINGLE) >= 7
