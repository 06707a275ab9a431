"""A file appears complete or not at all, and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kexue_hf.errors import InputError, OutputError
from kexue_hf.files import staging
from kexue_hf.files.whole_file import whole_binary_file, whole_file

KILLED = """
import os, signal, sys
from kexue_hf.files.whole_file import whole_file
with whole_file(sys.argv[1]) as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_appears_once_complete(tmp_path: Path) -> None:
    output = tmp_path / "new" / "deep" / "a.txt"
    with whole_file(output) as file:
        file.write("一\n")
        assert not output.exists()
    assert output.read_bytes() == "一\n".encode()
    assert [path.name for path in output.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_no_folders(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyError), whole_file(tmp_path / "old" / "new" / "deep" / "a.txt"):
        raise KeyError
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]


def test_a_failure_leaves_folders_in_use(tmp_path: Path) -> None:
    with pytest.raises(KeyError), whole_file(tmp_path / "new" / "deep" / "a.txt"):
        (tmp_path / "new" / "b.txt").touch()
        raise KeyError
    assert list(tmp_path.rglob("*")) == [tmp_path / "new", tmp_path / "new" / "b.txt"]


def test_another_writer_that_fails_does_not_take_the_folder_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes the parent that it created, between this writer's steps."""
    output, rounds = tmp_path / "new" / "deep" / "a.txt", iter(range(5))
    remove_leftovers = staging._remove_leftovers

    def removed(target: Path) -> None:
        remove_leftovers(target)
        if next(rounds, None) is not None:
            target.parent.rmdir()
            target.parent.parent.rmdir()

    monkeypatch.setattr(staging, "_remove_leftovers", removed)
    with whole_file(output) as file:
        file.write("a")
    assert output.read_text() == "a" and next(rounds, None) is None


def test_a_leftover_is_resumed_though_the_first_attempt_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, fails = tmp_path / "out", iter([True])

    def removed(target: Path) -> None:
        if next(fails, False):
            raise FileNotFoundError

    with staging.staged(target, target, lambda stage: None) as stage:
        (stage.path / "half").touch()
        stage.keep = True
    monkeypatch.setattr(staging, "_remove_leftovers", removed)
    with staging.staged(target, target, lambda stage: None, lambda path: (path / "half").exists()) as stage:
        assert stage.resumed and (stage.path / "half").exists()


def test_an_error_of_reading_names_the_file_that_was_read(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=f"^{tmp_path / 'read.txt'}: No such file"),
        whole_file(tmp_path / "a.txt"),
    ):
        (tmp_path / "read.txt").read_text()
    with pytest.raises(OutputError, match=r"a.txt: cannot be written: No such file"), whole_file(tmp_path / "a.txt"):
        next(tmp_path.glob(".a.txt.partial-*")).joinpath("none").read_text()
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_a_folder_is_named_as_given(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    output = tmp_path / "a.py" / "x.jsonl"
    with pytest.raises(OutputError, match=f"^{output}: {output.parent} is a file"), whole_file(output):
        pass


def test_the_next_run_removes_the_stage_of_a_killed_process(tmp_path: Path) -> None:
    output = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", KILLED, output], check=False)
    assert [path.name[:15] for path in tmp_path.iterdir()] == [".a.txt.partial-"]
    with whole_file(output) as file:
        file.write("whole")
        with pytest.raises(OutputError, match="another process wrote this file"), whole_file(output) as other:
            other.write("another run's")
            # The other process, which ends first, must not take it for a leftover.
            file.flush()
            output.write_text("third")
        output.unlink()
    assert output.read_text() == "whole" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("renames", [True, False], ids=["renameat2", "links"])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    renames: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not renames:
        monkeypatch.setattr(staging, "_rename", lambda *_: False)
    output = tmp_path / "a.txt"
    with pytest.raises(OutputError, match="another process wrote this file meanwhile"), whole_file(output) as file:
        file.write("ours")
        output.write_text("theirs")
    assert output.read_text() == "theirs" and list(tmp_path.iterdir()) == [output]
    with whole_file(output, overwrite=True) as file:
        file.write("ours")
    assert output.read_text() == "ours"
    output.unlink()
    with whole_binary_file(output) as opened:
        opened.write(b"new")
    assert output.read_text() == "new" and list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("name", ["词" * 84, "x" * 255], ids=["chinese", "ascii"])
def test_the_longest_names(name: str, tmp_path: Path) -> None:
    with whole_file(tmp_path / name) as file:
        file.write("a")
    assert os.listdir(tmp_path) == [name]


def test_a_cleanup_error_does_not_hide_the_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unlink(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyError), whole_file(tmp_path / "a.txt"):
        raise KeyError
