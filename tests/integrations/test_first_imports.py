"""Whatever module of ours is imported first, every hook is set up, and none of them warns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Modules that hooks import too, and that import transformers themselves.
FIRST = ("kexue_hf.performer.swap", "kexue_hf.performer.attention_modules")
# Each import in a fork, because torch takes longest to import and none of this concerns it.
SCRIPT = """
import importlib, os, sys, warnings
import datasets, numpy, torch
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        warnings.simplefilter("error")
        try:
            importlib.import_module(name)
            import transformers
            transformers.AutoModel
            assert getattr(transformers.PreTrainedModel.post_init, "creates_feature_maps", False), "no hook"
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
def test_hooks_are_set_up_whatever_is_imported_first() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *FIRST],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout == "" and done.returncode == 0, done.stdout + done.stderr
