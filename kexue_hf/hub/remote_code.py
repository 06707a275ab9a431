"""The code that a saved folder carries: everything that its auto_map names is there, and imports without this package.

`code_problems` reads the code and runs none of it. `import_problems` imports it in a fresh process.
"""

import ast
import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_hf.errors import printable
from kexue_hf.hub.folder_files import FolderFile, published_and_left_out
from kexue_hf.hub.saved_model import json_fields, our_types
from kexue_hf.hub.secret_patterns import is_secret_name

_SECONDS = 300

# Prints {reference: error}, one error for each class that cannot be imported.
_IMPORT = """
import json, os, sys
sys.modules["kexue_hf"] = None  # importing it raises ImportError
sys.stdin = open(os.devnull)
answer = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from transformers import AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module
folder, references, tokenizer = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "tokenizer"
failed = {}
def attempt(name, call):
    try:
        call()
    except BaseException as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        failed[name] = f"{type(error).__name__}: {lines[0]}"
for reference in references:
    attempt(reference, lambda: get_class_from_dynamic_module(reference, folder, local_files_only=True))
if tokenizer and not failed:
    attempt("AutoTokenizer", lambda: AutoTokenizer.from_pretrained(folder, trust_remote_code=True))
json.dump(failed, answer)
"""


def references_of(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return what the folder's files name as code: {Auto class or pipeline: "module.Class"}."""
    found: dict[str, str] = {}
    auto_map = config.get("auto_map")
    if isinstance(auto_map, dict):
        found |= {str(auto): str(reference) for auto, reference in auto_map.items()}
    tokenizer = json_fields(folder / "tokenizer_config.json").get("auto_map")
    if isinstance(tokenizer, dict):
        names = tokenizer.get("AutoTokenizer")
        for reference in names if isinstance(names, list) else [names]:
            if reference:
                found["AutoTokenizer"] = str(reference)
    pipelines = config.get("custom_pipelines")
    for task, entry in (pipelines if isinstance(pipelines, dict) else {}).items():
        if isinstance(entry, dict):
            found[f"pipeline {task}"] = str(entry.get("impl"))
    return found


def code_problems(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Return the problems of the folder's code that reading it shows, one phrase each."""
    references = references_of(folder, config)
    missing = sorted(_expected_classes(config) - references.keys())
    problems = [f"auto_map of config.json lacks {', '.join(missing)}"] if missing else []
    modules: dict[str, None] = {}
    for auto, reference in references.items():
        module, _, name = reference.partition(".")
        if "--" in reference:
            problems.append(f"{auto} uses code of another repository, {printable(reference)}: save the folder again")
        elif not (module.isidentifier() and name.isidentifier()):
            problems.append(f"{auto} should name MODULE.CLASS, got {printable(reference)!r}")
        elif auto.startswith("pipeline ") and not (folder / f"{module}.py").is_file():
            problems.append(f"{auto} names {module}.py, which is not in the folder")
        else:
            modules[module] = None
            source = _source(folder, module)
            if source is not None and not source.fault and not {name, "*"} & source.defined:
                problems.append(f"{auto} names {name}, which {module}.py does not define")
    for module in list(modules):
        for importer, imported in _imports(folder, module):
            modules[imported] = None
            if not (folder / f"{imported}.py").is_file():
                problems.append(f"{importer}.py imports {imported}.py, which is not in the folder")
    for module in modules:
        source = _source(folder, module)
        if source is not None and source.fault:
            problems.append(f"{module}.py {source.fault}")
    return list(dict.fromkeys(problems))


def needed_code(folder: Path, config: Mapping[str, Any]) -> set[str]:
    """Return the names of the files that the classes of the folder need, whether they exist or not."""
    needed = {reference.partition(".")[0] for reference in references_of(folder, config).values()}
    needed |= {imported for start in list(needed) for _, imported in _imports(folder, start)}
    return {f"{module}.py" for module in needed}


def import_problems(folder: Path, config: Mapping[str, Any], files: Sequence[FolderFile] | None = None) -> list[str]:
    """Import every class that the folder names, in a process without this package; return one phrase for each failure.

    This runs the folder's code. The process has only the published files, and no access token in its environment.
    Takes the seconds in which torch and transformers are imported.

    Args:
        files: what is published; by default found here.
    """
    references = sorted(set(references_of(folder, config).values()))
    tokenizer = "tokenizer" if (folder / "tokenizer_config.json").is_file() else "none"
    if not references:
        return []
    with tempfile.TemporaryDirectory() as place:
        published = Path(place) / "published"
        _link_files(folder, published_and_left_out(folder)[0] if files is None else files, published)
        try:
            # From another folder, so that no file beside this process is imported instead.
            done = subprocess.run(
                [sys.executable, "-c", _IMPORT, str(published), json.dumps(references), tokenizer],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                cwd=place,
                env=_environment(place),
            )
        except subprocess.TimeoutExpired:
            return [f"the code was not imported within {_SECONDS} seconds: something waits when it is imported"]
    try:
        failed = json.loads(done.stdout)
    except ValueError:
        failed = None
    if not isinstance(failed, dict):
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return [f"the code cannot be imported without kexue_hf: {printable(last, 300)}"]
    return [
        f"{name} cannot be loaded without kexue_hf: {printable(str(error).replace(str(published), str(folder)), 300)}"
        for name, error in sorted(failed.items())
    ]


def _environment(place: str) -> dict[str, str]:
    """Return the environment of the process that imports: without secrets, with folders of its own."""
    kept = {name: value for name, value in os.environ.items() if not is_secret_name(name)}
    # huggingface_hub would find the token of `hf auth login` in the user's folder.
    own = {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_TOKEN_PATH": os.path.join(place, "none")}
    return {**kept, **own, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": place, "TRANSFORMERS_VERBOSITY": "error"}


def _link_files(folder: Path, files: Sequence[FolderFile], target: Path) -> None:
    """Make a folder with the given files alone, as links where the system has them."""
    target.mkdir()
    for file in files:
        path = target / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.symlink_to((folder / file.path).absolute())
        except OSError:  # Windows allows links to some users only
            shutil.copyfile(folder / file.path, path)


def _expected_classes(config: Mapping[str, Any]) -> set[str]:
    """Return the Auto classes that our classes of this model type have."""
    model_type = config.get("model_type")
    # An auto_map without AutoModel is reported as a whole by `examine_folder`.
    auto_map = config.get("auto_map")
    if model_type not in our_types() or not isinstance(auto_map, dict) or "AutoModel" not in auto_map:
        return set()
    module = importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}")
    return set(module.AUTO_MAP)


# What stands in these is no name of the module.
_OWN_NAMES = (
    ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp,
)  # fmt: skip


@dataclass(frozen=True)
class _Source:
    """What a module defines at its top, and the siblings that it imports; or why it cannot be read."""

    defined: frozenset[str] = frozenset()
    imported: tuple[str, ...] = ()
    fault: str = ""


def _source(folder: Path, module: str) -> _Source | None:
    """Return what a module of the folder holds; None for a missing file, which others report."""
    path = folder / f"{module}.py"
    return _read_source(path.read_bytes()) if path.is_file() else None


# Several Auto classes name one module, and a report asks for it several times.
@functools.lru_cache(maxsize=256)
def _read_source(text: bytes) -> _Source:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        return _Source(fault=f"is not valid Python: {printable(str(error))}")
    except (RecursionError, MemoryError):  # of deeply nested expressions
        return _Source(fault="is too deeply nested for Python")
    imported = (node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1)
    return _Source(frozenset(_defined(tree)), tuple(dict.fromkeys(name for name in imported if name)))


def _imports(folder: Path, start: str) -> Iterator[tuple[str, str]]:
    """Yield (importing, imported) of the relative imports, which alone are copied to a reader's machine."""
    waiting, seen = [start], {start}
    while waiting:
        module = waiting.pop()
        source = _source(folder, module)
        for imported in source.imported if source is not None else ():
            if imported not in seen:
                seen.add(imported)
                waiting.append(imported)
                yield module, imported


def _defined(tree: ast.Module) -> set[str]:
    """Return the names that a module may have after its import; with `*` if they cannot all be known."""
    names: set[str] = set()
    waiting: list[ast.AST] = [*tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _OWN_NAMES):
            names.add(getattr(node, "name", ""))
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        waiting += ast.iter_child_nodes(node)
    return names


__all__ = ["code_problems", "import_problems", "needed_code", "references_of"]
