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
    vocabulary]. In evaluation mode, or without labels, nothing changes.

    Args:
        model: a masked language model with BERT's head, `cls.predictions` of a `transform` and a `decoder`, and a loss
            that is cross entropy: T-TA, WoBERT, BERT. Not wrapped yet.
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
    given: list[tuple[torch.Tensor, Any]] = []
    losses: list[torch.Tensor] = []

    def take_labels(module: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        given.clear()
        losses.clear()
        if module.training and keywords.get("labels") is not None:
            given.append((keywords["labels"], keywords.get("num_items_in_batch")))
            keywords = {**keywords, "labels": None}
        return arguments, keywords

    def compute(module: nn.Module, arguments: tuple, output: Any) -> Any:
        # Inside the model's forward: where autocast, and whoever gathers divided weights, are at work.
        if given:
            labels, items = given.pop()
            wanted = labels != IGNORED
            states, labels = _filled_up(output.last_hidden_state[wanted], labels[wanted], chunk)
            decoder = head.decoder
            total = summed_cross_entropy(head.transform(states), decoder.weight, decoder.bias, labels, chunk)
            losses.append(total / (wanted.sum() if items is None else items))
            output.last_hidden_state = output.last_hidden_state[:1, :0]
        return output

    def give_loss(module: nn.Module, arguments: tuple, output: Any) -> Any:
        if losses:
            output["loss"] = losses.pop()
        return output

    return [
        model.register_forward_pre_hook(take_labels, with_kwargs=True),
        base.register_forward_hook(compute),
        model.register_forward_hook(give_loss),
    ]


def _filled_up(states: torch.Tensor, labels: torch.Tensor, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows without a label up to a full chunk. Matrix kernels are made, or chosen, once for each shape (oneDNN
    compiles its own for bfloat16, which takes longer than using them), and every batch would have another."""
    missing = -len(labels) % chunk
    return nn.functional.pad(states, (0, 0, 0, missing)), nn.functional.pad(labels, (0, missing), value=IGNORED)


def summed_cross_entropy(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, labels: torch.Tensor, chunk: int = CHUNK
) -> torch.Tensor:
    """The sum of the cross entropies of scores `states @ weight.T + bias`, float32, differentiable once.

    Args:
        states: [positions, hidden].
        weight: [vocabulary, hidden].
        bias: [vocabulary].
        labels: [positions], -100 where there is none.
        chunk: positions at a time.
    """
    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    summed: torch.Tensor = _SummedCrossEntropy.apply(states, weight, bias, labels, chunk, dtype)
    return summed


class _SummedCrossEntropy(torch.autograd.Function):
    """Multiplies in `dtype`; sums in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        labels: torch.Tensor,
        chunk: int,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        of_states, of_weight = torch.empty_like(states), torch.zeros_like(weight)
        of_bias, total = torch.zeros_like(bias), bias.new_zeros((), dtype=torch.float32)
        narrow = weight.to(dtype)
        for start in range(0, len(states), chunk):
            part, wanted = states[start : start + chunk].to(dtype), labels[start : start + chunk, None]
            nothing = wanted == IGNORED
            wanted = wanted.masked_fill(nothing, 0)
            scores = (part @ narrow.T).float() + bias
            logarithms = scores.logsumexp(-1, keepdim=True)
            total += (logarithms - scores.gather(1, wanted)).masked_fill(nothing, 0.0).sum()
            # The gradient with respect to the scores: the probability, less 1 for the label's.
            scores.sub_(logarithms).exp_()
            scores.scatter_add_(1, wanted, scores.new_full(wanted.shape, -1.0))
            scores.masked_fill_(nothing, 0.0)
            of_bias += scores.sum(0)
            gradient = scores.to(dtype)
            of_states[start : start + chunk] = gradient @ narrow
            of_weight += gradient.T @ part
        ctx.save_for_backward(of_states, of_weight, of_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_states, of_weight, of_bias = (gradient * factor for gradient in ctx.saved_tensors)
        return of_states, of_weight, of_bias, None, None, None


__all__ = ["loss_in_chunks", "summed_cross_entropy"]
