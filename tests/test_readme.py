"""README says what is so: its tables are the results', its commands are those that are run, its files exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
