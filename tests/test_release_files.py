"""What describes the project to others agrees with pyproject.toml."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
VERSION = re.search(r'^version = "(.*)"', PYPROJECT, re.MULTILINE)[1]


def oldest(package: str) -> str:
    return re.search(rf'^  "{package}>=([0-9.]+)', PYPROJECT, re.MULTILINE)[1]


def test_the_citation_has_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == VERSION
    assert re.search(r'^license = "(\S+) AND', PYPROJECT, re.MULTILINE)[1] == citation["license"]
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_suite_runs_on_the_oldest_releases_and_every_python() -> None:
    suite = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))["jobs"]["suite"]
    matrix = suite["strategy"]["matrix"]
    assert matrix["python"][0] == re.search(r'requires-python = ">=(.*)"', PYPROJECT)[1]
    bounds = {"transformers": f"=={oldest('transformers')}.0", "torch": f"=={oldest('torch')}.0"}
    assert {"python": matrix["python"][0], **bounds} in matrix["include"]


def test_every_workflow_runs_the_slow_tests_too() -> None:
    """pyproject.toml leaves them out by default."""
    text = "".join(path.read_text("utf-8") for path in (ROOT / ".github").rglob("*.yml"))
    runs = re.findall(r"- run: (pytest .*|pytest)$", text, re.MULTILINE)
    assert runs and all('-m "slow or not slow"' in run for run in runs), runs


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_scripts_of_the_workflows_exist(path: Path) -> None:
    text = path.read_text("utf-8")
    assert yaml.safe_load(text)
    for script in re.findall(r"run: (\.ci/\w+)", text):
        assert (ROOT / script).exists(), script
