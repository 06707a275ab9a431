"""What every loss starts from: logits and labels as a list of items, each with one class."""

from typing import Any

import torch

IGNORED = -100


def as_items(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 logits [items, classes] and labels [items], without ignored items.

    Args:
        logits: [..., classes]. One class alone is the logit of class 1 of two.
        labels: [...] whole numbers, -100 for ignored items: of texts [batch] or of tokens [batch, length]. Or of the
            shape of the logits, 0 and 1 (-100 ignored): several labels, each an item of two classes, absent and
            present.

    Raises:
        ValueError: the shapes do not fit, or a label is not below the number of classes.
    """
    logits = logits.float()
    if labels.shape == logits.shape:
        return _binary(logits.reshape(-1), labels.reshape(-1))
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels must have the shape {list(logits.shape[:-1])} (one class each) or {list(logits.shape)} (several "
            f"labels), got {list(labels.shape)}"
        )
    if logits.shape[-1] == 1:
        return _binary(logits.reshape(-1), labels.reshape(-1))
    return _kept(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def _binary(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return _kept(torch.stack([torch.zeros_like(logits), logits], -1), labels)


def _kept(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    kept = labels != IGNORED
    labels, logits = labels[kept], logits[kept]
    whole = labels.long()
    if labels.numel():
        lowest, highest = int(whole.min()), int(whole.max())
        if lowest < 0 or highest >= logits.shape[-1]:
            raise ValueError(
                f"labels must be from 0 to {logits.shape[-1] - 1}, or {IGNORED} to be ignored, got "
                f"{lowest if lowest < 0 else highest}"
            )
        if labels.is_floating_point() and bool((labels != whole).any()):
            raise ValueError("labels must be whole numbers; soft labels are not supported")
    return logits, whole


def number_of_items(labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor | float:
    """Return what the sum of a loss is divided by: the items of the whole accumulated, distributed batch, or these.

    `Trainer` counts the former; with `average_tokens_across_devices=False`, those of one process. At least 1, so that
    a batch without labels has a loss of zero.
    """
    if num_items_in_batch is None:
        return float(max(1, int((labels != IGNORED).sum())))
    items = torch.as_tensor(num_items_in_batch, device=labels.device)
    if items.dim():
        # nn.DataParallel: one entry for each device, and Trainer multiplies the loss by their number.
        items = items.flatten()[0] * items.numel()
    return items.clamp(min=1)


def logits_of(outputs: Any) -> torch.Tensor:
    """Return the logits in a model's outputs.

    Raises:
        ValueError: it has none.
    """
    try:
        found: torch.Tensor = outputs["logits"] if not isinstance(outputs, tuple) else outputs[0]
    except (KeyError, TypeError):
        raise ValueError(f"the model's outputs have no logits: {type(outputs).__name__}") from None
    return found


__all__ = ["IGNORED", "as_items", "logits_of", "number_of_items"]
