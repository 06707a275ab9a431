"""Files that travel to the Hub cannot import another model's, so code of several models lies there several times.

A comment names the original: `# Copied from losses_wobert.py` at the head of a file, which may hold a part of it, or
`# Copied from modeling_wobert.masked_mean` above a function.
"""

import ast
import re
from pathlib import Path

import pytest

MODELS = Path(__file__).parents[2] / "kexue_hf" / "models"
ORIGINALS = {path.stem: path for path in MODELS.rglob("*.py")}
FILES = [
    (path, ORIGINALS[found[1]])
    for path in sorted(MODELS.rglob("*.py"))
    if (found := re.match(r"# Copied from (\w+)\.py", path.read_text("utf-8")))
]
FUNCTIONS = [
    (path, ORIGINALS[module], name)
    for path in sorted(MODELS.rglob("*.py"))
    for module, name in re.findall(r"^# Copied from (\w+)\.(\w+)\n", path.read_text("utf-8"), re.MULTILINE)
    if module in ORIGINALS and name != "py"
]


def functions(path: Path) -> dict[str, str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("copy", "original"), FILES, ids=[path.stem for path, _ in FILES])
def test_a_copied_file_equals_its_original(copy: Path, original: Path) -> None:
    ours, theirs = functions(copy), functions(original)
    if ours.keys() == theirs.keys():
        assert copy.read_text("utf-8").partition("\n")[2] == original.read_text("utf-8")
    assert ours and ours.items() <= theirs.items()


@pytest.mark.parametrize(
    ("copy", "original", "name"), FUNCTIONS, ids=[f"{path.stem}-{name}" for path, _, name in FUNCTIONS]
)
def test_a_copied_function_equals_its_original(copy: Path, original: Path, name: str) -> None:
    assert functions(copy)[name] == functions(original)[name]


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
