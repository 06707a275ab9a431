"""The code that a saved folder carries: everything that its auto_map names is there, and imports without this package.

`code_problems` reads the code and runs none of it. `import_problems` imports it in a fresh process.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kexue_hf.errors import printable
from kexue_hf.hub.saved_model import NATIVE, json_fields

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
    parsed: dict[str, ast.Module | str] = {}
    for auto, reference in references.items():
        module, _, name = reference.partition(".")
        if "--" in reference:
            problems.append(f"{auto} uses code of another repository, {printable(reference)}: save the folder again")
        elif not (module.isidentifier() and name.isidentifier()):
            problems.append(f"{auto} should name MODULE.CLASS, got {printable(reference)!r}")
        elif isinstance(tree := _parse(folder, module, parsed), ast.Module) and name not in _defined(tree):
            problems.append(f"{auto} names {name}, which {module}.py does not define")
    for module in list(parsed):
        problems += _import_problems(folder, module, parsed)
    problems += [text for text in parsed.values() if isinstance(text, str) and text]
    return list(dict.fromkeys(problems))


def import_problems(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """Import every class that the folder names, in a process without this package; return one phrase for each failure.

    This runs the folder's code. Takes the seconds in which torch and transformers are imported.
    """
    references = sorted(set(references_of(folder, config).values()))
    tokenizer = "tokenizer" if (folder / "tokenizer_config.json").is_file() else "none"
    if not references:
        return []
    with tempfile.TemporaryDirectory() as place:
        # From another folder, so that no file beside this process is imported instead.
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT, str(folder.absolute()), json.dumps(references), tokenizer],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            cwd=place,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": place, "TRANSFORMERS_VERBOSITY": "error"},
        )
    try:
        failed: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return [f"the code cannot be imported without kexue_hf: {printable(last, 300)}"]
    return [
        f"{name} cannot be loaded without kexue_hf: {printable(error, 300)}" for name, error in sorted(failed.items())
    ]


def _expected_classes(config: Mapping[str, Any]) -> set[str]:
    """Return the Auto classes that our classes of this model type have."""
    model_type = config.get("model_type")
    # An auto_map without AutoModel is reported as a whole by `examine_folder`.
    auto_map = config.get("auto_map")
    if model_type in NATIVE or not isinstance(auto_map, dict) or "AutoModel" not in auto_map:
        return set()
    try:
        module = importlib.import_module(f"kexue_hf.models.{model_type}.auto_map_{model_type}")
    except ImportError:
        return set()
    return set(module.AUTO_MAP)


def _parse(folder: Path, module: str, parsed: dict[str, ast.Module | str]) -> ast.Module | str:
    """Return the syntax tree of a module; a problem, or nothing for a missing file, which others report."""
    if module not in parsed:
        path = folder / f"{module}.py"
        try:
            parsed[module] = ast.parse(path.read_bytes()) if path.is_file() else ""
        except (SyntaxError, ValueError) as error:
            parsed[module] = f"{module}.py is not valid Python: {printable(str(error))}"
    return parsed[module]


def _import_problems(folder: Path, start: str, parsed: dict[str, ast.Module | str]) -> Iterator[str]:
    """Follow the relative imports, which alone are copied to a reader's machine."""
    waiting, seen = [start], {start}
    while waiting:
        module = waiting.pop()
        tree = _parse(folder, module, parsed)
        if not isinstance(tree, ast.Module):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and node.module not in seen:
                seen.add(node.module)
                if (folder / f"{node.module}.py").is_file():
                    waiting.append(node.module)
                else:
                    yield f"{module}.py imports {node.module}.py, which is not in the folder"


def _defined(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, (ast.If, ast.Try)):
            names |= _defined(ast.Module(node.body, []))
    return names


__all__ = ["code_problems", "import_problems", "references_of"]
