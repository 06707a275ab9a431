"""The losses of SimSiam: a negative cosine, or InfoNCE with the other texts of the batch as negatives."""

from typing import Any

import torch
from torch import distributed
from torch.nn import functional


def compare(predictions: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return minus the mean cosine of predictions and targets, each [batch, size]; a zero vector has cosine 0."""
    left, right = (functional.normalize(one.float(), dim=-1) for one in (predictions, targets))
    return -(left * right).sum(-1).mean()


def compare_in_batch(predictions: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the cross entropy of finding each prediction's own target among those of all texts of all processes.

    Args:
        predictions, targets: [batch, size]; all processes have batches of the same size.
        temperature: divides the cosines.

    Raises:
        ValueError: there is no other text, or the batches of the processes differ in size.
    """
    left, right = (functional.normalize(one.float(), dim=-1) for one in (predictions, targets))
    first = 0
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        from torch.distributed.nn.functional import all_gather

        sizes: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(sizes, len(right))
        if len(set(sizes)) > 1:
            raise ValueError(f"expected batches of one size in all processes, got {sizes}: set dataloader_drop_last")
        first = distributed.get_rank() * len(right)
        right = torch.cat(all_gather(right))
    if len(right) < 2:
        raise ValueError(
            "expected at least 2 texts in a batch, got 1, which has no negatives: use larger batches "
            "(dataloader_drop_last=True for the last one), or negatives='none'"
        )
    own = torch.arange(first, first + len(left), device=left.device)
    with torch.autocast(left.device.type, enabled=False):  # half precision would round cosines / 0.05 to 0.1
        return functional.cross_entropy(left @ right.T / temperature, own)


__all__ = ["compare", "compare_in_batch"]
