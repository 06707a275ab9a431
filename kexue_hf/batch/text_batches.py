"""The base class of the batch callables: options that pickle and hash, one model a process, columns in and out."""

import abc
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np

from kexue_hf.batch.columns import text_column, with_columns
from kexue_hf.batch.loaded_models import folder_digest, loaded_model, torch_threads
from kexue_hf.errors import InputError, KexueError
from kexue_hf.pipelines.chunks import MAX_CHARACTERS, MAX_TEXTS, chunks

_Row = TypeVar("_Row")
# These change where and how fast the results are computed, not what they are.
_WITHOUT_EFFECT = ("model", "device", "threads", "batch_tokens")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextBatches(abc.ABC):
    """A callable that adds columns of results to a batch. It holds options only, so it pickles and hashes at any time.

    The first batch in a process loads the model. All callables of the process that load the same kind of model from
    the folder share it; a process keeps the four models that it used last. Within a batch, texts go through the model
    sorted by length; the results are in the order of the rows. Give batches of about 1,000 rows: smaller ones need
    more padding.

    A batch is a dictionary of lists or arrays, which returns as a dictionary with more columns; a DataFrame, which
    returns with more columns; or the lazy batch of `datasets.map`, which gets the new columns only.
    """

    model: str | os.PathLike[str] = dataclasses.field(kw_only=False)
    prefix: str = ""
    device: str = "auto"
    dtype: str = "auto"
    batch_tokens: int | None = None
    threads: int | None = None
    model_digest: str = dataclasses.field(init=False, repr=False)

    _loader: ClassVar[str]

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "threads"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{name} must be at least 1, got {number}")
        model = os.fspath(self.model)
        # Workers may run in another folder.
        self._set("model", os.path.abspath(model) if os.path.isdir(model) else model)
        self._set("model_digest", folder_digest(os.fspath(self.model)))

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def __call__(self, batch: Any) -> Any:
        """Return the batch with the columns of results.

        Raises:
            InputError: a column is missing, a cell is not a text, a name is taken, or model and options do not fit.
        """
        columns = [text_column(batch, name) for name in self.columns]
        try:
            with torch_threads(self.threads):
                results = self._results(columns)
        except KexueError:
            raise
        except ValueError as error:
            name = os.fspath(self.model)
            raise InputError(str(error) if str(error).startswith(name) else f"{name}: {error}") from error
        return with_columns(batch, {f"{self.prefix}{name}": values for name, values in results.items()})

    def map_pandas(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Yield each DataFrame with the columns of results, for Spark's `mapInPandas`."""
        for frame in frames:
            yield self(frame)

    @property
    def fingerprint(self) -> str:
        """A digest of the class, the options and the content of the files: equal only if the results are.

        A name on the Hub stands for itself: a later commit does not change the fingerprint.
        """
        options = [(field.name, getattr(self, field.name)) for field in dataclasses.fields(self)]
        # A file stands for its content, wherever it is.
        facts = [
            (name, value)
            for name, value in options
            if name not in _WITHOUT_EFFECT and not getattr(self, f"{name}_digest", "")
        ]
        what = (type(self).__name__, self.model_digest or self.model, facts)
        return hashlib.blake2b(repr(what).encode(), digest_size=16).hexdigest()

    @property
    @abc.abstractmethod
    def columns(self) -> list[str]:
        """Names of the columns that are read."""

    @abc.abstractmethod
    def _results(self, columns: list[list[str | None]]) -> dict[str, np.ndarray]:
        """Return the new columns, each [rows, ...], of the columns that were read."""

    def _loaded(self) -> tuple[Any, Any]:
        return loaded_model(self._loader, os.fspath(self.model), self.model_digest, self.device, self.dtype)

    def _options(self, *names: str) -> dict[str, Any]:
        """Return the named options and `batch_tokens`, as the functions take them."""
        return {name: getattr(self, name) for name in ("batch_tokens", *names)}


def row_chunks(rows: Iterable[_Row], size: Any = len) -> Iterator[list[_Row]]:
    """Split the rows of a batch, so that the memory of a batch of any size is bounded."""
    return chunks(rows, MAX_TEXTS, MAX_CHARACTERS, size, done=MAX_TEXTS)


def filled(texts: Sequence[str | None]) -> list[str]:
    """Return the texts, with nulls as empty texts."""
    return [text or "" for text in texts]


__all__ = ["TextBatches", "filled", "row_chunks"]
