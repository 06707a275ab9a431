"""Resumed results equal those of one run, and changes are refused."""

import copy
import errno
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kexue_hf.errors import InputError, OutputError
from kexue_hf.files.resumable_results import resumable_results

ROWS = [f"行{number}" for number in range(10)]
BATCH = 3


def batched(rows) -> Iterator[list[str]]:
    rows = iter(rows)
    while batch := list(itertools.islice(rows, BATCH)):
        yield batch


def run(output: Path, rows=ROWS, stop: int | None = None, resume: bool = True, error=KeyboardInterrupt, **options):
    """Compute the rows and return those that were computed; each result holds the size of its batch."""
    done = []
    with resumable_results(output, options.pop("facts", {"model": 1}), resume=resume, **options) as results:
        for batch in batched(results.rest(rows, batched)):
            for row in batch:
                if len(done) == stop:
                    raise error
                results.write(f"{row} {len(batch)}\n")
                done.append(row)
    return done


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return a half-finished output: 5 of 10 rows, in batches of 3."""
    with pytest.raises(OutputError, match="the results so far are kept"):
        run(tmp_path / "out.jsonl", stop=5, resume=False)
    assert names(tmp_path)[0].startswith(".out.jsonl.partial-")
    return tmp_path / "out.jsonl"


def whole(folder: Path) -> bytes:
    run(folder / "whole", resume=False)
    return (folder / "whole").read_bytes()


def test_a_resumed_file_equals_an_uninterrupted_one(output: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert run(output) == ROWS[3:]
    assert output.read_bytes() == whole(tmp_path_factory.mktemp("one")) and names(output.parent) == ["out.jsonl"]


@pytest.mark.parametrize("cut", [1, 9, 30])
@pytest.mark.parametrize("file", ["results", "rows"])
def test_a_truncated_last_line(file: str, cut: int, output: Path, tmp_path_factory) -> None:
    (path,) = output.parent.glob(f".out.jsonl.partial-*/{file}")
    path.write_bytes(path.read_bytes()[:-cut])
    run(output)
    assert output.read_bytes() == whole(tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("cut", [None, -1, 7, 3, 0])
def test_results_of_fixed_size(cut: int | None, tmp_path: Path) -> None:
    def write(stop: int | None) -> None:
        with resumable_results(tmp_path / "out.npy", {}, resume=True) as results:
            for number, row in enumerate(results.rest(ROWS, batched, head=b"head 00", width=2)):
                if number == stop:
                    raise KeyboardInterrupt
                results.write(row[-1].encode() * 2)
            results.rewrite_head(b"head %02d" % results.rows)

    with pytest.raises(OutputError):
        write(7)
    if cut is not None:
        (path,) = tmp_path.glob(".out.npy.partial-*/results")
        path.write_bytes(path.read_bytes()[:cut])
    write(None)
    assert (tmp_path / "out.npy").read_bytes() == b"head 10" + b"".join(row[-1].encode() * 2 for row in ROWS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"facts": {"model": 2}}, "had model 1, this one has 2"),
        ({"facts": {"model": 1, "--tokens": True}}, "had --tokens as its default, this one has True"),
        ({"rows": ["x", *ROWS[1:]]}, "row 1 of the input has changed"),
        ({"rows": ROWS[:2]}, "the input has 2 rows, but the interrupted run has results of 5"),
    ],
    ids=["model", "option", "row", "fewer"],
)
def test_changes_are_refused_and_nothing_is_lost(change: dict, message: str, output: Path) -> None:
    with pytest.raises(InputError, match=message):
        run(output, **change)
    assert run(output) == ROWS[3:]


def test_more_rows_may_follow(output: Path) -> None:
    assert run(output, [*ROWS, "neu"]) == [*ROWS[3:], "neu"]


def test_without_resume_it_starts_again(output: Path) -> None:
    assert run(output, resume=False) == ROWS and names(output.parent) == ["out.jsonl"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert run(tmp_path / "out.jsonl") == ROWS and names(tmp_path) == ["out.jsonl"]


def test_an_interruption_before_the_first_complete_batch_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out.jsonl", stop=2)
    assert names(tmp_path) == []


ERRORS = [
    ValueError("row 5 is none"),
    InputError("row 5 is none"),
    RuntimeError("a matrix is odd"),
    MemoryError(),
    OSError(28, "No space left on device"),
    KeyboardInterrupt(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_keeps_the_results_of_complete_batches(error: BaseException, tmp_path: Path, output: Path) -> None:
    other = tmp_path / "other.jsonl"
    with pytest.raises(
        BaseException, match=r"[^;]*; the results so far are kept: run the command again with --resume"
    ):
        run(other, stop=5, error=copy.copy(error))
    assert run(other) == ROWS[3:]
    with pytest.raises(BaseException) as early:
        run(other, stop=2, resume=False, overwrite=True, error=copy.copy(error))
    assert "kept" not in str(early.value) and len(other.read_text("utf-8").splitlines()) == len(ROWS)
    with pytest.raises(BaseException) as resumed:
        run(output, stop=1, error=copy.copy(error))
    assert "are kept" in str(resumed.value)
    assert run(output) == ROWS[3:]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_at_the_end_keeps_all_results(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch, pytest.raises((OutputError, KeyboardInterrupt)) as failed:
        patch.setattr("kexue_hf.files.resumable_results.put_file", put)
        run(tmp_path / "out.jsonl")
    assert "; the results so far are kept" in str(failed.value) and "nothing was written" not in str(failed.value)
    assert run(tmp_path / "out.jsonl") == [] and names(tmp_path) == ["out.jsonl"]


def test_while_another_run_writes_it(output: Path) -> None:
    with (
        resumable_results(output, {"model": 1}, resume=True),
        pytest.raises(OutputError, match="another process is writing it"),
    ):
        run(output)


@pytest.fixture(params=["no_module", "not_supported"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Not supported")

    if request.param == "no_module":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.setattr("fcntl.flock", flock)


def test_without_locks_a_living_process_is_left_alone(no_locks: None, output: Path) -> None:
    with resumable_results(output, {"model": 1}, resume=True):
        message = r"another process is writing it; .*; if it has ended, remove .*\.owner"
        with pytest.raises(OutputError, match=message):
            run(output)
    assert names(output.parent) == ["out.jsonl"]


@pytest.mark.parametrize("owner", ["{dead} {host}", "{alive} elsewhere", "", "x {host}", "9" * 30 + " {host}"])
def test_without_locks_the_stage_of_a_dead_process_is_resumed(owner: str, no_locks: None, output: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    (stage,) = output.parent.glob(".out.jsonl.partial-*")
    assert not (stage / ".owner").exists(), "this process has left it"
    owner = owner.format(dead=ended.pid, alive=os.getpid(), host=socket.gethostname())
    (stage / ".owner").write_text(owner, encoding="utf-8")
    assert run(output) == ROWS[3:] and output.exists()


def test_a_file_that_appears_meanwhile_and_the_results_are_kept(output: Path) -> None:
    with (
        pytest.raises(OutputError, match="another process wrote this file meanwhile"),
        resumable_results(output, {"model": 1}, resume=True) as results,
    ):
        for row in results.rest(ROWS, batched):
            results.write(f"{row}\n")
        output.write_text("somebody's")
    assert output.read_text() == "somebody's"
    assert run(output, overwrite=True) == [] and len(output.read_text().splitlines()) == len(ROWS)
