"""README says what is so: its tables are the results', its commands are those that are run, its files exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from kexue_hf import convert

ROOT = Path(__file__).parents[1]
READMES = ["README.md", "README.zh.md"]
TEST_COMMAND = 'pip install -e ".[test]" && pytest'


def test_tables_are_what_the_results_say() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "tables.py", "--check"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", READMES)
def test_the_two_commands_stand_alone(name: str) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)
    assert "pip install -e . && kexue-hf demo\n" in blocks
    assert f"{TEST_COMMAND}\n" in blocks


def test_ci_runs_the_test_command_of_the_readme() -> None:
    last = (ROOT / ".ci" / "run").read_text("utf-8").strip().splitlines()[-1]
    assert last.removeprefix("pip install -q").strip() == TEST_COMMAND.removeprefix("pip install").strip()


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("name", READMES)
def test_the_file_map_is_true(name: str) -> None:
    tree = re.search(r"```\nkexue_hf/\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)[1]
    named = {folder for line in tree.splitlines() for folder in re.findall(r"(\w+)/", line)}
    assert named == {path.parent.name for path in (ROOT / "kexue_hf").glob("*/*") if path.suffix in (".py", ".md")}


@pytest.mark.parametrize("name", READMES)
def test_it_is_short(name: str) -> None:
    assert len((ROOT / name).read_bytes()) < 9 * 1024


def blocks(name: str) -> list[tuple[str, str]]:
    """Return the language and the code of each block, without comments, which differ between the two languages."""
    found = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)
    return [(kind, re.sub(r"\s+# .*", "", code)) for kind, code in found if not code.startswith("git clone")]


def test_both_languages_have_the_same_blocks_and_tables() -> None:
    assert blocks("README.md") == blocks("README.zh.md")
    english, chinese = ((ROOT / name).read_text("utf-8").replace("/index.zh.md", "/index.md") for name in READMES)
    for pattern in (r"<!-- table:\w+ -->", r"`kexue-hf [^`]+`", r"docs/\w+\.\w+", r"`[\w.]+\.from_pretrained[^`]+`"):
        assert re.findall(pattern, english) == re.findall(pattern, chinese)


@pytest.mark.slow
def test_the_blocks_run_as_they_stand(tmp_path: Path) -> None:
    """One process runs all of them in order, after what the demo leaves."""
    convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", tmp_path / "kexue-demo" / "wobert-tiny", dtype="float32")
    (tmp_path / "kexue_hf").symlink_to(ROOT / "kexue_hf")
    script = ["from kexue_hf.cli.main import main"]
    for kind, code in blocks("README.md"):
        if kind == "python":
            # One epoch instead of twelve: the block runs, and the model learns.
            script.append(code.replace("num_train_epochs=12", 'num_train_epochs=1, report_to="none", use_cpu=True'))
        elif code.startswith("kexue-hf"):
            for line in code.splitlines():
                call = f"main({shlex.split(line)[1:]!r})"
                script.append(f"try:\n    {call}\nexcept SystemExit as stop:\n    assert not stop.code, stop")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"^(0\.\d+)$", done.stdout, re.MULTILINE)
    assert accuracy and float(accuracy[1]) > 0.35
    assert "提出" in done.stdout and "结果表明" in done.stdout and (tmp_path / "vectors.npy").exists()
