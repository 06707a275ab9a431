"""A few cases of the two harnesses in .ci: damaged files and killed processes."""

import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[1] / ".ci"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fuzz_files.py", "--cases=18", "--kinds=index,data,h5,vocab,config,safetensors,keras,dictionary,doctor"],
        ["kill_harness.py", "--cases=2", "--jobs=convert,export_keras"],
    ],
    ids=["damaged", "killed"],
)
def test_a_few_cases_pass(arguments: list[str], tmp_path: Path) -> None:
    if not CI.is_dir():
        pytest.skip("an installation without .ci")
    script, *options = arguments
    done = subprocess.run(
        [sys.executable, CI / script, *options], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
