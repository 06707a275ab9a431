"""The notebooks of the documentation print what they store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_stored_outputs_are_those_of_the_code() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "run_notebooks.py", "--check"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
