"""Results of rows, one each, in a file that appears whole or not at all, and that a later run can go on with.

Beside the results lies a checksum of every row that has one. A run that resumes reads its input from the beginning,
compares, and begins again with the first piece of rows that is not complete, so that the same rows go through the
model together as in one go, and the file is the same to the last digit.
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
# Results after which what was written is handed to the system, where it outlives the process.
_FLUSH_EVERY = 256


class ResumableResults:
    """The results, open for writing. `rows` counts them; `complete` are those of whole pieces, with which a later run
    can go on; `resumed` says whether an earlier one began the file.

    Args:
        results, sums: open files.
        late_facts: where `depend_on` notes them.
    """

    def __init__(self, results: BinaryIO, sums: BinaryIO, resumed: bool, late_facts: Path) -> None:
        self._results, self._sums = results, sums
        self._noted: collections.deque[bytes] = collections.deque()
        self._late_facts = late_facts
        self.resumed = resumed
        self.rows = self.complete = 0

    def depend_on(self, facts: dict[str, Any]) -> None:
        """Note what else the results depend on, before `rest`: what is known only when the model is loaded.

        Raises:
            InputError: the interrupted run's are others.
        """
        facts = json.loads(json.dumps(facts))
        if (recorded := _read_facts(self._late_facts)) is None:
            self._late_facts.write_text(json.dumps(facts), encoding="utf-8")
        else:
            _check_facts(recorded, facts)

    def rest(
        self,
        rows: Iterable[Any],
        pieces: Callable[[Iterable[Any]], Iterator[list[Any]]],
        head: bytes = b"",
        width: int | None = None,
    ) -> Iterator[Any]:
        """The rows that are still to be computed; the file is cut off behind the results of the others.

        Args:
            rows: all of them, each with a `repr` that tells it from others.
            pieces: cuts them as the model takes them together.
            head: what the file begins with. width: bytes of a result; None where it is a line.

        Raises:
            InputError: the rows are others than those of the results that are there.
        """
        there = min(self._count(len(head), width), os.fstat(self._sums.fileno()).st_size // _SUM_BYTES)
        self._sums.seek(0)
        known = (self._sums.read(_SUM_BYTES) for _ in range(there))
        parts = pieces(rows)
        waiting: Iterable[list[Any]] = ()
        for piece in parts:
            if self.rows + len(piece) > there:
                waiting = (piece,)
                break
            for number, (row, expected) in enumerate(zip(piece, known, strict=False), self.rows + 1):
                if _checksum(row) != expected:
                    raise InputError(
                        f"row {number:,} of the input is another than when the run was interrupted; leave --resume "
                        "out to begin anew"
                    )
            self.rows += len(piece)
        else:
            if self.rows < there:
                raise InputError(
                    f"the input has {self.rows:,} rows, the interrupted run has results of {there:,}; leave --resume "
                    "out to begin anew"
                )
        self._cut(head, width)
        return self._note(itertools.chain(waiting, parts))

    def write(self, result: str | bytes) -> None:
        """Append the result of the next row."""
        self._results.write(result.encode("utf-8") if isinstance(result, str) else result)
        self._sums.write(self._noted.popleft())
        self.rows += 1
        if self.rows % _FLUSH_EVERY == 0:
            self.flush()

    def rewrite_head(self, head: bytes) -> None:
        """Replace what the file begins with, by as many bytes."""
        self._results.seek(0)
        self._results.write(head)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._results.flush()
        self._sums.flush()

    def _note(self, parts: Iterable[list[Any]]) -> Iterator[Any]:
        """The rows, each noted as it is given on: they are read further ahead than results come."""
        self.complete = self.rows
        for part in parts:
            for row in part:
                self._noted.append(_checksum(row))
                yield row
            # Whoever asks for the next piece has written the results of the one before.
            self.complete = self.rows

    def _count(self, head: int, width: int | None) -> int:
        """How many results are complete."""
        self._results.seek(head)
        if width is not None:
            return (os.fstat(self._results.fileno()).st_size - head) // width
        return sum(block.count(b"\n") for block in iter(lambda: self._results.read(1 << 20), b""))

    def _cut(self, head: bytes, width: int | None) -> None:
        self._results.seek(0)
        self._results.write(head)  # which a killed process may not have come to
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
    """Results that become `output` when the block ends without an error. An error, or Ctrl-C, keeps
    those of whole pieces, and its message says so.

    Args:
        facts: what the results depend on apart from the rows, by name, as JSON holds it.
        overwrite: replace a file that is there.
        resume: go on with what an interrupted run left; from the beginning where there is nothing.

    Raises:
        OutputError: as `whole_file`; or another process is writing it. InputError: the facts are others.
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
                f"{output} has been made by somebody else meanwhile, and is left as it is; the results {_KEPT} "
                "--overwrite to put them there"
            ) from None

    opened = stage = None
    try:
        with staged(output, target, publish, _is_resumable if resume else None) as stage:
            if stage.resumed:
                stage.keep = True  # unless the facts are right
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
                    # Until they are at their place. What an earlier run has left, no error of a later one takes away.
                    stage.keep = stage.resumed or opened.complete > 0
    except BaseException as error:
        if stage is not None and stage.keep and opened is not None:
            if isinstance(error, KeyboardInterrupt):
                raise OutputError(_with_hint("interrupted")) from None
            if opened.complete > 0:
                _add_hint(error)
        raise


def _add_hint(error: BaseException) -> None:
    """Say in the message of an error, where it has one, that results are kept."""
    if isinstance(error, MemoryError):
        error.args = (_with_hint("not enough memory"),)
    elif len(error.args) == 1 and isinstance(error.args[0], str) and _KEPT not in error.args[0]:
        error.args = (_with_hint(error.args[0].removesuffix(NOTHING_WRITTEN)),)


def _with_hint(message: str) -> str:
    return f"{message}; the results so far {_KEPT} to go on with them, or without it to begin anew"


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
                f"the interrupted run had {name} {then!r:.80}, this one has {now!r:.80}, with which results would be "
                "others: restore it, or leave --resume out to begin anew"
            )


__all__ = ["ResumableResults", "resumable_results"]
