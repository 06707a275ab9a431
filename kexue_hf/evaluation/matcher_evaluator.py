"""A matcher's figures on labelled pairs, by an object that is called as the evaluators of sentence-transformers are.

    evaluator = MatcherEvaluator(read_matching_rows(["sohu2021"], "valid"), tokenizer, name="valid")
    figures = evaluator(model, output_path="figures", epoch=2)
    figures[evaluator.primary_metric]  # the contest's score

It does without that library, whose SequentialEvaluator takes it all the same. As there, figures have the `name` before
theirs, and every call with an `output_path` adds a line to a table. Unlike there, the model is one of transformers, so
the tokenizer is given on its own; and a table of other columns is an error and not gone on with.
"""

import csv
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from kexue_hf.corpora.matching_rows import MatchingRow, matching_row, tasks_of
from kexue_hf.errors import InputError, OutputError
from kexue_hf.evaluation.matching import probability_figures
from kexue_hf.pipelines.text_matching import match_texts, task_names, task_numbers
from kexue_hf.pipelines.text_pairs import read_pair


class MatcherEvaluator:
    """F1 of each task, f1_A, f1_B, f1; of each task also the best F1, its threshold (where any pair matches), and the
    average precision.

    What each figure is, `kexue_hf.evaluation.matching.probability_figures` says.

    Args:
        rows: any number of MatchingRow, or of dictionaries with `text_a`, `text_b`, `task` and `label` (0 or 1).
        tokenizer: the one that belongs to the models that will be evaluated.
        name: of the data; precedes the names of the figures, with `_` between, and is in the name of the table.
        task_names: the tasks that may occur; with a single one, such as `["match"]` for a classifier that is no
            matcher of several tasks, rows need not name it. None for any.
        max_length, batch_tokens: as of `match_texts`.
        show_progress_bar, write_csv: whether to.

    Attributes:
        primary_metric: under which name the figure is by which to choose a model: f1. greater_is_better: True.
        csv_file: what the table is called.

    Raises:
        ValueError: there are no rows; or, naming the row (from 0), something is missing in it, a label is not 0 or 1,
            a text is empty, or the task is unknown; or `task_names` is a single string.
    """

    greater_is_better = True

    def __init__(
        self,
        rows: Iterable[MatchingRow | dict[str, Any]],
        tokenizer: Any,
        name: str = "",
        *,
        task_names: Sequence[str] | None = None,
        max_length: int | None = None,
        batch_tokens: int = 8192,
        show_progress_bar: bool = False,
        write_csv: bool = True,
    ) -> None:
        given = (dataclasses.asdict(row) if isinstance(row, MatchingRow) else row for row in rows)
        self.rows = [matching_row(row, f"row {number}", task_names) for number, row in enumerate(given)]
        self.pairs = [read_pair(dataclasses.asdict(row), f"row {number}") for number, row in enumerate(self.rows)]
        if not self.rows:
            raise InputError("there are no rows to evaluate a matcher on")
        self.tokenizer, self.name = tokenizer, name
        self.max_length, self.batch_tokens = max_length, batch_tokens
        self.show_progress_bar, self.write_csv = show_progress_bar, write_csv
        self.primary_metric = f"{name}_f1" if name else "f1"
        self.csv_file = f"MatcherEvaluator{'_' if name else ''}{name}_results.csv"

    def __call__(
        self, model: Any, output_path: str | os.PathLike[str] | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """The figures of a model, each under its name.

        Args:
            model: as of `match_texts`; each of its modules is left in the mode it was in.
            output_path: the folder of the table, made if need be. None for no table.
            epoch, steps: what the table says of when this was; -1 for the end of all, or of the epoch.

        Raises:
            ValueError: the model is no matcher, or knows not all tasks of the rows; else as of `match_texts`.
            OutputError: there is a table of other columns, or it cannot be written.
        """
        names = task_names(model)
        try:
            task_numbers(tasks_of(self.rows), names)
        except ValueError:
            # Its configuration has two classes all the same, which every one has.
            if getattr(model, "base_model", None) is model:
                raise InputError(
                    f"a text matcher is needed, such as AutoModelForSequenceClassification loads; a "
                    f"{type(model).__name__} is an encoder without a classifier"
                ) from None
            raise
        found = match_texts(
            model, self.tokenizer, self.pairs, max_length=self.max_length, batch_tokens=self.batch_tokens
        )
        shown = tqdm(found, "matching", len(self.pairs), disable=not self.show_progress_bar)
        values = np.array([next(iter(one.values())) for one in shown])
        labels = np.array([row.label for row in self.rows])
        tasks = np.array([names.index(row.task) for row in self.rows])
        figures = probability_figures(values, labels, tasks, names)
        if output_path is not None and self.write_csv:
            self._note({"epoch": epoch, "steps": steps, **figures}, Path(output_path) / self.csv_file)
        return {f"{self.name}_{key}" if self.name else key: value for key, value in figures.items()}

    def _note(self, line: dict[str, float], table: Path) -> None:
        try:
            table.parent.mkdir(parents=True, exist_ok=True)
            with table.open("a+", newline="", encoding="utf-8") as file:
                file.seek(0)
                header = next(csv.reader(file), None)
                if header in (None, list(line)):
                    csv.writer(file).writerows([line.values()] if header else [line, line.values()])
                    return
        except OSError as error:
            raise OutputError(f"{table}: cannot be written ({error.strerror or error})") from error
        raise OutputError(f"{table} has other columns, those of other tasks; name another folder")


__all__ = ["MatcherEvaluator"]
