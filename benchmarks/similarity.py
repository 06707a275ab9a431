"""Similarity of sentences for the benchmarks: vectors without training, whitening, and correlations."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

# Many times the width of the vectors, which is enough.
WHITENED_ON = 4000
# Directions with a smaller share of the largest eigenvalue are dropped: layer normalisation leaves one such.
NO_VARIANCE = 1e-6


def rarity(documents: list[str]) -> dict[str, float]:
    """Return log((1 + n) / (1 + document frequency)) + 1 of each character; "" stands for unseen ones."""
    counts = Counter(character for text in documents for character in set(text))
    total = math.log(1 + len(documents)) + 1
    return {"": total, **{character: total - math.log(1 + count) for character, count in counts.items()}}


def weighted(text: str, rarity: dict[str, float]) -> dict[str, float]:
    """Return the counts of a text's characters, times their rarity."""
    return {character: count * rarity.get(character, rarity[""]) for character, count in Counter(text).items()}


def bags_of_characters(texts: list[str], counts: Callable[[str], Any]) -> np.ndarray:
    """Return the counts of characters, [texts, characters], without white space."""
    bags = [counts("".join(text.split())) for text in texts]
    column = {character: number for number, character in enumerate(sorted(set().union(*bags)))}
    table = np.zeros((len(texts), len(column)), dtype=np.float32)
    for row, bag in enumerate(bags):
        for character, value in bag.items():
            table[row, column[character]] = value
    return table


def static_vectors(model: Any, tokenizer: Any, texts: list[str]) -> np.ndarray:
    """Return the mean word embedding of each text's tokens."""
    table = model.get_input_embeddings().weight.detach().numpy()
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return np.stack([table[row].mean(0) if row else np.zeros(table.shape[1], table.dtype) for row in ids])


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of rows 0 and 1, 2 and 3, ...; 0 if one of them is zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1, lengths)
    return (unit[0::2] * unit[1::2]).sum(1)


def whiten(vectors: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """Shift and rotate so that the coordinates of `fitted_on` are uncorrelated with mean 0 and variance 1."""
    mean = fitted_on.mean(0, dtype=np.float64)
    values, directions = np.linalg.eigh(np.cov(fitted_on - mean, rowvar=False))
    kept = values > NO_VARIANCE * values.max()
    return (vectors - mean) @ (directions[:, kept] / np.sqrt(values[kept]))


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return the rank correlation of two lists."""
    return pearson(ranks(first), ranks(second))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks; equal values share their mean rank."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group]


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two lists."""
    return float(np.corrcoef(first, second)[0, 1])
