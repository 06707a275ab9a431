"""A network in evaluation mode for a while, each of its modules left in the mode it was in."""

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode within the block.

    `model.eval()` and `model.train(before)` would not do: they set every module alike, and a part that its owner has
    frozen in evaluation mode, dropout off, would be trained with dropout from then on.
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
