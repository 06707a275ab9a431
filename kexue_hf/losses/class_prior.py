"""How often each class occurs, and what follows from it: priors, weights, decision rules."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kexue_hf.errors import InputError

_IGNORED = -100


@dataclass(frozen=True)
class ClassPrior:
    """Counts of the classes, one for each.

    Args:
        counts: number of items of class 0, 1, ...
    """

    counts: Sequence[int]

    def __post_init__(self) -> None:
        counts = tuple(int(count) for count in self.counts)
        if len(counts) < 2 or min(counts) < 0 or not sum(counts):
            raise InputError(f"counts must be two or more numbers from 0, not all 0, got {list(counts)}")
        object.__setattr__(self, "counts", counts)

    @classmethod
    def from_counts(cls, counts: Iterable[int]) -> "ClassPrior":
        """Return the prior of these counts, of class 0, 1, ..."""
        return cls(tuple(counts))

    @classmethod
    def from_labels(cls, labels: Iterable[Any], num_classes: int | None = None) -> "ClassPrior":
        """Count labels: whole numbers, or lists of them (of the tokens of a text); -100 is ignored.

        Args:
            num_classes: None for the highest label + 1.

        Raises:
            InputError: a label is no whole number from 0, or not below `num_classes`; or there are no labels.
        """
        counts: dict[int, int] = {}
        for label in labels:
            _count(label, counts)
        highest = max(counts, default=-1)
        wanted = max(highest + 1, 2) if num_classes is None else num_classes
        if highest < 0 or min(counts) < 0 or highest >= wanted:
            came = "no labels" if highest < 0 else f"label {min(counts) if min(counts) < 0 else highest}"
            raise InputError(f"expected labels from 0 to {wanted - 1}, got {came}")
        return cls(tuple(counts.get(number, 0) for number in range(wanted)))

    @classmethod
    def from_dataset(
        cls, dataset: Iterable[Any], column: str = "label", num_classes: int | None = None
    ) -> "ClassPrior":
        """Count the labels in a column of a `datasets` data set, streamed or not, or of dictionaries.

        Args:
            column: whole numbers, or lists of them.
            num_classes: None for what the data set's features say, or the highest label + 1.

        Raises:
            InputError: there is no such column; or as `from_labels`.
        """
        names = getattr(dataset, "column_names", None)
        if names is not None and column not in names:
            raise InputError(f"the data set has no column {column!r}, only {', '.join(names)}")
        if num_classes is None:
            feature = (getattr(dataset, "features", None) or {}).get(column)
            num_classes = getattr(getattr(feature, "feature", feature), "num_classes", None)
        return cls.from_labels(_column(dataset, column), num_classes)

    @classmethod
    def of(cls, config: Any) -> "ClassPrior":
        """Return the prior in a model's configuration.

        Raises:
            InputError: it has none.
        """
        counts = getattr(config, "class_prior", None)
        if counts is None:
            raise InputError(
                "the configuration has no class_prior: ClassPrior.from_dataset(...).store(config) sets it"
            )
        return cls(counts)

    def store(self, config: Any) -> None:
        """Write the counts into a model's configuration, which saves them with the model."""
        config.class_prior = list(self.counts)

    def over_processes(self) -> "ClassPrior":
        """Return the sum of the counts of all processes, where each one counted a part of the data."""
        import torch
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return self
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        # A process may have seen no item of the last classes.
        classes = torch.tensor(len(self.counts), device=device)
        dist.all_reduce(classes, dist.ReduceOp.MAX)
        padding = [0] * (int(classes) - len(self.counts))
        total = torch.tensor([*self.counts, *padding], dtype=torch.int64, device=device)
        dist.all_reduce(total)
        return type(self)(tuple(total.tolist()))

    @property
    def prior(self) -> tuple[float, ...]:
        """Frequencies of the classes; they sum to 1."""
        total = sum(self.counts)
        return tuple(count / total for count in self.counts)

    def inverse(self) -> tuple[float, ...]:
        """Return weights 1 / count that give every class the same sum, and the items the mean weight 1."""
        return self._weights([1 / count for count in self._positive()])

    def sqrt_inverse(self) -> tuple[float, ...]:
        """Return weights 1 / sqrt(count), with the mean weight 1 over the items."""
        return self._weights([count**-0.5 for count in self._positive()])

    def effective(self, beta: float = 0.999) -> tuple[float, ...]:
        """Return weights by the effective number of items, (1 - beta) / (1 - beta^n) (Cui et al., arXiv 1901.05555).

        Args:
            beta: from 0 (all weights 1) to below 1 (towards `inverse`).

        Raises:
            InputError: beta is out of range.
        """
        if not 0 <= beta < 1:
            raise InputError(f"beta must be from 0 to below 1, got {beta}")
        return self._weights([(1 - beta) / (1 - beta**count) for count in self._positive()])

    def _positive(self) -> Sequence[int]:
        if missing := [number for number, count in enumerate(self.counts) if not count]:
            raise InputError(f"class {missing[0]} has no example, so it can have no weight: leave the class out")
        return self.counts

    def _weights(self, raw: list[float]) -> tuple[float, ...]:
        mean = sum(weight * share for weight, share in zip(raw, self.prior, strict=True))
        return tuple(weight / mean for weight in raw)


def _column(dataset: Any, column: str) -> Iterable[Any]:
    """Yield a column's values without decoding the others, where the data set can leave them out."""
    if hasattr(dataset, "select_columns"):
        dataset = dataset.select_columns([column])
    for row in dataset:
        try:
            yield row[column]
        except (KeyError, TypeError):
            raise InputError(f"a row has no {column!r}") from None


def _count(label: Any, counts: dict[int, int]) -> None:
    if hasattr(label, "tolist"):
        label = label.tolist()
    if isinstance(label, (list, tuple)):
        for one in label:
            _count(one, counts)
        return
    if isinstance(label, bool) or not isinstance(label, (int, float)) or label != int(label):
        raise InputError(f"labels must be whole numbers, got {label!r}: class_encode_column makes them of names")
    if label != _IGNORED:
        counts[int(label)] = counts.get(int(label), 0) + 1


__all__ = ["ClassPrior"]
