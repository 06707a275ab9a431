"""The modules of the hub room name in `__all__` what other modules import, and no constant that none imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for path in (ROOT / "kexue_hf" / "hub").glob("*.py") if path.stem != "__init__")


@pytest.fixture(scope="module")
def imported() -> set[tuple[str, str]]:
    """Return the module and the name of each import from the room, in the package, the examples and the tests."""
    found = set()
    for folder in ("kexue_hf", "examples", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            if "kexue_hf.hub" in (text := path.read_text("utf-8")):
                for node in ast.walk(ast.parse(text)):
                    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kexue_hf.hub."):
                        found |= {(node.module.rpartition(".")[2], alias.name) for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_exports_are_what_others_import(path: Path, imported: set[tuple[str, str]]) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    (exported,) = (ast.literal_eval(node.value) for node in tree.body
                   if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")  # fmt: skip
    wanted = {name for module, name in imported if module == path.stem}
    assert wanted <= set(exported)
    assert {name for name in exported if name.isupper()} <= wanted
