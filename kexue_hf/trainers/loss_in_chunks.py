"""The loss of a large vocabulary without its scores in memory.

Where nearly every token is predicted, as in language autoencoding, the scores are most of the memory: 32 rows of 128
tokens and 21,128 words are 346 MB as float32, and cross entropy with its gradient keeps three such arrays. Here scores
are made of a few hundred positions at a time, and their gradient is taken at once, while they are in the processor's
cache; what is kept is the gradient with respect to states and weights, which are small. No score is computed twice.

It is done from outside, with hooks, as in `labelled_positions`; not for `nn.DataParallel`, whose replicas share them.
"""

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils.hooks import RemovableHandle

from kexue_hf.trainers.labelled_positions import IGNORED

# Positions whose scores are in memory at a time.
CHUNK = 256


def loss_in_chunks(model: nn.Module, chunk: int = CHUNK) -> list[RemovableHandle]:
    """While `model` trains on labels, compute its loss so; loss and gradients are equal, `logits` are [1, 0,
    vocabulary]. In evaluation mode, without labels, or with labels that are not given by name, nothing changes.

    Args:
        model: a masked language model with BERT's head, `cls.predictions` of a `transform` and a `decoder`, and a loss
            that is cross entropy: T-TA, WoBERT, BERT. Not wrapped yet. It may be copied and pickled afterwards.
        chunk: positions at a time.

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
        base.register_forward_hook(hooks.compute),
        model.register_forward_hook(hooks.give_loss),
    ]


class _Hooks:
    """Methods of one object, which a copy of the model gets a copy of; closures would stay the first model's. For the
    same reason the head is that of the module in training, not one that was kept."""

    def __init__(self, chunk: int) -> None:
        self.chunk = chunk
        self.given: list[tuple[Any, torch.Tensor, Any]] = []
        self.losses: list[torch.Tensor] = []

    def take_labels(
        self, module: nn.Module, arguments: tuple, keywords: dict[str, Any]
    ) -> tuple[tuple, dict[str, Any]]:
        self.given.clear()
        self.losses.clear()
        if module.training and keywords.get("labels") is not None:
            model: Any = module
            self.given.append((model.cls.predictions, keywords["labels"], keywords.get("num_items_in_batch")))
            keywords = {**keywords, "labels": None}
        return arguments, keywords

    def compute(self, module: nn.Module, arguments: tuple, output: Any) -> Any:
        # Inside the model's forward: where autocast, and whoever gathers divided weights, are at work.
        if self.given:
            head, labels, items = self.given.pop()
            wanted = labels != IGNORED
            states, labels = _filled_up(output.last_hidden_state[wanted], labels[wanted], self.chunk)
            decoder = head.decoder
            total = summed_cross_entropy(head.transform(states), decoder.weight, decoder.bias, labels, self.chunk)
            self.losses.append(total / (wanted.sum() if items is None else items))
            output.last_hidden_state = output.last_hidden_state[:1, :0]
        return output

    def give_loss(self, module: nn.Module, arguments: tuple, output: Any) -> Any:
        if self.losses:
            loss = self.losses.pop()
            if isinstance(output, tuple):
                return (loss, *output)
            output["loss"] = loss
        return output


def _filled_up(states: torch.Tensor, labels: torch.Tensor, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows without a label up to a full chunk. Matrix kernels are made, or chosen, once for each shape (oneDNN
    compiles its own for bfloat16, which takes longer than using them), and every batch would have another."""
    missing = -len(labels) % chunk
    return nn.functional.pad(states, (0, 0, 0, missing)), nn.functional.pad(labels, (0, missing), value=IGNORED)


def summed_cross_entropy(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, chunk: int = CHUNK
) -> torch.Tensor:
    """The sum of the cross entropies of scores `states @ weight.T + bias`, float32 (float64 of such weights),
    differentiable once. Gradients that nobody takes are not computed.

    Args:
        states: [positions, hidden].
        weight: [vocabulary, hidden].
        bias: [vocabulary].
        labels: [positions], -100 where there is none.
        chunk: positions at a time.
    """
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    # Inside the function gradients are off, and what it is told of its inputs disregards torch.no_grad().
    taken = tuple(torch.is_grad_enabled() and tensor.requires_grad for tensor in (states, weight, bias))
    summed: torch.Tensor = _SummedCrossEntropy.apply(states, weight, bias, labels, chunk, dtype, taken)
    return summed


class _SummedCrossEntropy(torch.autograd.Function):
    """Multiplies in `dtype`; sums in float32, or float64 where the weights are."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        chunk: int,
        dtype: torch.dtype,
        taken: tuple[bool, bool, bool],
    ) -> torch.Tensor:
        wide = torch.promote_types(weight.dtype, torch.float32)
        of_states = torch.empty_like(states) if taken[0] else None
        of_weight = torch.zeros_like(weight, dtype=wide) if taken[1] else None
        of_bias = torch.zeros_like(bias, dtype=wide) if taken[2] else None
        total = bias.new_zeros((), dtype=wide)
        narrow = weight.to(dtype)
        for start in range(0, len(states), chunk):
            part, wanted = states[start : start + chunk].to(dtype), labels[start : start + chunk, None]
            nothing = wanted == IGNORED
            wanted = wanted.masked_fill(nothing, 0)
            scores = (part @ narrow.T).to(wide) + bias
            logarithms = scores.logsumexp(-1, keepdim=True)
            total += (logarithms - scores.gather(1, wanted)).masked_fill(nothing, 0.0).sum()
            if not any(taken):
                continue
            # The gradient with respect to the scores: the probability, less 1 for the label's.
            scores.sub_(logarithms).exp_()
            scores.scatter_add_(1, wanted, scores.new_full(wanted.shape, -1.0))
            scores.masked_fill_(nothing, 0.0)
            if of_bias is not None:
                of_bias += scores.sum(0)
            gradient = scores.to(dtype)
            if of_states is not None:
                of_states[start : start + chunk] = gradient @ narrow
            if of_weight is not None:
                of_weight += gradient.T @ part
        ctx.save_for_backward(of_states, of_weight, of_bias, (labels != IGNORED).any())
        ctx.dtypes = states.dtype, weight.dtype, bias.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        *gradients, some = ctx.saved_tensors
        # Of no labels the mean is 0 / 0, with the factor 1 / 0; the gradients are zeros nevertheless.
        factor = factor.where(some, 0.0)
        of_states, of_weight, of_bias = (
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )
        return of_states, of_weight, of_bias, None, None, None, None


__all__ = ["loss_in_chunks", "summed_cross_entropy"]
