"""Corrected spelling of a column of texts."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kexue_hf.batch.columns import string_column
from kexue_hf.batch.text_batches import TextBatches, filled, row_chunks
from kexue_hf.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrectTexts(TextBatches):
    """Add the columns `corrected` and `num_corrections`: the results of a `Corrector` for a column of texts.

    A corrected text has the length of the original. A null text stays null, with 0 corrections.

    Args:
        model: a masked language model, best a T-TA: a folder that every worker can read, or a name on the Hub.
        column: the column of the texts.
        candidates, threshold, protect, known_words, rounds, method, max_length: as for `Corrector`, but `candidates`
            is a name or the path of a file.
        prefix, device, dtype, batch_tokens, threads: as for `EmbedTexts`.

    Raises:
        InputError: an option is wrong; the model is only loaded, and checked, with the first batch.
    """

    column: str = "text"
    candidates: str | os.PathLike[str] = "confusion"
    threshold: float | None = None
    protect: Iterable[str] = ()
    known_words: bool = True
    rounds: int = 1
    method: str = "auto"
    max_length: int | None = None

    _loader: ClassVar[str] = "load_masked_lm"

    def __post_init__(self) -> None:
        super().__post_init__()
        candidates = os.fspath(self.candidates)
        if Path(candidates).is_file():
            candidates = os.path.abspath(candidates)
        self._set("candidates", candidates)
        self._set("protect", (self.protect,) if isinstance(self.protect, str) else tuple(self.protect))
        if not all(isinstance(word, str) for word in self.protect):
            raise InputError("protect must hold texts that never change")

    @property
    def columns(self) -> list[str]:
        return [self.column]

    def _results(self, columns: list[list[str | None]]) -> dict[str, np.ndarray]:
        corrector = _corrector(self)
        found = [one for chunk in row_chunks(filled(columns[0])) for one in corrector.correct(chunk)]
        texts = [None if text is None else one.corrected for text, one in zip(columns[0], found, strict=True)]
        numbers = np.array([len(one.corrections) for one in found], dtype=np.int64)
        return {"corrected": string_column(texts), "num_corrections": numbers}


@functools.lru_cache(maxsize=1)
def _corrector(options: CorrectTexts) -> Any:
    """Return the corrector of this process; building its candidates takes longer than a batch."""
    from kexue_hf.pipelines.text_correction import Corrector

    model, tokenizer = options._loaded()
    names = ("candidates", "threshold", "protect", "known_words", "rounds", "method", "max_length")
    return Corrector(model, tokenizer, **options._options(model, *names))


__all__ = ["CorrectTexts"]
