"""Loss and accuracy on held-out text over all labels, independent of the batches.

transformers' `Trainer` averages the mean losses of the batches, weighted by rows: tokens in batches with few labels
weigh more, so the result depends on batch size and number of processes. Here, the cross entropy of each label is kept
(one number per label), and their sum is divided once.
"""

from typing import Any

import numpy as np
from torch.nn import functional

from kexue_hf.trainers.selected_logits import IGNORED


def guesses_and_losses(logits: Any, labels: Any) -> tuple[Any, Any]:
    """Return each label's best guess and cross entropy, which need far less memory than the scores.

    For Trainer's `preprocess_logits_for_metrics`.

    Args:
        logits: [..., classes], or a tuple of these if there are several kinds of labels.
        labels: [...], -100 where there is no label; or a tuple of these.

    Returns:
        int64 [...] and float32 [...], 0 where there is no label; or two tuples of these.
    """
    if isinstance(logits, tuple):
        several = [guesses_and_losses(*kind) for kind in zip(logits, labels, strict=True)]
        return tuple(guesses for guesses, _ in several), tuple(losses for _, losses in several)
    scores = logits.flatten(0, -2).float()
    losses = functional.cross_entropy(scores, labels.flatten(), ignore_index=IGNORED, reduction="none")
    return logits.argmax(-1), losses.view(labels.shape)


def held_out_figures(prediction: Any) -> dict[str, float]:
    """Return `loss` and `accuracy` of the tokens.

    With next segments, `loss` is the sum of both losses, and `next_segment_accuracy` is added. For Trainer's
    `compute_metrics`: this `loss` replaces Trainer's own (checked: transformers 5.23, trainer.py:evaluation_loop,
    which adds the prefix `eval_` last).
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
