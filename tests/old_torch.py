"""What the oldest releases of torch cannot do, though the package works on them."""

import pytest
import torch
from packaging.version import Version

OLD_TORCH = Version(torch.__version__) < Version("2.8")

needs_tracing = pytest.mark.skipif(OLD_TORCH, reason="torch before 2.8 cannot trace transformers' own code")
# FSDP itself wants the streams of an accelerator there.
SHARDS_ON_CPUS = not OLD_TORCH
needs_shards_on_cpus = pytest.mark.skipif(not SHARDS_ON_CPUS, reason="torch before 2.8 does not shard on CPUs")
