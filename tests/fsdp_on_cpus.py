"""Run FSDP on CPUs, which accelerate ignores there: the path that is meant for GPUs, tested and timed without any.

    torchrun --nproc_per_node 2 tests/fsdp_on_cpus.py SCRIPT [OPTIONS OF THE SCRIPT] --fsdp

It rewrites accelerate's private state (tried: 1.15), which the package must not do.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

from accelerate.state import DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from transformers import Trainer


def enable() -> None:
    """Have every Trainer of this process that is given `--fsdp` shard on CPUs too."""
    create: Any = Trainer.create_accelerator_and_postprocess

    def create_with_fsdp(self: Any) -> None:
        create(self)
        state = self.accelerator.state
        if self.args.fsdp_plugin_args is not None and self.accelerator.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            if state.mixed_precision != "no":
                state.fsdp_plugin.set_mixed_precision(state.mixed_precision)
            state.distributed_type = DistributedType.FSDP
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.is_fsdp_enabled = True
            assert self.accelerator.distributed_type == DistributedType.FSDP, "accelerate has moved its state"

    Trainer.create_accelerator_and_postprocess = create_with_fsdp


if __name__ == "__main__":
    enable()
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
