"""What the gradients of all kernels have in common.

* Backward passes are computed in full precision, wherever `backward` is called: autocast around it stays outside.
* What is computed on the way is not kept but computed again, `recomputed`. What is computed from is saved: whoever
  changes it in place before the backward pass gets an error of torch's, not the gradient of something else.
* Second derivatives are those of torch's own operations, or refused, `first_derivatives_only`; never wrong.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch


def full_precision(device: torch.device) -> Any:
    """No autocast on a device."""
    kind = device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def first_derivatives_only(backward: Callable) -> Callable:
    """Decorates a `backward` that is no chain of differentiable operations.

    Torch's `once_differentiable` is not enough: the error that it leaves behind is met by `backward()`, but not by
    `torch.autograd.grad`, which then gives a part of the second derivative for the whole.

    Raises:
        RuntimeError: by the backward pass, if a graph of it is asked for.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, *gradients: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "linear attention to all keys has first derivatives only, got create_graph=True: for second ones "
                "choose softmax (attn_implementation='eager')"
            )
        with full_precision(gradients[0].device):
            return backward(ctx, *gradients)

    return checked


def recomputed(function: Callable, *inputs: Any) -> Any:
    """`function(*inputs)`; of what it computes on the way nothing is kept for the backward pass.

    Args:
        function: depends on no tensor but its inputs, and gives tensors.
        inputs: tensors, tuples and named tuples of such, and constants.
    """
    # A graph that is exported has no backward pass.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*inputs)
    tensors, build = _taken_apart(inputs)
    shape: list[Callable[[Iterator[torch.Tensor]], Any]] = []
    found = _Recomputed.apply(function, build, shape, *tensors)
    return shape[0](iter(found))


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, function: Callable, build: Callable, shape: list[Callable], *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.function, ctx.build = function, build
        ctx.save_for_backward(*tensors)
        # Nothing has to be computed for an output that has no gradient, as the past of the last chunk.
        ctx.set_materialize_grads(False)
        found, put_together = _taken_apart(function(*build(iter(tensors))))
        shape.append(put_together)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        differentiable, needed = torch.is_grad_enabled(), ctx.needs_input_grad[3:]
        # Once: inside a checkpoint of torch's they are computed for a single look.
        saved = ctx.saved_tensors
        with torch.enable_grad(), full_precision(saved[0].device):
            # Nodes of their own, so that a tensor that is given twice has two gradients.
            tensors = [
                tensor.view_as(tensor) if differentiable else tensor.detach().requires_grad_(wanted)
                for tensor, wanted in zip(saved, needed, strict=True)
            ]
            found, _ = _taken_apart(ctx.function(*ctx.build(iter(tensors))))
            pairs = [
                (output, gradient)
                for output, gradient in zip(found, gradients, strict=True)
                if gradient is not None and output.requires_grad
            ]
            inputs = [tensor for tensor, wanted in zip(tensors, needed, strict=True) if wanted]
            results: Iterator[torch.Tensor | None] = iter([None] * len(inputs))
            if pairs:
                outputs, above = zip(*pairs, strict=True)
                results = iter(
                    torch.autograd.grad(outputs, inputs, above, create_graph=differentiable, allow_unused=True)
                )
        return (None, None, None, *(next(results) if wanted else None for wanted in needed))


def _taken_apart(tree: Any) -> tuple[list[torch.Tensor], Callable[[Iterator[torch.Tensor]], Any]]:
    """The tensors of nested tuples, and what makes the same of others."""
    if isinstance(tree, torch.Tensor):
        return [tree], next
    if not isinstance(tree, tuple):
        return [], lambda _: tree
    parts = [_taken_apart(part) for part in tree]
    kind: Any = type(tree)

    def build(found: Iterator[torch.Tensor]) -> Any:
        made = [make(found) for _, make in parts]
        return kind(*made) if hasattr(kind, "_fields") else tuple(made)

    return [tensor for tensors, _ in parts for tensor in tensors], build


__all__ = ["first_derivatives_only", "full_precision", "recomputed"]
