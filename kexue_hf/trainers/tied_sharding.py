"""torch's FSDP2 for a BERT with a masked-word head: weights, gradients and optimizer states divided among processes.

Why not leave it to accelerate (checked: 1.15 with torch 2.13): it gives the embeddings, and the last layer of the
head, groups of their own. A masked-word head shares its matrix with the embeddings and its bias with itself, and torch
wants what is shared in one group; so `--fsdp` ends in an error for every BERT, transformers' own included. Here each
layer is a group and the rest, embeddings and head together, is the outermost one. accelerate leaves a model alone that
is divided already.
"""

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard


def shard(model: nn.Module, plugin: Any, device: torch.device) -> None:
    """Divide `model` among all processes, in place.

    Args:
        plugin: accelerate's `FullyShardedDataParallelPlugin`, whose `reshard_after_forward`, `cpu_offload` and
            `mixed_precision_policy` are used. Its wrapping policy is not: the groups are the model's layers.
        device: where this process computes.

    Raises:
        ValueError: the model has no `nn.ModuleList` of layers.
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    if not lists:
        raise ValueError(f"expected a model with a list of layers, got {type(model).__name__}")
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (torch.distributed.get_world_size(),)),
        "reshard_after_forward": plugin.reshard_after_forward,
        "mp_policy": plugin.mixed_precision_policy or MixedPrecisionPolicy(),
    }
    if plugin.cpu_offload:
        options["offload_policy"] = plugin.cpu_offload
    for layer in lists[0]:
        fully_shard(layer, **options)
    fully_shard(model, **options)
    plugin.auto_wrap_policy = None  # would look for classes that fully_shard has renamed


__all__ = ["shard"]
