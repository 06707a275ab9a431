"""Put a network into evaluation mode temporarily."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model into evaluation mode within the block, then restore the mode of each module.

    `model.eval()` followed by `model.train(before)` would set all modules alike. A part that its owner had frozen in
    evaluation mode would then train with dropout.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


__all__ = ["evaluating"]
