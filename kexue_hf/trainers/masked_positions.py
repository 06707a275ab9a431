"""Computing the scores of a masked language model at the masked positions only.

An MLM head multiplies every token's state by the whole vocabulary, and 85 % of those scores meet the label -100 and
are thrown away: with WoBERT's 33,586 words that is a fifth of the computation and, as [batch, length, vocabulary]
floats, most of the memory. The loss needs none of them.

It is done from outside, with hooks, for any model whose base model's states go straight into the head and whose loss
ignores -100 (WoBERT, and transformers' BERT and its like); the model's class, code and saved folder stay the same.
Not for `nn.DataParallel`, whose replicas share the hooks and whose gathering wants as many scores from each.
"""

from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from kexue_hf.trainers.labelled_positions import IGNORED, score_selected_positions_only


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


__all__ = ["score_masked_positions_only"]
