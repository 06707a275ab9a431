"""Sums over the batches of all processes, for losses that are no sums over items."""

from typing import Any

import torch
import torch.distributed as dist

from kexue_hf.losses.items import number_of_items


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(values: torch.Tensor) -> torch.Tensor:
    """Return values summed over all processes; gradients reach this process's own.

    Every process must call it equally often.
    """
    if not _distributed():
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    # The others' parts are constants here: DDP adds up what each process contributes.
    return values + (total - values.detach())


def share_of_batch(loss: torch.Tensor, labels: torch.Tensor, items: int, num_items_in_batch: Any) -> torch.Tensor:
    """Return this process's share of a loss that was computed from the sums of all processes.

    An accumulated batch gets the mean over its parts, weighted by their items. `Trainer` multiplies by the number of
    processes and DDP averages gradients, so that value and gradient are those of the whole.

    Args:
        loss: the same value on every process; returned as it is if `num_items_in_batch` is None.
        items: labelled items of this part of the batch on this process.
    """
    if num_items_in_batch is None:
        return loss
    processes = dist.get_world_size() if _distributed() else 1
    here = sum_over_processes(torch.tensor(float(items), device=labels.device))
    weight = here / number_of_items(labels, num_items_in_batch)
    # The value is divided among the processes; the gradient is this process's part already.
    return weight * (loss + loss.detach() * (1 / processes - 1))


__all__ = ["share_of_batch", "sum_over_processes"]
