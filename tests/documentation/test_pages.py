"""The code blocks of the documentation run, in order, one page after the other in one process.

Commands of `kexue-hf` run. Of scripts, whose runs take long, the options are parsed: their own tests run them. A block
that cannot run says why in a comment before it.
"""

import argparse
import itertools
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kexue_hf.cli.main import main
from kexue_hf.trainers import training_script
from tests.documentation.blocks import PAGES, ROOT, SHOWN, blocks_of, commands_of
from tests.documentation.folders import NAMES, make

# Pages whose Python blocks another test runs, which also looks at the results.
ELSEWHERE = {
    "docs/losses.md": "tests/losses/test_training.py",
    "docs/metric_training.md": "tests/trainers/test_policy_gradient.py",
    "docs/xiangqi.md": "tests/play/test_documentation.py",
    "docs/zeroth_order.md": "tests/trainers/test_zeroth_order.py",
}
# Commands whose options are parsed, and why they do not run.
ONLY_PARSED = {
    "play": "waits for the moves of a player",
    "push": "needs the Hub",
    "demo": "tests/cli/test_demo.py runs it",
}
# Pages whose Python blocks, and scripts that, need a package which the tests can do without.
NEEDED = {
    "docs/deployment.md": "onnxscript",
    "examples/embed_corpus_ray.py": "ray",
    "examples/space/app.py": "gradio",
}
LAUNCHERS = ("accelerate", "torchrun")


class Parsed(Exception):
    """The options of a script are right."""


@pytest.fixture
def parsing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scripts end after their options were parsed."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse(parser: argparse.ArgumentParser, arguments: Any = None, namespace: Any = None) -> Any:
        parse_args(parser, arguments, namespace)
        raise Parsed

    def script(name: str, text: str, options: type, run: Any, arguments: Any, training: type | None = None) -> None:
        classes = (options, training or training_script.TrainingArguments)
        parser = training_script.ScriptParser(name, text, classes)
        # A line that goes on from another one does not repeat what is required.
        for action in parser._actions:
            action.required = False
        # Not into TrainingArguments, which refuse what this machine cannot do, such as --bf16.
        parser.parse_args(arguments)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    monkeypatch.setattr(training_script, "run_script", script)
    yield


def parse_script(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse the options of the script in a command, such as `accelerate launch OPTIONS SCRIPT OPTIONS`."""
    place = next(number for number, word in enumerate(words) if word.endswith(".py"))
    if words[place] in NEEDED and not find_spec(NEEDED[words[place]]):
        return
    script = ROOT / words[place]
    monkeypatch.setattr(sys, "argv", [str(script), *words[place + 1 :]])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(Parsed):
        runpy.run_path(str(script), run_name="__main__")


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program, *rest = words
    if program == "kexue-hf":
        if rest[0] in ONLY_PARSED:
            rest = [*rest, "--help"]
        elif "--calibrate" in rest:
            # It finds the packaged model too weak, and later commands would refuse it: calibrate a copy.
            rest[1] = str(shutil.copytree(rest[1], f"calibrated-{rest[1]}"))
        elif "--resume" in rest:
            # On the page, the run before was stopped; here it has finished.
            Path(rest[rest.index("--output") + 1]).unlink()
        with pytest.raises(SystemExit) as stop:
            main(rest)
            raise SystemExit(0)
        assert not stop.value.code, words
    elif program == "pip":
        extras = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
        assert rest[:2] == ["install", "-e"] and rest[2].strip(".[]") in {*extras, ""}, words
    elif any(word.endswith(".py") for word in rest) and program in ("python", *LAUNCHERS):
        parse_script(words, monkeypatch)
    else:
        assert (ROOT / program).exists() or program in ("ruff", "mypy", "pytest"), words


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_the_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsing: None) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    blocks = blocks_of(page)
    make(page, "\n".join(block.code for block in blocks), tmp_path)
    readers = {path.name for path in tmp_path.iterdir()}
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(textwrap.dedent(NAMES.get(page, "")), names)
    for block in blocks:
        if block.reason is not None or block.language in SHOWN:
            continue
        if block.language == "bash":
            for words in commands_of(block.code):
                run_command(words, monkeypatch)
        elif page not in ELSEWHERE and (page not in NEEDED or find_spec(NEEDED[page])):
            exec(compile(block.code, f"{page}, line {block.line}", "exec"), names)
    written = [path for path in tmp_path.iterdir() if path.name not in {*readers, "cache"}]
    # Neither the copies of `run_command` nor the output of a reader's trainer.
    written = [path for path in written if not path.name.startswith("calibrated-")]
    written = [path for path in written if f'"{path.name}"' not in NAMES.get(page, "")]
    assert seen_by_git(f"{path.name}/" if path.is_dir() else path.name for path in written) == []


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_git_ignores_what_scripts_write(page: str) -> None:
    blocks = [block for block in blocks_of(page) if block.language == "bash" and block.reason is None]
    pairs = [pair for block in blocks for words in commands_of(block.code) for pair in itertools.pairwise(words)]
    outputs = [value for option, value in pairs if option in ("--output_dir", "--output", "--report", "--text-output")]
    assert seen_by_git({value if Path(value).suffix else f"{value.rstrip('/')}/" for value in outputs}) == []


def test_git_sees_other_names() -> None:
    assert seen_by_git(["my-own-model/", "notes.txt"]) == ["my-own-model/", "notes.txt"]


def seen_by_git(names: Iterable[str]) -> list[str]:
    """Return the names that `git status` would show if they lay in the repository's root."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    names = sorted(names)
    command = ["git", "check-ignore", "--no-index", "--stdin", "-z"]
    done = subprocess.run(command, cwd=ROOT, input="\0".join(names), capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    ignored = set(done.stdout.split("\0"))
    return [name for name in names if name not in ignored]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_known_kind(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert text.count("\n```") == 2 * len(blocks_of(page)), "a fence that the tests do not see"
    assert text.count("<!-- not run: ") == sum(block.reason is not None for block in blocks_of(page))
    assert {block.language for block in blocks_of(page)} <= {"bash", "python", *SHOWN}


@pytest.mark.parametrize("page", ELSEWHERE)
def test_another_test_runs_it(page: str) -> None:
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text("utf-8")
