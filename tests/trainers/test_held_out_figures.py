"""Figures over all labels, compared with torch's over all at once. tests/examples has whole runs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from kexue_hf.trainers.held_out_figures import guesses_and_losses, held_out_figures

TOKENS = torch.randn(6, 5, 9, generator=torch.Generator().manual_seed(0))
SEGMENTS = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(30).reshape(6, 5) % 9
LABELS[0, 1:] = LABELS[3, :4] = LABELS[4] = -100
FOLLOWS = torch.tensor([0, 1, 1, 0, 1, 0])


def as_trainer_does(batches: list[tuple]) -> dict[str, float]:
    """Return the figures of batches of (logits, labels), which Trainer concatenates."""
    found = [(guesses_and_losses(*batch), batch[1]) for batch in batches]

    def joined(parts: list) -> object:
        if isinstance(parts[0], tuple):
            return tuple(joined(list(kind)) for kind in zip(*parts, strict=True))
        return np.concatenate([part.numpy() for part in parts])

    prediction = SimpleNamespace(
        predictions=joined([given for given, _ in found]), label_ids=joined([labels for _, labels in found])
    )
    return held_out_figures(prediction)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_tokens(size):
    found = as_trainer_does(list(zip(TOKENS.split(size), LABELS.split(size), strict=True)))
    there = LABELS != -100
    assert set(found) == {"loss", "accuracy"}
    assert found["loss"] == pytest.approx(float(functional.cross_entropy(TOKENS[there], LABELS[there])), rel=1e-6)
    assert found["accuracy"] == float((TOKENS.argmax(-1) == LABELS)[there].float().mean())


@pytest.mark.parametrize("size", [1, 4, 6])
def test_tokens_and_segments(size):
    parts = (part.split(size) for part in (TOKENS, SEGMENTS, LABELS, FOLLOWS))
    found = as_trainer_does(
        [((words, pairs), (labels, follows)) for words, pairs, labels, follows in zip(*parts, strict=True)]
    )
    there = LABELS != -100
    loss = functional.cross_entropy(TOKENS[there], LABELS[there]) + functional.cross_entropy(SEGMENTS, FOLLOWS)
    assert found["loss"] == pytest.approx(float(loss), rel=1e-6)
    assert found["next_segment_accuracy"] == pytest.approx(float((SEGMENTS.argmax(-1) == FOLLOWS).float().mean()))
    assert set(found) == {"loss", "accuracy", "next_segment_accuracy"}


def test_half_precision_logits_are_summed_in_float32():
    _, losses = guesses_and_losses(TOKENS.bfloat16(), LABELS)
    assert losses.dtype == torch.float32 and (losses[LABELS == -100] == 0).all()
