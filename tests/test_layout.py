"""The layout rules of CONTRIBUTING.md, each checked on the package and on a copy that breaks it."""

import ast
import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kexue_hf"
# A room may import those before it in this list, never those behind it.
ROOMS = (
    "errors", "xiangqi", "files", "models", "pipelines", "corpora", "vocabulary", "losses", "generation", "play",
    "trainers", "evaluation", "performer", "conversion", "hub", "integrations", "batch", "cli",
)  # fmt: skip
# Rooms whose files are copied to the Hub.
TRAVELLING = ("models", "pipelines")
# Rooms that import nothing but the standard library, the errors and themselves.
STANDARD_LIBRARY_ONLY = ("xiangqi",)
# A command must not load what trains.
NEVER = {("cli", "trainers")}
# State of the whole process or of another library, and what runs code from a file.
PROCESS_WIDE = ("._shared_state", "register_at_fork", "pickle.load", "pickle.loads", "pickle.Unpickler")
LONGEST = 500
REASON = "Longer than 500 lines"


def module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def parsed(text: str) -> ast.Module:
    """Parse a text once, for all rules and all copies of the package."""
    return ast.parse(text)


def files(package: Path) -> Iterator[tuple[str, Path, ast.Module]]:
    for path in sorted(package.rglob("*.py")):
        yield module_name(path, package), path, parsed(path.read_text("utf-8"))


@functools.cache
def import_statements(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """Return the imports of a file, but not those below `if TYPE_CHECKING:`, which never run."""
    found: list[ast.Import | ast.ImportFrom] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            waiting += reversed(list(ast.iter_child_nodes(node)))
    return found


def lazy_names(package: Path) -> dict[str, str]:
    """Return the modules of the names that `kexue_hf` loads on first use."""
    for node in parsed((package / "__init__.py").read_text("utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_LOCATIONS" and node.value is not None:
            found: dict[str, str] = ast.literal_eval(node.value)
            return {name: module.removeprefix("kexue_hf.") for name, module in found.items()}
    raise AssertionError("kexue_hf/__init__.py has no _LOCATIONS")


def imports(tree: ast.Module, path: Path, package: Path) -> Iterator[tuple[str, bool]]:
    """Yield each module of ours that a file imports, inside functions too, and whether by a relative import."""
    for node in import_statements(tree):
        if isinstance(node, ast.Import):
            names = [(alias.name.removeprefix("kexue_hf").strip(".") or "__init__", False) for alias in node.names
                     if alias.name.split(".")[0] == "kexue_hf"]  # fmt: skip
        elif node.level:
            folder = path.parents[node.level - 1].relative_to(package).parts
            names = [(".".join([*folder, *(node.module or "").split(".")]).strip("."), True)]
        elif (node.module or "").split(".")[0] == "kexue_hf":
            base = (node.module or "").removeprefix("kexue_hf").strip(".")
            names = []
            for alias in node.names:
                whole = f"{base}.{alias.name}".strip(".")
                place = package / whole.replace(".", "/")
                is_module = place.with_suffix(".py").exists() or (place / "__init__.py").exists()
                lazy = "" if base else lazy_names(package).get(alias.name, "__init__")
                names.append((whole if is_module else base or lazy, False))
        else:
            continue
        yield from ((name, relative) for name, relative in names if name)


def upward_imports(package: Path) -> Iterator[str]:
    for name, path, tree in files(package):
        room = name.split(".")[0]
        if "." not in name and room not in ROOMS:
            continue
        for target, _ in imports(tree, path, package):
            other = target.split(".")[0]
            if other not in ROOMS or room == other:
                continue
            if ROOMS.index(other) > ROOMS.index(room):
                yield f"{name} imports upward: {target}"
            elif (room, other) in NEVER:
                yield f"{name} must not import {target}"


def unknown_rooms(package: Path) -> Iterator[str]:
    for name, _, _ in files(package):
        room = name.split(".")[0]
        if room and room not in ROOMS:
            yield f"{name} is in no room of the layout"


def import_circles(package: Path) -> Iterator[str]:
    graph = {name: sorted({target for target, _ in imports(tree, path, package)})
             for name, path, tree in files(package)}  # fmt: skip
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> Iterator[str]:
        if name in above:
            yield " -> ".join((*above[above.index(name) :], name))
        elif name not in done:
            for target in graph.get(name, []):
                yield from visit(target, (*above, name))
            done.add(name)

    for name in graph:
        yield from visit(name, ())


def foreign_to_the_hub(package: Path) -> Iterator[str]:
    """transformers copies the siblings that relative imports name, and nothing else, to the Hub."""
    for name, path, tree in files(package):
        if name.split(".")[0] not in TRAVELLING or "weight_map" in path.stem:
            continue
        for target, relative in imports(tree, path, package):
            sibling = ".".join(name.split(".")[:-1])
            if not relative or target.rpartition(".")[0] != sibling:
                yield f"{name} imports {target}, which does not travel with it: only `from .sibling import name` does"


def unreached(package: Path) -> Iterator[str]:
    graph = {name: {target for target, _ in imports(tree, path, package)} for name, path, tree in files(package)}
    roots = {name for name in graph if (name.split(".")[0] in TRAVELLING
             and name.rpartition(".")[2].startswith(("modeling_", "tokenization_", "unilm_")))
             or (name.startswith("pipelines.") and name.endswith("_pipeline"))}  # fmt: skip
    waiting, reached = list(roots), set(roots)
    while waiting:
        for target in graph.get(waiting.pop(), set()) - reached:
            reached.add(target)
            waiting.append(target)
    for name, path, _ in files(package):
        exempt = path.stem == "__init__" or path.stem.startswith(("weight_map_", "auto_map_"))
        if name.split(".")[0] in TRAVELLING and not exempt and name not in reached:
            yield f"{name} is reached from no modeling, tokenization or pipeline file"


def hidden_hands(package: Path) -> Iterator[str]:
    """No process-wide collector, no pickle, no private state of another library."""
    for name, _, tree in files(package):
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                if "gc" in modules:
                    yield f"{name} imports gc"
                foreign = isinstance(node, ast.ImportFrom) and not node.level and node.module != "__future__" \
                    and not (node.module or "").startswith("kexue_hf")  # fmt: skip
                if foreign and (private := [alias.name for alias in node.names if alias.name.startswith("_")]):
                    yield f"{name} imports a private name of {node.module}: {private[0]}"
                if "pickle" in modules and isinstance(node, ast.ImportFrom):
                    yield f"{name} imports from pickle"
            elif isinstance(node, ast.Attribute) and ast.unparse(node).endswith(PROCESS_WIDE):
                yield f"{name} uses {ast.unparse(node)}"


def beyond_the_standard_library(package: Path) -> Iterator[str]:
    for name, path, tree in files(package):
        if name.split(".")[0] not in STANDARD_LIBRARY_ONLY:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module or ""]
            else:
                continue
            for module in modules:
                if module.split(".")[0] not in (*sys.stdlib_module_names, "kexue_hf"):
                    yield f"{name} imports {module}, which is not in the standard library"
        for target, _ in imports(tree, path, package):
            if target.split(".")[0] not in ("errors", name.split(".")[0]):
                yield f"{name} imports {target}: only kexue_hf.errors and its own room are allowed"


def badly_named(package: Path) -> Iterator[str]:
    for name, path, _ in files(package):
        if path.stem in ("utils", "helpers", "misc", "common"):
            yield f"{name}: a file is named for what it holds"
        parts = path.relative_to(package).parts
        if parts[0] == "models" and len(parts) == 3 and path.stem != "__init__":
            if not path.stem.endswith(f"_{parts[1]}"):
                yield f"{name}: files under models/{parts[1]} end in _{parts[1]}"
        elif parts[0] == "performer" and path.stem.endswith("_performer_bert"):
            yield f"{name}: the suffix belongs to files of the model"


def too_long(package: Path) -> Iterator[str]:
    for name, path, tree in files(package):
        lines = len(path.read_text("utf-8").splitlines())
        if lines > LONGEST and REASON not in (ast.get_docstring(tree) or ""):
            yield f"{name} has {lines} lines: split it, or say why in its docstring ({REASON}: ...)"


# rule -> a file of a copy of the package, and the text that goes at its end, which breaks the rule
RULES: dict[Callable[[Path], Iterator[str]], list[tuple[str, str]]] = {
    upward_imports: [
        ("conversion/convert.py", "from kexue_hf.cli import main\n"),
        ("losses/focal.py", "def late():\n    import kexue_hf.trainers.pretraining\n"),
        ("cli/embed.py", "def late():\n    from kexue_hf.trainers import pretraining\n"),
        ("cli/embed.py", "from kexue_hf import trainers\n"),
        ("losses/focal.py", "def late():\n    from kexue_hf import PolicyGradientTrainer\n"),
    ],
    unknown_rooms: [("odds/ends.py", "")],
    import_circles: [("files/staging.py", "def late():\n    from kexue_hf.files import whole_file\n")],
    foreign_to_the_hub: [
        ("models/nezha/layers_nezha.py", "from kexue_hf.errors import InputError\n"),
        ("models/nezha/layers_nezha.py", "from ..wobert.modeling_wobert import WoBertModel\n"),
        ("pipelines/text_scoring.py", "from kexue_hf.errors import InputError\n"),
        ("pipelines/text_scoring.py", "from kexue_hf import InputError\n"),
        ("pipelines/text_scoring.py", "def late():\n    import kexue_hf\n"),
    ],
    unreached: [("models/nezha/spare_nezha.py", ""), ("pipelines/spare.py", "")],
    hidden_hands: [
        ("files/staging.py", "import gc\n"),
        ("cli/main.py", "from pickle import loads\n"),
        ("cli/main.py", "import pickle\ndef late(file):\n    return pickle.load(file)\n"),
        ("trainers/pretraining.py", "from accelerate.state import _private\n"),
        ("trainers/pretraining.py", "def late(state):\n    state._shared_state.clear()\n"),
    ],
    beyond_the_standard_library: [
        ("xiangqi/moves.py", "import torch\n"),
        ("xiangqi/moves.py", "def late():\n    from numpy import array\n"),
        ("xiangqi/board.py", "from kexue_hf.files import whole_file\n"),
        ("xiangqi/board.py", "import kexue_hf\n"),
    ],
    badly_named: [
        ("conversion/utils.py", ""),
        ("models/nezha/spare.py", ""),
        ("performer/swap_performer_bert.py", ""),
    ],
    too_long: [("corpora/reading.py", "x = 1\n" * LONGEST)],
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Callable[[Path], Iterator[str]]) -> None:
    assert list(rule(PACKAGE)) == []


@pytest.mark.parametrize(
    ("rule", "file", "text"),
    [(rule, *case) for rule, cases in RULES.items() for case in cases],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_planted_fault_is_found(rule: Callable[[Path], Iterator[str]], file: str, text: str, tmp_path: Path) -> None:
    copy = tmp_path / "kexue_hf"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("assets", "__pycache__", "similar_characters.py"))
    before = list(rule(copy))
    path = copy / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text("utf-8") if path.exists() else "") + text, "utf-8")
    found = [line for line in rule(copy) if line not in before]
    assert len(found) >= 1 and module_name(path, copy) in found[0]
