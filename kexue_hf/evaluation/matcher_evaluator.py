"""Evaluation of a matcher on labelled pairs, with the interface of the evaluators of sentence-transformers.

    evaluator = MatcherEvaluator(read_matching_rows(["sohu2021"], "valid"), tokenizer, name="valid")
    figures = evaluator(model, output_path="figures", epoch=2)
    figures[evaluator.primary_metric]  # the contest's score

That library is not required, but its SequentialEvaluator accepts this evaluator. As there, the names of the figures
are prefixed with `name`, and each call with an `output_path` appends a line to a CSV file. There are two differences:
the model is a transformers model, so the tokenizer is an argument; and a CSV file with other columns is an error.
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
    """Computes the figures of `kexue_hf.evaluation.matching.probability_figures` for a model.

    Args:
        rows: MatchingRows, or dictionaries with `text_a`, `text_b`, `task` and `label` (0 or 1).
        tokenizer: the tokenizer of the models to evaluate.
        name: name of the data, used as the prefix of the figures' names (`<name>_f1`) and in the name of the CSV file.
        task_names: the allowed tasks; None allows any. If there is only one, such as `["match"]` for a plain
            two-class classifier, rows need not name it.
        max_length, batch_tokens: as for `match_texts`.
        show_progress_bar: show a progress bar.
        write_csv: write the CSV file if a call gives an `output_path`.

    Attributes:
        primary_metric: name of the figure for choosing a model, f1.
        greater_is_better: True.
        csv_file: name of the CSV file.

    Raises:
        ValueError: there are no rows; a row (named, from 0) lacks a field, has a label other than 0 or 1, an empty
            text or an unknown task; or `task_names` is a string.
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
        batch_tokens: int | None = None,
        show_progress_bar: bool = False,
        write_csv: bool = True,
    ) -> None:
        as_dicts = (dataclasses.asdict(row) if isinstance(row, MatchingRow) else row for row in rows)
        self.rows = [matching_row(row, f"row {number}", task_names) for number, row in enumerate(as_dicts)]
        self.pairs = [read_pair(dataclasses.asdict(row), f"row {number}") for number, row in enumerate(self.rows)]
        if not self.rows:
            raise InputError("no rows to evaluate; expected at least one labelled pair")
        self.tokenizer, self.name = tokenizer, name
        self.max_length, self.batch_tokens = max_length, batch_tokens
        self.show_progress_bar, self.write_csv = show_progress_bar, write_csv
        self.primary_metric = f"{name}_f1" if name else "f1"
        self.csv_file = f"MatcherEvaluator{'_' if name else ''}{name}_results.csv"

    def __call__(
        self, model: Any, output_path: str | os.PathLike[str] | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the figures of a model by name.

        Args:
            model: as for `match_texts`; the training mode of each module is restored.
            output_path: folder of the CSV file, created if necessary; None writes none.
            epoch, steps: written to the CSV file; -1 stands for the end of training, or of the epoch.

        Raises:
            ValueError: the model is not a matcher, does not know all tasks of the rows, or as for `match_texts`.
            OutputError: the CSV file has other columns or cannot be written.
        """
        names = task_names(model)
        try:
            task_numbers(tasks_of(self.rows), names)
        except ValueError:
            # An encoder's configuration has two classes by default, so `task_names` accepts it.
            if getattr(model, "base_model", None) is model:
                raise InputError(
                    "expected a text matcher, as AutoModelForSequenceClassification loads; got "
                    f"{type(model).__name__}, an encoder without a classifier"
                ) from None
            raise
        found = match_texts(
            model, self.tokenizer, self.pairs, max_length=self.max_length, batch_tokens=self.batch_tokens
        )
        progress = tqdm(found, "matching", len(self.pairs), disable=not self.show_progress_bar)
        values = np.array([next(iter(probabilities.values())) for probabilities in progress])
        labels = np.array([row.label for row in self.rows])
        tasks = np.array([names.index(row.task) for row in self.rows])
        figures = probability_figures(values, labels, tasks, names)
        if output_path is not None and self.write_csv:
            self._append_line({"epoch": epoch, "steps": steps, **figures}, Path(output_path) / self.csv_file)
        return {f"{self.name}_{key}" if self.name else key: value for key, value in figures.items()}

    def _append_line(self, line: dict[str, float], path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a+", newline="", encoding="utf-8") as file:
                file.seek(0)
                header = next(csv.reader(file), None)
                if header in (None, list(line)):
                    csv.writer(file).writerows([line.values()] if header else [line, line.values()])
                    return
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
        raise OutputError(f"{path} has the columns of other tasks; name another folder")


__all__ = ["MatcherEvaluator"]
