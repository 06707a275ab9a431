"""Computing a model's scores only where there is something to predict, with hooks from outside: what
`masked_positions` and `target_positions` have in common.

Computing the scores of a masked language model at the masked positions only.

An MLM head multiplies every token's state by the whole vocabulary, and 85 % of those scores meet the label -100 and
are thrown away: with WoBERT's 33,586 words that is a fifth of the computation and, as [batch, length, vocabulary]
floats, most of the memory. The loss needs none of them.

It is done from outside, with hooks, for any model whose base model's states go straight into the head and whose loss
ignores -100 (WoBERT, and transformers' BERT and its like); the model's class, code and saved folder stay the same.
Not for `nn.DataParallel`, whose replicas share the hooks and whose gathering wants as many scores from each.

Computing a UniLM's scores at the target's positions only.

As in masked language modelling, the head multiplies every token's state by the whole vocabulary, and with a source of
a hundred tokens and a target of fifteen most of that is thrown away: for a small network it is most of the work.
Done from outside, with hooks, for any model whose forward takes `shift_labels`; not for `nn.DataParallel`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

IGNORED = -100
# From labels [batch, length] to the wanted positions (bool [batch, length]) and what replaces `labels` in the call.
Select = Callable[[torch.Tensor], tuple[torch.Tensor, dict[str, Any]]]


def score_selected_positions_only(model: nn.Module, select: Select) -> list[RemovableHandle]:
    """While `model` trains on labels, given by name, let its head see the selected positions only, as one row.

    Args:
        model: a base model whose states go straight into a head, not wrapped yet.

    Returns:
        The hooks' handles; `handle.remove()` on each restores the model.

    Raises:
        ValueError: the model has no base model to take the states from.
    """
    base = getattr(model, getattr(model, "base_model_prefix", ""), None)
    if not isinstance(base, nn.Module):
        raise ValueError(f"expected a model with a base model and a masked-word head, got {type(model).__name__}")
    waiting: list[torch.Tensor] = []

    def take_labels(module: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        waiting.clear()
        labels = keywords.get("labels")
        if module.training and labels is not None:
            wanted, changes = select(labels)
            waiting.append(wanted)
            keywords = {**keywords, **changes}
        return arguments, keywords

    def select_states(module: nn.Module, arguments: tuple, output: Any) -> Any:
        if waiting:
            output.last_hidden_state = output.last_hidden_state[waiting.pop()][None]
        return output

    return [
        model.register_forward_pre_hook(take_labels, with_kwargs=True),
        base.register_forward_hook(select_states),
    ]


def score_masked_positions_only(model: nn.Module) -> list[RemovableHandle]:
    """While `model` trains, let its head see the labelled positions only: loss and gradients are equal, the logits are
    [1, labelled positions, vocabulary]. In evaluation mode, or without labels, nothing changes.

    Args:
        model: a masked language model (`AutoModelForMaskedLM`), not wrapped yet.

    Returns:
        The hooks' handles; `handle.remove()` on each restores the model.

    Raises:
        ValueError: the model has no base model to take the states from.
    """

    def select(labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        labelled = labels != IGNORED
        return labelled, {"labels": labels[labelled][None]}

    return score_selected_positions_only(model, select)


def score_target_positions_only(model: nn.Module) -> list[RemovableHandle]:
    """While `model` trains, let its head see only the positions at which a label is predicted: loss and gradients are
    equal, the logits are [1, labels, vocabulary]. In evaluation mode, or without labels, nothing changes.

    Args:
        model: a UniLM (`WoBertForCausalLM`), not wrapped yet.

    Returns:
        The hooks' handles; `handle.remove()` on each restores the model.

    Raises:
        ValueError: the model has no base model to take the states from.
    """

    def select(labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
        # That of token i is predicted at token i - 1.
        shifted = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        wanted = shifted != IGNORED
        return wanted, {"labels": None, "shift_labels": shifted[wanted][None]}

    return score_selected_positions_only(model, select)


__all__ = ["IGNORED", "score_masked_positions_only", "score_selected_positions_only", "score_target_positions_only"]
