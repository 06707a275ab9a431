"""README says what is so: its tables are the results', its commands are those that are run, its files exist."""

import os
import re
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
    for line in tree.splitlines():
        parent = "kexue_hf" if line.startswith("  ") else ""
        for path in re.split(r"\s{2,}", line.strip())[:-1]:
            assert list((ROOT / parent).glob(path.rstrip("/"))), path


def test_both_languages_have_the_same_tables_and_commands() -> None:
    english, chinese = ((ROOT / name).read_text("utf-8") for name in READMES)
    for pattern in (r"<!-- table:\w+ -->", r"kexue-hf \w+", r"\w+\.from_pretrained"):
        assert re.findall(pattern, english) == re.findall(pattern, chinese)


def test_both_trainer_blocks_are_one() -> None:
    blocks = [
        re.findall(r"```python\n(from importlib.*?)found\.pred", (ROOT / name).read_text("utf-8"), re.DOTALL)
        for name in READMES
    ]
    assert blocks[0] == blocks[1] and len(blocks[0]) == 1


def test_the_trainer_block_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if "trainer.train()" in block)
    convert(ROOT / "kexue_hf" / "assets" / "wobert_tiny", tmp_path / "kexue-demo" / "wobert-tiny", dtype="float32")
    # One epoch instead of twelve: that it runs as it stands, and learns.
    code = block.replace("num_train_epochs=12", 'num_train_epochs=1, report_to="none", use_cpu=True')
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.strip().splitlines()[-1]) > 0.35
