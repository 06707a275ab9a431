"""Loss and accuracy of held-out text over all its labels, whatever the batches.

transformers' `Trainer` gives the mean of its batches' mean losses, each counted by its rows: a token of a batch with
few labels counts for more, and another batch size, or number of processes, gives another figure. Here the cross
entropies of all labels are kept, one number each, and divided once.
"""

from typing import Any

import numpy as np
from torch.nn import functional

from kexue_hf.trainers.labelled_positions import IGNORED


def guesses_and_losses(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Each label's best guess and cross entropy, instead of the scores, which would fill the memory.

    For Trainer's `preprocess_logits_for_metrics`.

    Args:
        logits: [..., classes], or a tuple of those where there are several kinds of labels.
        labels: [...], -100 where there is none; or a tuple of those.

    Returns:
        int64 [...] and float32 [...], 0 where there is no label; or two tuples of those.
    """
    if isinstance(logits, tuple):
        several = [guesses_and_losses(*kind) for kind in zip(logits, labels, strict=True)]
        return tuple(guesses for guesses, _ in several), tuple(losses for _, losses in several)
    scores = logits.flatten(0, -2).float()
    losses = functional.cross_entropy(scores, labels.flatten(), ignore_index=IGNORED, reduction="none")
    return logits.argmax(-1), losses.view(labels.shape)


def held_out_figures(prediction: Any) -> dict[str, float]:
    """`loss` and `accuracy` of the tokens; with next segments the sum of both losses, and `next_segment_accuracy`.

    For Trainer's `compute_metrics`, whose `loss` takes the place of Trainer's own (checked: transformers 5.23,
    trainer.py:evaluation_loop, which puts `eval_` before the names last).
    """
    guesses, losses = prediction.predictions
    labels = prediction.label_ids
    if not isinstance(labels, tuple):
        guesses, losses, labels = (guesses,), (losses,), (labels,)
    labelled = [kind != IGNORED for kind in labels]
    loss = sum(kind[there].mean(dtype=np.float64) for kind, there in zip(losses, labelled, strict=True))
    right = [float((g == k)[t].mean()) for g, k, t in zip(guesses, labels, labelled, strict=True)]
    return {"loss": float(loss), **dict(zip(("accuracy", "next_segment_accuracy"), right, strict=False))}


__all__ = ["guesses_and_losses", "held_out_figures"]
