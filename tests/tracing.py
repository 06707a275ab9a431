"""What a test of `torch.export` or of a whole graph needs."""

import pytest
import torch
from packaging.version import Version

needs_tracing = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.8"), reason="torch before 2.8 cannot trace transformers' own code"
)
