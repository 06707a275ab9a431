"""A baseline without a network: tf-idf of a text's tokens and a logistic regression, fitted until it converges.

It computes what scikit-learn's TfidfVectorizer(norm="l2") and LogisticRegression(C=5) do, in a few lines of torch.
"""

import math
from collections import Counter

import torch
from torch.nn import functional

STRENGTH = 5.0  # weight of the data against the penalty, scikit-learn's C


def accuracy(
    train: list[list[int]], train_labels: list[int], held_out: list[list[int]], held_out_labels: list[int]
) -> float:
    """Fit on texts' tokens and their labels (0, 1, ...), and return the accuracy on held-out texts."""
    (predicted,) = predictions(train, train_labels, held_out)
    return float((torch.tensor(predicted) == torch.tensor(held_out_labels)).float().mean())


def predictions(train: list[list[int]], train_labels: list[int], *parts: list[list[int]]) -> list[list[int]]:
    """Fit on texts' tokens and their labels (0, 1, ...), and return the predicted labels of each part."""
    documents = Counter(token for text in train for token in set(text))
    column = {token: number for number, token in enumerate(documents)}
    rarity = torch.tensor([math.log((1 + len(train)) / (1 + count)) + 1 for count in documents.values()])

    def features(texts: list[list[int]]) -> torch.Tensor:
        counts = torch.zeros(len(texts), len(column))
        for row, text in enumerate(texts):
            for token, count in Counter(text).items():
                if token in column:
                    counts[row, column[token]] = count
        return functional.normalize(counts * rarity, dim=1)

    inputs, targets = features(train), torch.tensor(train_labels)
    weights = torch.zeros(max(train_labels) + 1, len(column), requires_grad=True)
    bias = torch.zeros(max(train_labels) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        fit = functional.cross_entropy(functional.linear(inputs, weights, bias), targets, reduction="sum")
        total = STRENGTH * fit + 0.5 * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        return [functional.linear(features(part), weights, bias).argmax(-1).tolist() for part in parts]
