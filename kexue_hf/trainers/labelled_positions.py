"""Computing a model's scores only where there is something to predict, with hooks from outside: what
`masked_positions` and `target_positions` have in common."""

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


__all__ = ["IGNORED", "score_selected_positions_only"]
