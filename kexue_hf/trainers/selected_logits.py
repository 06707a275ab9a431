"""Compute a model's logits only at the positions with a label, through hooks.

A masked-language-model head multiplies every token's state by the whole vocabulary, and the loss then ignores 85 % of
these logits (label -100). With WoBERT's 33,586 words that is a fifth of the computation and, as
[batch, length, vocabulary] floats, most of the memory. A UniLM with a source of a hundred tokens and a target of
fifteen wastes as much.

The hooks work for any model whose base model's states go straight into the head and whose loss ignores -100 (WoBERT,
transformers' BERT and similar models; for a UniLM, a forward that takes `shift_labels`). The model's class, code and
saved folder do not change. They do not work with `nn.DataParallel`, whose replicas share the hooks and which gathers
equally many logits from each replica.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

IGNORED = -100
# labels [batch, length] -> positions (bool [batch, length]), arguments that replace `labels`
Select = Callable[[torch.Tensor], tuple[torch.Tensor, dict[str, Any]]]


def compute_selected_logits_only(model: nn.Module, select: Select) -> list[RemovableHandle]:
    """Make the head of `model` see only the selected positions, as one row, while the model trains on labels.

    The labels must be passed by name. Without labels, or in evaluation mode, nothing changes.

    Args:
        model: an unwrapped model whose base model's states go straight into a head.
        select: converts labels to positions and new arguments.

    Returns:
        The hooks' handles; `handle.remove()` on each restores the model.

    Raises:
        ValueError: the model has no base model.
    """
    base = getattr(model, getattr(model, "base_model_prefix", ""), None)
    if not isinstance(base, nn.Module):
        raise ValueError(f"expected a model with a base model and a masked-word head, got {type(model).__name__}")
    selected: list[torch.Tensor] = []

    def take_labels(module: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        selected.clear()
        labels = keywords.get("labels")
        if module.training and labels is not None:
            wanted, changes = select(labels)
            selected.append(wanted)
            keywords = {**keywords, **changes}
        return arguments, keywords

    def select_states(module: nn.Module, arguments: tuple, output: Any) -> Any:
        if selected:
            output.last_hidden_state = output.last_hidden_state[selected.pop()][None]
        return output

    return [
        model.register_forward_pre_hook(take_labels, with_kwargs=True),
        base.register_forward_hook(select_states),
    ]


def compute_masked_logits_only(model: nn.Module) -> list[RemovableHandle]:
    """Make the head of `model` compute logits only at labelled positions while the model trains.

    Loss and gradients are equal; the logits are [1, labelled positions, vocabulary].

    Args:
        model: an unwrapped masked language model (`AutoModelForMaskedLM`).

    Returns:
        The hooks' handles; `handle.remove()` on each restores the model.

    Raises:
        ValueError: the model has no base model.
    """

    def select(labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        labelled = labels != IGNORED
        return labelled, {"labels": labels[labelled][None]}

    return compute_selected_logits_only(model, select)


def compute_target_logits_only(model: nn.Module) -> list[RemovableHandle]:
    """Make the head of `model` compute logits only at positions that predict a label while the model trains.

    Loss and gradients are equal; the logits are [1, labels, vocabulary].

    Args:
        model: an unwrapped UniLM (`WoBertForCausalLM`).

    Returns:
        The hooks' handles; `handle.remove()` on each restores the model.

    Raises:
        ValueError: the model has no base model.
    """

    def select(labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        # Position i - 1 predicts the label of token i.
        shifted = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        wanted = shifted != IGNORED
        return wanted, {"labels": None, "shift_labels": shifted[wanted][None]}

    return compute_selected_logits_only(model, select)


__all__ = ["IGNORED", "compute_masked_logits_only", "compute_selected_logits_only", "compute_target_logits_only"]
