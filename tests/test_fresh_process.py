"""Tests of fresh_process: every kind of failure is reported, and answers are not mixed up."""

import signal

import pytest

from tests.fresh_process import run_forked


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("assert 1 == 2, 'reason'", "AssertionError: reason"),
        ("import sys; sys.exit('reason')", "exit status 1: reason"),
        ("import os; os.write(1, bytes([255])); raise SystemExit(3)", "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "exit status -9"),
        ("def (", "SyntaxError"),
    ],
    ids=["assertion", "exit", "no text", "killed", "syntax"],
)
def test_failures_are_reported(code: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_forked("", code)
    assert run_forked("", "print('next')") == "next\n"


def test_processes_are_isolated() -> None:
    run_forked("", "import json, os; json.own = os.environ['OWN'] = 'x'", OWN="y")
    assert run_forked("", "import json, os; print(hasattr(json, 'own'), 'OWN' in os.environ)") == "False False\n"


def test_the_answer_to_an_interrupted_request_is_discarded() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_forked("", "import time; time.sleep(2); print('late')")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert run_forked("", "print('next')") == "next\n"


def test_a_server_that_does_not_start() -> None:
    with pytest.raises(AssertionError, match="the server died with exit status 1"):
        run_forked("import no_such_module", "print('never')")
