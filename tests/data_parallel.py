"""Training over two devices of one process, as `nn.DataParallel` does it, without two GPUs."""

from typing import Any

import torch
from torch import nn


class Halves(nn.DataParallel):
    """Run the model on each half of a batch, and join the outputs as `nn.DataParallel` joins them.

    Use it in place of `nn.DataParallel`, which passes the batch on whole if there is no GPU, and set `args._n_gpu` to
    2 before the trainer is made.
    """

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)
        self.module, self.device_ids = module, []

    def forward(self, **inputs: torch.Tensor) -> Any:
        halves = [{name: value.tensor_split(2)[number] for name, value in inputs.items()} for number in range(2)]
        parts = [self.module(**half) for half in halves]
        # Scalars become one number for each device.
        return {name: torch.cat([torch.atleast_1d(part[name]) for part in parts]) for name in parts[0]}
