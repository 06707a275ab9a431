"""Files that travel to the Hub cannot import another model's, so what several models need lies there several times."""

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kexue_hf"
COPIES = [
    (path, head.removeprefix("# Copied from "))
    for path in sorted(PACKAGE.rglob("*.py"))
    if (head := path.read_text("utf-8").partition("\n")[0]).startswith("# Copied from ") and head.endswith(".py")
]


@pytest.mark.parametrize(("copy", "original"), COPIES, ids=[path.stem for path, _ in COPIES])
def test_a_copied_file_equals_its_original(copy: Path, original: str) -> None:
    (found,) = PACKAGE.rglob(original)
    assert copy.read_text("utf-8").partition("\n")[2] == found.read_text("utf-8")
