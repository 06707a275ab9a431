"""Computing a UniLM's scores at the target's positions only.

As in masked language modelling, the head multiplies every token's state by the whole vocabulary, and with a source of
a hundred tokens and a target of fifteen most of that is thrown away: for a small network it is most of the work.
Done from outside, with hooks, for any model whose forward takes `shift_labels`; not for `nn.DataParallel`.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

IGNORED = -100


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
    base = getattr(model, getattr(model, "base_model_prefix", ""), None)
    if not isinstance(base, nn.Module):
        raise ValueError(f"expected a model with a base model and a masked-word head, got {type(model).__name__}")
    waiting: list[torch.Tensor] = []

    def take_labels(module: nn.Module, arguments: tuple, keywords: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        waiting.clear()
        labels = keywords.get("labels")
        if module.training and labels is not None:
            # That of token i is predicted at token i - 1.
            shifted = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
            wanted = shifted != IGNORED
            waiting.append(wanted)
            keywords = {**keywords, "labels": None, "shift_labels": shifted[wanted][None]}
        return arguments, keywords

    def select_states(module: nn.Module, arguments: tuple, output: Any) -> Any:
        if waiting:
            output.last_hidden_state = output.last_hidden_state[waiting.pop()][None]
        return output

    return [
        model.register_forward_pre_hook(take_labels, with_kwargs=True),
        base.register_forward_hook(select_states),
    ]


__all__ = ["score_target_positions_only"]
