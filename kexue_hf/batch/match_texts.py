"""Probabilities that the texts of two columns match."""

import dataclasses
import math
from collections.abc import Iterable, Set
from typing import ClassVar

import numpy as np

from kexue_hf.batch.text_batches import TextBatches, row_chunks


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatchTexts(TextBatches):
    """Add a column for each task, by its name: the probability that the two texts of a row match (`match_texts`).

    An ordinary classifier of pairs has one task, `match`. Rows with a null or blank text get NaN.

    Args:
        model: a matcher, or another two-class classifier of pairs: a folder that every worker can read, or a name on
            the Hub.
        column_a, column_b: the columns of the two texts.
        tasks: the tasks to use, by name or id; None for all.
        max_length: tokens per pair, special tokens included; None for the limit of model and tokenizer. In a longer
            pair, the longer text is truncated.
        prefix, device, dtype, batch_tokens, threads: as for `EmbedTexts`.

    Raises:
        InputError: an option is wrong; the model is only loaded, and checked, with the first batch.
    """

    column_a: str = "text_a"
    column_b: str = "text_b"
    tasks: str | int | Iterable[str | int] | None = None
    max_length: int | None = None

    _loader: ClassVar[str] = "load_text_matcher"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tasks is not None:
            tasks = (self.tasks,) if isinstance(self.tasks, str | int) else self.tasks
            # The order of a set differs between processes, and with it the hash.
            self._set("tasks", tuple(sorted(tasks, key=str) if isinstance(tasks, Set) else tasks))

    @property
    def columns(self) -> list[str]:
        return [self.column_a, self.column_b]

    def _results(self, columns: list[list[str | None]]) -> dict[str, np.ndarray]:
        from kexue_hf.pipelines.text_matching import match_texts, task_names, task_numbers
        from kexue_hf.pipelines.text_pairs import is_blank

        model, tokenizer = self._loaded()
        names = task_names(model)
        tasks = names if self.tasks is None else [names[number] for number in task_numbers(self.tasks, names)]
        found = {task: np.full(len(columns[0]), math.nan, dtype=np.float32) for task in tasks}
        places, pairs = [], []
        for place, (first, second) in enumerate(zip(*columns, strict=True)):
            if first is not None and second is not None and not (is_blank(first) or is_blank(second)):
                places.append(place)
                pairs.append((first, second))
        options = self._options("max_length")
        results = (
            result
            for chunk in row_chunks(pairs, lambda pair: len(pair[0]) + len(pair[1]))
            for result in match_texts(model, tokenizer, chunk, tasks, pairs_done=len(chunk), **options)
        )
        for place, result in zip(places, results, strict=True):
            for task in tasks:
                found[task][place] = result[task]
        return found


__all__ = ["MatchTexts"]
