"""A conversion imports neither torch nor transformers, and h5py only for Keras files."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conversion.checkpoints import GOLDEN

HEAVY = {"torch", "transformers", "tokenizers", "datasets", "tensorflow", "safetensors"}


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (("convert", "--help"), HEAVY | {"h5py", "numpy", "crc32c"}),
        (("export", "--help"), HEAVY | {"h5py", "numpy", "crc32c"}),
        (("convert", str(GOLDEN / "wobert_tf_ckpt"), "out"), HEAVY | {"h5py", "tqdm"}),
        (("convert", str(GOLDEN / "wobert_keras_h5"), "out"), HEAVY),
        (("export", "folder", "out"), HEAVY | {"h5py"}),
        (("verify", "folder", "--against", str(GOLDEN / "wobert_tf_ckpt")), HEAVY | {"h5py"}),
    ],
    ids=["convert_help", "export_help", "checkpoint", "keras", "export", "verify"],
)
def test_imports_of_a_process(arguments: tuple[str, ...], forbidden: set[str], tmp_path: Path) -> None:
    from kexue_hf.conversion.convert import convert

    convert(GOLDEN / "wobert_tf_ckpt", tmp_path / "folder")
    code = f"""
import sys
from kexue_hf.cli.main import main
try:
    main({list(arguments)!r})
except SystemExit as stop:
    assert not stop.code, stop.code
loaded = {forbidden!r} & set(sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
