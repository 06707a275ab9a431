"""Figures of a classifier with one label per item, fair to rare classes."""

import numpy as np


def classification_figures(predicted: np.ndarray, expected: np.ndarray, classes: int) -> dict[str, float]:
    """Return accuracy, balanced accuracy, macro-F1 and the recall of the worst class.

    Balanced accuracy is the mean recall of the classes that occur; macro-F1 the mean over the classes of
    F1 = 2 hits / (predicted + expected), without classes that occur in neither.

    Args:
        predicted, expected: [items] class numbers; items whose expected class is -100 do not count.
    """
    kept = expected != -100
    predicted, expected = predicted[kept].astype(int), expected[kept].astype(int)
    if not len(expected):
        return dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "worst_recall"), float("nan"))
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (expected, predicted), 1)
    hits, wanted, found = table.diagonal(), table.sum(1), table.sum(0)
    recall = hits[wanted > 0] / wanted[wanted > 0]
    occurring = wanted + found > 0
    return {
        "accuracy": float(hits.sum() / len(expected)),
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float((2 * hits[occurring] / (wanted + found)[occurring]).mean()),
        "worst_recall": float(recall.min()),
    }


__all__ = ["classification_figures"]
