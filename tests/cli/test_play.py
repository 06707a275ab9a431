"""`kexue-hf play` as a process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.play.tiny_players import tiny_folder


def start(*arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "kexue_hf.cli.main", "play", *map(str, arguments)]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)


def run(*arguments: object, lines: str = "") -> tuple[int, str, str]:
    process = start(*arguments)
    out, error = process.communicate(lines.encode("utf-8", "surrogateescape"), timeout=120)
    return process.returncode, out.decode("utf-8"), error.decode("utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("model"))


@pytest.mark.slow
def test_a_game(folder: Path) -> None:
    """Bytes that are no UTF-8 are a wrong entry like any other."""
    code, out, error = run(folder, "--nodes", 50, lines="炮二平五\n\udcff\nquit\n")
    assert (code, error) == (0, "") and "Black: " in out and "\x1b" not in out
    assert out.count("expected a move") == 1


@pytest.mark.slow
def test_an_engine(folder: Path) -> None:
    code, out, error = run(folder, "--ucci", lines="ucci\nisready\nposition startpos\ngo nodes 300\n")
    assert (code, error) == (0, "")
    assert "ucciok" in out.splitlines() and out.splitlines()[-1].startswith("bestmove ")


BAD = {
    ("--side", "green"): "--side: expected red, black, both, none, got 'green'",
    ("--nodes", "-1"): "--nodes: expected a whole number from 0, got -1",
    ("--seconds", "0"): "--seconds: expected more than 0",
    ("--fen", "x w"): "FEN 'x w': expected 10 ranks",
    ("--uci", "--ucci"): "expected one of --uci, --ucci and --web, got several",
    ("--web", "--uci"): "expected one of --uci, --ucci and --web, got several",
    ("--web", "--nodes=5"): "--side, --fen, --nodes and --seconds are chosen in the page; leave them out with --web",
    ("--uci", "--side", "black"): "--side and --fen have no effect on an engine",
    ("no-such-folder/at/all",): "no-such-folder/at/all",
    (str(Path(__file__)),): "is a file; expected the folder of a transformers model",
}


@pytest.mark.parametrize("arguments", BAD, ids=lambda arguments: arguments[-1].rpartition("/")[2])
def test_errors_are_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    code, out, error = run(*arguments)
    assert code == 2 and out == ""
    assert BAD[arguments] in error and len(error.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a child process")
def test_ctrl_c_ends_the_game_cleanly(folder: Path) -> None:
    process = start(folder, "--nodes", 50)
    assert process.stdout is not None
    seen = b""
    while not seen.endswith(b"Red> "):
        seen += process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0 and b"Traceback" not in out + error
