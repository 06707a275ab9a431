"""Cross entropy whose gradient is that of a smooth F1 (kexue.fm/archives/7708)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from kexue_hf.losses.batch_sums import sum_over_processes
from kexue_hf.losses.items import as_items, logits_of, number_of_items


def smooth_f1(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return 2 sum y p / sum (y + p) of each class [classes] over the items of all processes.

    p is the probability of the class and y is 1 where it is the label; 0 for a class that neither occurs nor is
    predicted.

    Args:
        logits: [items, classes]. labels: [items], as `as_items` returns them.
    """
    p = logits.softmax(-1)
    y = functional.one_hot(labels, logits.shape[-1]).to(p.dtype)
    both, either = sum_over_processes(torch.stack([(y * p).sum(0), (y + p).sum(0)]))
    return 2 * both / either.clamp(min=torch.finfo(p.dtype).tiny)


def smooth_f1_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the sum over the items of cross entropy weighted by the F1 of the batch.

    Of two classes, 1 is the positive one: its items have the weight 1 - F1/2, the others F1/2, F1 detached. The
    gradient is then that of the smooth F1 with dp replaced by d log p. Of more classes each is positive in turn, and
    the losses are averaged.

    Args:
        logits, labels: see `as_items`.
    """
    logits, labels = as_items(logits, labels)
    f1 = smooth_f1(logits, labels).detach()
    log_p = logits.log_softmax(-1)
    if logits.shape[-1] == 2:
        weight = torch.where(labels == 1, 1 - f1[1] / 2, f1[1] / 2)
        return -(weight * log_p.gather(-1, labels[:, None]).squeeze(-1)).sum()
    y = functional.one_hot(labels, logits.shape[-1]).to(log_p.dtype)
    # log(1 - p) of a class, without 1 - p, which rounds to 0.
    log_rest = functional.logsigmoid(_others(logits) - logits)
    positive = -(y * (1 - f1 / 2) * log_p).sum()
    negative = -((1 - y) * (f1 / 2) * log_rest).sum()
    return (positive + negative) / logits.shape[-1]


def _others(logits: torch.Tensor) -> torch.Tensor:
    """Return, for each class [items, classes], the logsumexp of the other classes' logits."""
    whole = logits.logsumexp(-1, keepdim=True)
    p = (logits - whole).exp()
    # Of the likeliest class 1 - p may round to 0: its others are added up without it.
    top = logits.argmax(-1, keepdim=True)
    rest = logits.scatter(-1, top, torch.finfo(logits.dtype).min).logsumexp(-1, keepdim=True)
    # Not a clamp, whose gradient at the bound depends on the version of torch.
    return torch.where(p > 0.5, rest, whole + torch.log1p(-p.masked_fill(p > 0.5, 0.5)))


@dataclass(frozen=True)
class SmoothF1CrossEntropy:
    """Cross entropy that follows the F1 of the batch, for `Trainer(compute_loss_func=...)`.

    F1 is that of all processes' items in one forward pass. With `gradient_accumulation_steps` each part has its own
    F1, so the weights differ from those of the whole batch as much as the parts differ. Use batches in which the rare
    class occurs.

    With `average_tokens_across_devices=False`, F1 is still that of all processes, and the loss is the mean over the
    processes of the mean over their own items.
    """

    def __call__(self, outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return smooth_f1_cross_entropy(logits_of(outputs), labels) / number_of_items(labels, num_items_in_batch)


__all__ = ["SmoothF1CrossEntropy", "smooth_f1", "smooth_f1_cross_entropy"]
