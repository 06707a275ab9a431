"""Interrupt a conversion with Ctrl-C or SIGKILL: nothing is at OUTPUT, and the next run cleans up.

A wrapper slows the writing function down, so that the signal always meets a half-written file. It also restores the
SIGINT handler, because a child inherits an ignored SIGINT (tests in the background of a script).
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kexue_hf.conversion.convert import convert
from kexue_hf.conversion.export import export
from kexue_hf.conversion.staged_folder import staged_folder
from kexue_hf.errors import OutputError
from kexue_hf.files import staging as module
from tests.conversion.checkpoints import GOLDEN

SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from kexue_hf.conversion.formats import safetensors, tensorflow
write_all = safetensors.write_all
def slow(file, data):
    write_all(file, data)
    time.sleep(0.1)
safetensors.write_all = tensorflow.write_all = slow
from kexue_hf.cli.main import main
main(sys.argv[1:])
"""


def start_and_wait(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a slow run, and return while its weights are being written."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        written = [path for path in folder.glob(".out.partial-*/*") if path.stat().st_size > 5000]
        if written:
            return process
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"nothing was being written: {process.communicate()}")


@pytest.fixture(params=["convert", "export"])
def arguments(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    (tmp_path / "work").mkdir()
    source: Path = GOLDEN / "wobert_tf_ckpt"
    if request.param == "export":
        source = tmp_path / "folder"
        convert(GOLDEN / "wobert_tf_ckpt", source)
    return [request.param, str(source), str(tmp_path / "work" / "out")]


def test_ctrl_c(arguments: list[str], tmp_path: Path) -> None:
    process = start_and_wait(tmp_path / "work", *arguments)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert stderr.splitlines() == ["kexue-hf: error: interrupted; nothing was written"]
    assert list((tmp_path / "work").iterdir()) == []


def test_sigkill_and_the_next_run(arguments: list[str], tmp_path: Path) -> None:
    process = start_and_wait(tmp_path / "work", *arguments)
    process.kill()
    process.communicate(timeout=30)
    (leftover,) = (tmp_path / "work").iterdir()
    assert leftover.name.startswith(".out.partial-")
    command, source, output = arguments
    (convert if command == "convert" else export)(source, output)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["out"]


def test_sigkill_keeps_the_folder_to_replace(tmp_path: Path) -> None:
    convert(GOLDEN / "wobert_keras_h5", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    process = start_and_wait(tmp_path, "convert", str(GOLDEN / "wobert_tf_ckpt"), str(tmp_path / "out"), "--overwrite")
    process.kill()
    process.communicate(timeout=30)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.slow
def test_concurrent_runs_keep_each_others_stages(tmp_path: Path) -> None:
    first = start_and_wait(tmp_path, "convert", str(GOLDEN / "wobert_tf_ckpt"), str(tmp_path / "out"))
    os.kill(first.pid, signal.SIGSTOP)
    try:
        convert(GOLDEN / "wobert_keras_h5", tmp_path / "out")
        assert len(list(tmp_path.glob(".out.partial-*"))) == 1
    finally:
        os.kill(first.pid, signal.SIGCONT)
    _, stderr = first.communicate(timeout=60)
    assert first.returncode == 2 and "exists and is not empty" in stderr
    assert '"WoBertForSequenceClassification"' in (tmp_path / "out" / "config.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_without_locks_the_output_has_no_owner_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with staged_folder(tmp_path / "out") as folder:
        assert (folder / ".owner").read_text("utf-8").startswith(f"{os.getpid()} ")
        (folder / "config.json").touch()
    assert os.listdir(tmp_path / "out") == ["config.json"]


@pytest.mark.parametrize("moment", ["before_it_is_opened", "before_it_is_locked", "while_it_is_removed"])
def test_another_run_may_remove_a_folder_before_it_is_locked(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test removes the folder once, as another process could at that moment."""
    mkdir, flock, held = os.mkdir, fcntl.flock, list[int]()
    met = 0

    def meet(wanted: str) -> bool:
        nonlocal met
        met += wanted == moment
        return wanted == moment and met == 1

    def make(path: Path, *arguments: int) -> None:
        mkdir(path, *arguments)
        if meet("before_it_is_opened"):
            module._remove_leftovers(tmp_path / "out")
        if meet("while_it_is_removed"):
            held.append(os.open(path, os.O_RDONLY))
            flock(held[0], fcntl.LOCK_EX)

    def lock(descriptor: int, operation: int) -> None:
        if meet("before_it_is_locked"):
            module._remove_leftovers(tmp_path / "out")
        flock(descriptor, operation)

    monkeypatch.setattr(module.os, "mkdir", make)
    monkeypatch.setattr(fcntl, "flock", lock)
    with staged_folder(tmp_path / "out") as folder:
        assert met >= 1
        (folder / "config.json").write_text("{}")
    for descriptor in held:
        os.close(descriptor)
    assert (tmp_path / "out" / "config.json").read_text() == "{}"
    module._remove_leftovers(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["词" * 84, "x" * 255], ids=["chinese", "ascii"])
def test_the_longest_names(name: str, tmp_path: Path) -> None:
    for content in ("old", "new"):
        with staged_folder(tmp_path / name, overwrite=True) as folder:
            (folder / "config.json").write_text(content)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name / "config.json").read_text() == "new"


def test_the_current_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    convert(GOLDEN / "wobert_tf_ckpt", ".")
    names = os.listdir(".")
    assert {"config.json", "model.safetensors", "vocab.txt"} <= set(names) and os.listdir(tmp_path) == ["here"]
    with pytest.raises(OutputError, match="is or contains the current directory"):
        convert(GOLDEN / "wobert_tf_ckpt", ".", overwrite=True)
    assert os.listdir(".") == names


def test_an_error_half_way_leaves_the_current_directory_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rename = os.rename

    def fail(one: Path, other: Path) -> None:
        if Path(one).name == "b" and Path(other).parent.name == "here":
            raise OSError(28, "No space left on device")
        rename(one, other)

    monkeypatch.setattr(module.os, "rename", fail)
    with pytest.raises(OutputError, match="the disk is full"), staged_folder(".") as folder:
        for name in ("a", "b", "config.json"):
            (folder / name).touch()
    assert os.listdir(".") == [] and os.listdir(tmp_path) == ["here"]


def test_a_folder_moved_away_is_restored(tmp_path: Path) -> None:
    """Where folders cannot be swapped atomically, a process may be killed between two renames."""
    (tmp_path / ".out.replaced-0123abcd").mkdir()
    (tmp_path / ".out.replaced-0123abcd" / "config.json").write_text("old")
    with pytest.raises(OutputError), staged_folder(tmp_path / "out"):
        raise OutputError("of the block")
    assert (tmp_path / "out" / "config.json").read_text() == "old" and os.listdir(tmp_path) == ["out"]
