"""Compute the loss of a large vocabulary without keeping its logits in memory.

If nearly every token is predicted, as in language autoencoding, the logits take most of the memory: 32 rows of 128
tokens and 21,128 words are 346 MB as float32, and cross entropy with its gradient keeps three such arrays. Here, the
logits of a few hundred positions are computed at a time, and their gradient at once, while they are in the CPU cache.
Only the gradients with respect to states and weights are kept, which are small. No logit is computed twice.

The loss is installed with hooks, as in `selected_logits`. It does not work with `nn.DataParallel`, whose replicas
share the hooks.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle

from kexue_hf.trainers.selected_logits import IGNORED

# Number of positions whose logits are in memory at a time.
CHUNK = 256


def use_chunked_loss(model: nn.Module, chunk: int = CHUNK) -> list[RemovableHandle]:
    """Make `model` compute its loss in chunks while it trains on labels.

    Loss and gradients are equal; `logits` are [1, 0, vocabulary]. In evaluation mode, without labels, or with labels
    that are not passed by name, nothing changes.

    Args:
        model: an unwrapped masked language model with BERT's head (`cls.predictions` with a `transform` and a
            `decoder`) and cross entropy as its loss: T-TA, WoBERT, BERT. It may be copied and pickled afterwards.
        chunk: number of positions at a time.

    Returns:
        The hooks' handles; `handle.remove()` on each restores the model.

    Raises:
        ValueError: the model has no such head.
    """
    base = getattr(model, getattr(model, "base_model_prefix", ""), None)
    head: Any = getattr(getattr(model, "cls", None), "predictions", None)
    if not isinstance(base, nn.Module) or not hasattr(head, "transform") or not hasattr(head, "decoder"):
        raise ValueError(f"expected a model with a base model and BERT's masked-word head, got {type(model).__name__}")
    hooks = _Hooks(chunk)
    return [
        model.register_forward_pre_hook(hooks.take_labels, with_kwargs=True),
        base.register_forward_hook(hooks.compute_loss),
        model.register_forward_hook(hooks.return_loss),
    ]


class _Hooks:
    """The hooks of one model.

    They are methods, because a copy of the model then copies this object; closures would stay bound to the first
    model. For the same reason, the head is looked up in the module that runs.
    """

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk
        self.pending: list[tuple[Any, torch.Tensor, Any]] = []
        self.losses: list[torch.Tensor] = []

    def take_labels(
        self, module: nn.Module, arguments: tuple, keywords: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        self.pending.clear()
        self.losses.clear()
        if module.training and keywords.get("labels") is not None:
            model: Any = module
            self.pending.append((model.cls.predictions, keywords["labels"], keywords.get("num_items_in_batch")))
            keywords = {**keywords, "labels": None}
        return arguments, keywords

    def compute_loss(self, module: nn.Module, arguments: tuple, output: Any) -> Any:
        # Runs inside the model's forward, where autocast is active and sharded weights are gathered.
        if self.pending:
            head, labels, items = self.pending.pop()
            wanted = labels != IGNORED
            states, labels = _padded_to_chunks(output.last_hidden_state[wanted], labels[wanted], self.chunk)
            decoder = head.decoder
            total = summed_cross_entropy(head.transform(states), decoder.weight, decoder.bias, labels, self.chunk)
            self.losses.append(total / (wanted.sum() if items is None else items))
            output.last_hidden_state = output.last_hidden_state[:1, :0]
        return output

    def return_loss(self, module: nn.Module, arguments: tuple, output: Any) -> Any:
        if self.losses:
            loss = self.losses.pop()
            if isinstance(output, tuple):
                return (loss, *output)
            output["loss"] = loss
        return output


def _padded_to_chunks(states: torch.Tensor, labels: torch.Tensor, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad with rows without a label up to a full chunk.

    Matrix kernels are chosen or compiled once per shape, and compiling can take longer than running (oneDNN,
    bfloat16). Without the padding, every batch would have another shape.
    """
    missing = -len(labels) % chunk
    return nn.functional.pad(states, (0, 0, 0, missing)), nn.functional.pad(labels, (0, missing), value=IGNORED)


def summed_cross_entropy(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, chunk: int = CHUNK
) -> torch.Tensor:
    """Return the summed cross entropy of the logits `states @ weight.T + bias`, differentiable once.

    The result is float32, or float64 if the weights are. Gradients that are not needed are not computed.

    Args:
        states: [positions, hidden].
        weight: [vocabulary, hidden].
        bias: [vocabulary].
        labels: [positions], -100 at positions to ignore.
        chunk: number of positions at a time.
    """
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    # Determined here, because inside the function gradients are off and `needs_input_grad` ignores torch.no_grad().
    needed = tuple(torch.is_grad_enabled() and tensor.requires_grad for tensor in (states, weight, bias))
    summed: torch.Tensor = _SummedCrossEntropy.apply(states, weight, bias, labels, chunk, dtype, needed)
    return summed


class _SummedCrossEntropy(torch.autograd.Function):
    """Multiplies in `dtype`; sums in float32, or in float64 if the weights are float64."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        chunk: int,
        dtype: torch.dtype,
        needed: tuple[bool, bool, bool],
    ) -> torch.Tensor:
        wide = torch.promote_types(weight.dtype, torch.float32)
        states_grad = torch.empty_like(states) if needed[0] else None
        weight_grad = torch.zeros_like(weight, dtype=wide) if needed[1] else None
        bias_grad = torch.zeros_like(bias, dtype=wide) if needed[2] else None
        total = bias.new_zeros((), dtype=wide)
        narrow = weight.to(dtype)
        for start in range(0, len(states), chunk):
            part, wanted = states[start : start + chunk].to(dtype), labels[start : start + chunk, None]
            ignored = wanted == IGNORED
            wanted = wanted.masked_fill(ignored, 0)
            logits = (part @ narrow.T).to(wide) + bias
            normalizer = logits.logsumexp(-1, keepdim=True)
            total += (normalizer - logits.gather(1, wanted)).masked_fill(ignored, 0.0).sum()
            if not any(needed):
                continue
            # The gradient with respect to the logits is the probability, minus 1 at the label.
            logits.sub_(normalizer).exp_()
            logits.scatter_add_(1, wanted, logits.new_full(wanted.shape, -1.0))
            logits.masked_fill_(ignored, 0.0)
            if bias_grad is not None:
                bias_grad += logits.sum(0)
            gradient = logits.to(dtype)
            if states_grad is not None:
                states_grad[start : start + chunk] = gradient @ narrow
            if weight_grad is not None:
                weight_grad += gradient.T @ part
        ctx.save_for_backward(states_grad, weight_grad, bias_grad, (labels != IGNORED).any())
        ctx.dtypes = states.dtype, weight.dtype, bias.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *gradients, any_labels = ctx.saved_tensors
        # Without labels, the mean is 0 / 0 and the factor 1 / 0, but the gradients are zeros.
        factor = factor.where(any_labels, 0.0)
        states_grad, weight_grad, bias_grad = (
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return states_grad, weight_grad, bias_grad, None, None, None, None


__all__ = ["summed_cross_entropy", "use_chunked_loss"]
