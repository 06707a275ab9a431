"""Location of the larger test data, if available: a folder `shared` beside the checkout, or $KEXUE_SHARED."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(os.environ.get("KEXUE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
SHARED: Path | None = _BESIDE if (_BESIDE / "golden").is_dir() else None

needs_shared = pytest.mark.skipif(SHARED is None, reason="needs the larger test data beside this checkout")
