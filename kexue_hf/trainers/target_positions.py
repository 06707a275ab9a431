"""Computing a UniLM's scores at the target's positions only.

As in masked language modelling, the head multiplies every token's state by the whole vocabulary, and with a source of
a hundred tokens and a target of fifteen most of that is thrown away: for a small network it is most of the work.
Done from outside, with hooks, for any model whose forward takes `shift_labels`; not for `nn.DataParallel`.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from kexue_hf.trainers.labelled_positions import IGNORED, score_selected_positions_only


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


__all__ = ["score_target_positions_only"]
