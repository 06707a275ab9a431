"""The end of a training of several processes."""

import torch


def leave_process_group() -> None:
    """Leave the group of processes, if this one is in any.

    Left to the end of the interpreter, the group's threads may still run then, and abort a process that has done all
    its work.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


__all__ = ["leave_process_group"]
