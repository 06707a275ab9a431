"""Softmax cross entropy for several labels per item (kexue.fm/archives/7359)."""

from dataclasses import dataclass
from typing import Any

import torch

from kexue_hf.losses.items import IGNORED, logits_of, number_of_items


def multi_label_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum over the rows of log(1 + sum_neg e^s) + log(1 + sum_pos e^-s).

    A label is predicted where its logit s is above 0.

    Args:
        logits: [..., labels].
        labels: floats 0 and 1 (or bool) in the shape of the logits, -100 for a label that is neither; or whole numbers
            [..., most], the labels that each row has, filled up with -100.

    Raises:
        ValueError: the shapes do not fit, or a label is out of range.
    """
    logits = logits.float()
    present, absent = _masks(logits, labels)
    # finfo.min instead of a large constant: it stays finite in every type.
    lowest = torch.finfo(logits.dtype).min
    zero = torch.zeros_like(logits[..., :1])
    negative = torch.cat([zero, logits.masked_fill(~absent, lowest)], -1).logsumexp(-1)
    positive = torch.cat([zero, (-logits).masked_fill(~present, lowest)], -1).logsumexp(-1)
    return (negative + positive).sum()


def _masks(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if labels.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"labels must be 0 and 1 of the shape {list(logits.shape)}, or the numbers of a row's labels "
            f"{[*logits.shape[:-1], 'most']}, got {list(labels.shape)}"
        )
    if _dense(labels):
        if labels.shape != logits.shape:
            raise ValueError(f"labels of 0 and 1 must have the shape {list(logits.shape)}, got {list(labels.shape)}")
        present, absent = labels == 1, labels == 0
        if not bool((present | absent | (labels == IGNORED)).all()):
            raise ValueError(f"labels must be 0, 1 or {IGNORED} (ignored); soft labels are not supported")
        return present, absent
    found = labels.long()
    ordered = found.sort(-1).values
    if bool(((ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] != IGNORED)).any()):
        raise ValueError(
            "whole numbers are the numbers of a row's labels, and a row has one twice: give 0 and 1 as floats"
        )
    kept = found != IGNORED
    if bool((kept & ((found < 0) | (found >= logits.shape[-1]))).any()):
        wrong = found[kept & ((found < 0) | (found >= logits.shape[-1]))][0].item()
        raise ValueError(f"labels must be from 0 to {logits.shape[-1] - 1}, or {IGNORED}, got {wrong}")
    # One place more, for what is filled up.
    present = torch.zeros(*logits.shape[:-1], logits.shape[-1] + 1, dtype=torch.bool, device=logits.device)
    present.scatter_(-1, torch.where(kept, found, logits.shape[-1]), True)
    return present[..., :-1], ~present[..., :-1]


def _dense(labels: torch.Tensor) -> bool:
    return labels.is_floating_point() or labels.dtype == torch.bool


@dataclass(frozen=True)
class MultiLabelCrossEntropy:
    """Softmax cross entropy for several labels, for `Trainer(compute_loss_func=...)`.

    The sum over the rows is divided by the number of rows if labels are 0 and 1 (labels of -100 make it less). If they
    are given as numbers, it is divided by the number of labels, because `Trainer` counts those of an accumulated batch
    and not its rows. Whole numbers 0 and 1 of the logits' shape are ambiguous for two labels: give floats.
    """

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = logits_of(outputs)
        loss = multi_label_cross_entropy(logits, labels) / number_of_items(labels, num_items_in_batch)
        return loss * logits.shape[-1] if _dense(labels) else loss


__all__ = ["MultiLabelCrossEntropy", "multi_label_cross_entropy"]
