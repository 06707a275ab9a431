"""Files that travel to the Hub cannot import another model's, so code of several models lies there several times.

A comment names the original: `# Copied from losses_wobert.py` at the head of a file, which may hold a part of it, or
`# Copied from modeling_wobert.masked_mean` above a function.
"""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kexue_hf"
TEXTS = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
FILES = [(path, found[1]) for path, text in TEXTS.items() if (found := re.match(r"# Copied from (\w+)\.py", text))]
FUNCTIONS = [
    (path, module, name)
    for path, text in TEXTS.items()
    for module, name in re.findall(r"^# Copied from (\w+_\w+)\.(\w+)\n", text, re.MULTILINE)
    if name != "py"
]


def functions(path: Path) -> dict[str, str]:
    return {node.name: ast.unparse(node) for node in ast.parse(TEXTS[path]).body if isinstance(node, ast.FunctionDef)}


def original_of(module: str) -> Path:
    (found,) = PACKAGE.rglob(f"{module}.py")
    return found


@pytest.mark.parametrize(("copy", "module"), FILES, ids=[path.stem for path, _ in FILES])
def test_a_copied_file_equals_its_original(copy: Path, module: str) -> None:
    original = original_of(module)
    ours, theirs = functions(copy), functions(original)
    if ours.keys() == theirs.keys():
        assert TEXTS[copy].partition("\n")[2] == TEXTS[original]
    else:
        assert ours and ours.items() <= theirs.items()


@pytest.mark.parametrize(
    ("copy", "module", "name"), FUNCTIONS, ids=[f"{path.stem}-{name}" for path, _, name in FUNCTIONS]
)
def test_a_copied_function_equals_its_original(copy: Path, module: str, name: str) -> None:
    assert functions(copy)[name] == functions(original_of(module))[name]


def test_copies_are_found() -> None:
    assert {path.stem for path, _ in FILES} >= {
        "losses_nezha",
        "losses_tta",
        "keywords_tta",
        "cache_name_performer_bert",
    }
    assert {(path.stem, name) for path, _, name in FUNCTIONS} >= {
        ("modeling_nezha", "masked_mean"),
        ("modeling_tta", "replace_decoder"),
        ("modeling_performer_bert", "masked_mean"),
        ("modeling_cln_matcher", "masked_mean"),
    }
