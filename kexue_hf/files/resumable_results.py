"""A file with one result per row that appears complete or not at all, and that a later run can resume.

A checksum of every finished row is stored beside the results. A resumed run reads its input from the start, compares
checksums, and restarts with the first incomplete batch. The model therefore sees the same batches as in an
uninterrupted run, and the file is equal to the last digit.
"""

import collections
import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kexue_hf.errors import InputError, OutputError
from kexue_hf.files.staging import NOTHING_WRITTEN, Stage, put_file, staged
from kexue_hf.files.whole_file import check_file

_RESULTS, _SUMS, _FACTS, _LATE_FACTS = "results", "rows", "facts.json", "late_facts.json"
_SUM_BYTES = 8
_KEPT = "are kept: run the command again with --resume"
# Number of results between flushes. Flushed results outlive the process.
_FLUSH_EVERY = 256


class ResumableResults:
    """Results open for writing.

    `rows` counts results; `complete` counts those of complete batches, which a later run can resume from; `resumed` is
    true if an earlier run began the file.

    Args:
        results, sums: open files of results and checksums.
        late_facts: the file in which `depend_on` records facts.
    """

    def __init__(self, results: BinaryIO, sums: BinaryIO, resumed: bool, late_facts: Path) -> None:
        self._results, self._sums = results, sums
        self._pending: collections.deque[bytes] = collections.deque()
        self._late_facts = late_facts
        self.resumed = resumed
        self.rows = self.complete = 0

    def depend_on(self, facts: dict[str, Any]) -> None:
        """Record facts on which the results depend and that are known only once the model is loaded.

        Call it before `rest`.

        Raises:
            InputError: they differ from those of the interrupted run.
        """
        facts = json.loads(json.dumps(facts))
        if (recorded := _read_facts(self._late_facts)) is None:
            self._late_facts.write_text(json.dumps(facts), encoding="utf-8")
        else:
            _check_facts(recorded, facts)

    def rest(
        self,
        rows: Iterable[Any],
        batched: Callable[[Iterable[Any]], Iterator[list[Any]]],
        head: bytes = b"",
        width: int | None = None,
    ) -> Iterator[Any]:
        """Return the rows that have no result yet, and truncate the file after the results to keep.

        Args:
            rows: all rows; different rows must differ in their `repr`.
            batched: splits rows into the batches that the model processes together.
            head: first bytes of the file.
            width: size of a result in bytes; None if a result is a line.

        Raises:
            InputError: the rows differ from those of the interrupted run.
        """
        finished = min(self._count(len(head), width), os.fstat(self._sums.fileno()).st_size // _SUM_BYTES)
        self._sums.seek(0)
        known = (self._sums.read(_SUM_BYTES) for _ in range(finished))
        batches = batched(rows)
        unfinished: Iterable[list[Any]] = ()
        for batch in batches:
            if self.rows + len(batch) > finished:
                unfinished = (batch,)
                break
            for number, (row, expected) in enumerate(zip(batch, known, strict=False), self.rows + 1):
                if _checksum(row) != expected:
                    raise InputError(
                        f"row {number:,} of the input has changed since the run was interrupted; leave --resume out "
                        "to start again"
                    )
            self.rows += len(batch)
        else:
            if self.rows < finished:
                raise InputError(
                    f"the input has {self.rows:,} rows, but the interrupted run has results of {finished:,}; leave "
                    "--resume out to start again"
                )
        self._truncate(head, width)
        return self._record(itertools.chain(unfinished, batches))

    def write(self, result: str | bytes) -> None:
        """Append the result of the next row."""
        self._results.write(result.encode("utf-8") if isinstance(result, str) else result)
        self._sums.write(self._pending.popleft())
        self.rows += 1
        if self.rows % _FLUSH_EVERY == 0:
            self.flush()

    def rewrite_head(self, head: bytes) -> None:
        """Replace the first bytes of the file by `head`, which must have the same length."""
        self._results.seek(0)
        self._results.write(head)

    def flush(self) -> None:
        """Flush both files to the operating system."""
        self._results.flush()
        self._sums.flush()

    def _record(self, batches: Iterable[list[Any]]) -> Iterator[Any]:
        """Yield the rows and queue their checksums, because rows are read ahead of their results."""
        self.complete = self.rows
        for batch in batches:
            for row in batch:
                self._pending.append(_checksum(row))
                yield row
            # The caller has written all results of a batch before it asks for the next one.
            self.complete = self.rows

    def _count(self, head: int, width: int | None) -> int:
        """Return the number of complete results in the file."""
        self._results.seek(head)
        if width is not None:
            return (os.fstat(self._results.fileno()).st_size - head) // width
        return sum(block.count(b"\n") for block in iter(lambda: self._results.read(1 << 20), b""))

    def _truncate(self, head: bytes, width: int | None) -> None:
        self._results.seek(0)
        self._results.write(head)  # a killed process may not have written it
        if width is None:
            for _ in range(self.rows):
                self._results.readline()
        else:
            self._results.seek(len(head) + self.rows * width)
        self._results.truncate(self._results.tell())
        self._sums.seek(self.rows * _SUM_BYTES)
        self._sums.truncate(self._sums.tell())


@contextlib.contextmanager
def resumable_results(
    output: str | os.PathLike[str], facts: dict[str, Any], *, overwrite: bool = False, resume: bool = False
) -> Iterator[ResumableResults]:
    """Yield results that become `output` when the block ends without an error.

    An error or Ctrl-C keeps the results of complete batches, and its message says so.

    Args:
        facts: everything except the rows on which the results depend, as a JSON object.
        overwrite: replace an existing file.
        resume: continue an interrupted run; start from the beginning if no run was interrupted.

    Raises:
        OutputError: as `whole_file`; or another process is writing the file.
        InputError: the facts differ from those of the interrupted run.
    """
    target = check_file(output, overwrite=overwrite)
    facts = json.loads(json.dumps(facts))

    def publish(stage: Stage) -> None:
        try:
            put_file(stage.path / _RESULTS, target, overwrite=overwrite)
            stage.keep = False
        except FileExistsError:
            stage.keep = True
            raise OutputError(
                f"{output}: another process wrote this file meanwhile, and it was not replaced; the results {_KEPT} "
                "--overwrite to replace it"
            ) from None

    opened = stage = None
    try:
        with staged(output, target, publish, _is_resumable if resume else None) as stage:
            if stage.resumed:
                stage.keep = True  # if the check fails
                _check_facts(_read_facts(stage.path / _FACTS), facts)
                stage.keep = False
            else:
                (stage.path / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            paths = [stage.path / name for name in (_RESULTS, _SUMS)]
            for path in paths:
                path.touch()
            with open(paths[0], "r+b") as results, open(paths[1], "r+b") as sums:
                opened = ResumableResults(results, sums, stage.resumed, stage.path / _LATE_FACTS)
                try:
                    yield opened
                finally:
                    # `publish` resets this. An error of this run must not delete an earlier run's results.
                    stage.keep = stage.resumed or opened.complete > 0
    except BaseException as error:
        if stage is not None and stage.keep and opened is not None:
            if isinstance(error, KeyboardInterrupt):
                raise OutputError(_with_hint("interrupted")) from None
            if opened.complete > 0:
                _add_hint(error)
        raise


def _add_hint(error: BaseException) -> None:
    """Add to an error message that results are kept."""
    if isinstance(error, MemoryError):
        error.args = (_with_hint("not enough memory"),)
    elif len(error.args) == 1 and isinstance(error.args[0], str) and _KEPT not in error.args[0]:
        error.args = (_with_hint(error.args[0].removesuffix(NOTHING_WRITTEN)),)


def _with_hint(message: str) -> str:
    return f"{message}; the results so far {_KEPT} to continue, or without it to start again"


def _checksum(row: Any) -> bytes:
    return hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=_SUM_BYTES).digest()


def _is_resumable(stage: Path) -> bool:
    return _read_facts(stage / _FACTS) is not None


def _read_facts(path: Path) -> dict[str, Any] | None:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def _check_facts(recorded: dict[str, Any] | None, facts: dict[str, Any]) -> None:
    for name in sorted({*facts, *(recorded or {})}):
        then, now = (recorded or {}).get(name), facts.get(name)
        if then != now:
            raise InputError(
                f"the interrupted run had {name} {_shown(then)}, this one has {_shown(now)}, which changes the "
                "results: restore it, or leave --resume out to start again"
            )


def _shown(value: object) -> str:
    return "as its default" if value is None else f"{value!r:.80}"


__all__ = ["ResumableResults", "resumable_results"]
