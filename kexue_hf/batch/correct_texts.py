"""Corrected spelling of a column of texts."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kexue_hf.batch.columns import string_column
from kexue_hf.batch.loaded_models import KEPT, file_digest
from kexue_hf.batch.text_batches import TextBatches, filled, row_chunks
from kexue_hf.errors import InputError
from kexue_hf.pipelines.confusion import is_name


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrectTexts(TextBatches):
    """Add the columns `corrected` and `num_corrections`: the results of a `Corrector` for a column of texts.

    A corrected text has the length of the original. A null text stays null, with 0 corrections.

    Args:
        model: a masked language model, best a T-TA: a folder that every worker can read, or a name on the Hub.
        column: the column of the texts.
        candidates, threshold, protect, known_words, rounds, method, max_length: as for `Corrector`, but `candidates`
            is a name or the path of a file, which every worker can read.
        prefix, device, dtype, batch_tokens, threads: as for `EmbedTexts`.

    Raises:
        InputError: an option is wrong; the model is only loaded, and checked, with the first batch. Or the file of
            candidates is not the one that the callable was made with.
    """

    column: str = "text"
    candidates: str | os.PathLike[str] = "confusion"
    threshold: float | None = None
    protect: Iterable[str] = ()
    known_words: bool = True
    rounds: int = 1
    method: str = "auto"
    max_length: int | None = None
    candidates_digest: str = dataclasses.field(init=False, repr=False)

    _loader: ClassVar[str] = "load_masked_lm"

    def __post_init__(self) -> None:
        super().__post_init__()
        candidates = os.fspath(self.candidates)
        if Path(candidates).is_file() and not is_name(candidates):
            candidates = os.path.abspath(candidates)
        self._set("candidates", candidates)
        self._set("candidates_digest", _digest_of(candidates))
        protect = (self.protect,) if isinstance(self.protect, str) else tuple(self.protect)
        if not all(isinstance(word, str) for word in protect):
            raise InputError("protect must hold texts that never change")
        # The order of a set differs between processes, and with it the hash.
        self._set("protect", tuple(sorted(set(protect))))

    @property
    def columns(self) -> list[str]:
        return [self.column]

    def _results(self, columns: list[list[str | None]]) -> dict[str, np.ndarray]:
        corrector = _corrector(self)
        found = [one for chunk in row_chunks(filled(columns[0])) for one in corrector.correct(chunk)]
        texts = [None if text is None else one.corrected for text, one in zip(columns[0], found, strict=True)]
        numbers = np.array([len(one.corrections) for one in found], dtype=np.int64)
        return {"corrected": string_column(texts), "num_corrections": numbers}


def _digest_of(candidates: str) -> str:
    """Return the digest of a file of candidates; empty for a name.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        return file_digest(candidates) if Path(candidates).is_file() and not is_name(candidates) else ""
    except OSError as error:
        raise InputError(f"{candidates}: cannot be read: {error.strerror or error}") from error


@functools.lru_cache(maxsize=KEPT)
def _corrector(options: CorrectTexts) -> Any:
    """Return the corrector of this process; building its candidates takes longer than a batch."""
    from kexue_hf.pipelines.text_correction import Corrector

    if _digest_of(os.fspath(options.candidates)) not in ("", options.candidates_digest):
        raise InputError(
            f"{options.candidates}: differs from the file that the callable was made with: make it again, or copy the "
            "same file to every machine"
        )
    model, tokenizer = options._loaded()
    names = ("candidates", "threshold", "protect", "known_words", "rounds", "method", "max_length")
    return Corrector(model, tokenizer, **options._options(*names))


__all__ = ["CorrectTexts"]
