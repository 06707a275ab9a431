"""Helpers for the gradients of all kernels.

* Backward passes run in full precision, even if `backward` is called under autocast.
* `recomputed` keeps no intermediate results but computes them again. Its inputs are saved: changing them in place
  before the backward pass raises torch's error instead of giving a wrong gradient.
* Second derivatives are those of torch's own operations, or refused (`first_derivatives_only`); never wrong.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch


def full_precision(device: torch.device) -> Any:
    """Return a context without autocast on a device."""
    kind = device.type
    # Devices with a compiler have it, and torch 2.8 does not trace the question.
    has_autocast = kind != "meta" and (torch.compiler.is_compiling() or torch.amp.is_autocast_available(kind))
    return torch.autocast(kind, enabled=False) if has_autocast else nullcontext()


def first_derivatives_only(backward: Callable) -> Callable:
    """Decorate a `backward` that is not a chain of differentiable operations.

    Torch's `once_differentiable` is not enough: `backward()` raises its error, but `torch.autograd.grad` returns a
    part of the second derivative instead of the whole.

    Raises:
        RuntimeError: in the backward pass, if its graph is requested.
    """

    @functools.wraps(backward)
    def checked(ctx: Any, *gradients: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "linear attention to all keys has first derivatives only, got create_graph=True: for second "
                "derivatives choose softmax (attn_implementation='eager')"
            )
        with full_precision(gradients[0].device):
            return backward(ctx, *gradients)

    return checked


def recomputed(function: Callable, *inputs: Any) -> Any:
    """Return `function(*inputs)` without keeping its intermediate results for the backward pass.

    Args:
        function: depends on no tensors except its inputs, and returns tensors.
        inputs: tensors, tuples and named tuples of tensors, and constants.
    """
    # An exported graph has no backward pass.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*inputs)
    tensors, build = _flatten(inputs)
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
        # Outputs without a gradient, such as the past of the last chunk, cost nothing.
        ctx.set_materialize_grads(False)
        found, put_together = _flatten(function(*build(iter(tensors))))
        shape.append(put_together)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        differentiable, needed = torch.is_grad_enabled(), ctx.needs_input_grad[3:]
        # Read only once: torch's checkpointing computes them for a single access.
        saved = ctx.saved_tensors
        with torch.enable_grad(), full_precision(saved[0].device):
            # Separate nodes, so that a tensor passed twice gets two gradients.
            tensors = [
                tensor.view_as(tensor) if differentiable else tensor.detach().requires_grad_(wanted)
                for tensor, wanted in zip(saved, needed, strict=True)
            ]
            found, _ = _flatten(ctx.function(*ctx.build(iter(tensors))))
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


def _flatten(tree: Any) -> tuple[list[torch.Tensor], Callable[[Iterator[torch.Tensor]], Any]]:
    """Split nested tuples into their tensors and a function that rebuilds them from others."""
    if isinstance(tree, torch.Tensor):
        return [tree], next
    if not isinstance(tree, tuple):
        return [], lambda _: tree
    parts = [_flatten(part) for part in tree]
    kind: Any = type(tree)

    def build(found: Iterator[torch.Tensor]) -> Any:
        made = [make(found) for _, make in parts]
        return kind(*made) if hasattr(kind, "_fields") else tuple(made)

    return [tensor for tensors, _ in parts for tensor in tensors], build


__all__ = ["first_derivatives_only", "full_precision", "recomputed"]
