"""Measure how close a model with linear attention is to the original softmax model, on held-out text.

The softmax model is the same model with its layers computing softmax, before any weights except its maps were trained:
compute its `pooled_vectors` first.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from kexue_hf.performer.attention_modules import row_length
from kexue_hf.performer.distillation import MASKED
from kexue_hf.performer.layer_comparison import observed_softmax


@contextlib.contextmanager
def as_softmax() -> Iterator[None]:
    """Make models with linear attention compute softmax within the block."""
    with observed_softmax(lambda *_: None):
        yield


@torch.no_grad()
def pooled_vectors(
    model: Any, tokenizer: Any, texts: Sequence[str], max_length: int | None = None, batch_size: int = 8
) -> torch.Tensor:
    """Return the mean of the last hidden states over each text's tokens: [texts, hidden], float32 on the CPU."""
    length = row_length(model, tokenizer, max_length)
    found = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            list(texts[start : start + batch_size]),
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
        ).to(model.device)
        states = model(**batch, output_hidden_states=True).hidden_states[-1].float()
        real = batch["attention_mask"][..., None].float()
        found.append(((states * real).sum(1) / real.sum(1).clamp_min(1.0)).cpu())
    return torch.cat(found)


def cosines(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return the cosine of each row with the row of the reference, [texts]."""
    return nn.functional.cosine_similarity(found, wanted, dim=-1)


def pairs_of(wanted: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Return pairs of texts of all degrees of similarity, [pairs, 2].

    They are neighbours in the given order, each text with the one that the softmax model finds most similar, and as
    many random pairs as both together; no pair twice.
    """
    count = len(wanted)
    unit = nn.functional.normalize(wanted, dim=-1)
    nearest = (unit @ unit.mT).fill_diagonal_(-2.0).argmax(-1)
    places = torch.arange(count)
    generator = torch.Generator().manual_seed(seed)
    chance = torch.randint(0, count, (2 * count, 2), generator=generator)
    pairs = torch.cat([torch.stack([places[:-1], places[1:]], -1), torch.stack([places, nearest], -1), chance])
    pairs = pairs.sort(-1).values
    return pairs[pairs[:, 0] != pairs[:, 1]].unique(dim=0)


def rank_agreement(found: torch.Tensor, wanted: torch.Tensor, pairs: torch.Tensor) -> float:
    """Return Spearman's correlation of two models' cosines over the same pairs of texts; ties get distinct ranks."""
    ranks = []
    for vectors in (found, wanted):
        likeness = cosines(vectors[pairs[:, 0]].double(), vectors[pairs[:, 1]].double())
        ranks.append(likeness.argsort().argsort().double())
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


@torch.no_grad()
def masked_word_loss(
    model: Any, tokenizer: Any, texts: Sequence[str], max_length: int | None = None, batch_size: int = 8, seed: int = 0
) -> float:
    """Return the mean cross entropy of masked tokens, chosen by the seed: 15 % of each text's, at least one."""
    length = row_length(model, tokenizer, max_length)
    generator = torch.Generator().manual_seed(seed)
    total, count = 0.0, 0
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(
            list(texts[start : start + batch_size]),
            padding=True,
            truncation=True,
            max_length=length,
            return_tensors="pt",
            return_special_tokens_mask=True,
        )
        ordinary = batch.pop("special_tokens_mask") == 0
        chance = torch.rand(ordinary.shape, generator=generator).masked_fill(~ordinary, 2.0)
        chosen = (chance < MASKED) | (chance == chance.amin(-1, keepdim=True)) & ordinary
        labels = batch["input_ids"][chosen].clone()
        batch["input_ids"][chosen] = tokenizer.mask_token_id
        logits = model(**batch.to(model.device)).logits.cpu()
        total += float(nn.functional.cross_entropy(logits[chosen].float(), labels, reduction="sum"))
        count += len(labels)
    return total / max(1, count)


class HeldOut:
    """Held-out texts, and the softmax model's results on them.

    Args:
        model: a model with maps; it runs once with softmax.
        max_length: tokens per text; by default 256, or the model's maximum if that is less.
        masked: whether to measure the loss of masked words as well; needs a head for them.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        texts: Sequence[str],
        max_length: int | None = None,
        masked: bool = False,
        batch_size: int = 8,
    ) -> None:
        self.tokenizer, self.texts, self.masked, self.batch_size = tokenizer, list(texts), masked, batch_size
        self.max_length = row_length(model, tokenizer, max_length)
        with as_softmax():
            self.wanted = self._vectors(model)
            self.softmax_loss = self._loss(model) if masked else None
        self.pairs = pairs_of(self.wanted)

    def __call__(self, model: Any) -> dict[str, float]:
        """Return `cosine` (mean), `least_cosine`, `rank_agreement` (from three pairs on) and `masked_word_loss`."""
        found = self._vectors(model)
        near = cosines(found, self.wanted)
        figures = {"cosine": float(near.mean()), "least_cosine": float(near.min())}
        if len(self.pairs) > 2:
            figures["rank_agreement"] = rank_agreement(found, self.wanted, self.pairs)
        if self.masked:
            figures["masked_word_loss"] = self._loss(model)
        return figures

    def _vectors(self, model: Any) -> torch.Tensor:
        return pooled_vectors(model, self.tokenizer, self.texts, self.max_length, self.batch_size)

    def _loss(self, model: Any) -> float:
        return masked_word_loss(model, self.tokenizer, self.texts, self.max_length, self.batch_size)


__all__ = ["HeldOut", "as_softmax", "cosines", "masked_word_loss", "pairs_of", "pooled_vectors", "rank_agreement"]
