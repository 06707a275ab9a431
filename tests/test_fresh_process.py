"""What the tests run code in: a failure is one, whatever way it fails, and no answer is taken for another's."""

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
def test_a_failure_fails(code: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        run_forked("", code)
    assert run_forked("", "print('next')") == "next\n"


def test_one_process_knows_nothing_of_another() -> None:
    run_forked("", "import json, os; json.own = os.environ['OWN'] = 'x'", OWN="y")
    assert run_forked("", "import json, os; print(hasattr(json, 'own'), 'OWN' in os.environ)") == "False False\n"


def test_an_answer_that_nobody_waited_for_is_nobodys() -> None:
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
    with pytest.raises(AssertionError, match="the server is gone, exit status 1"):
        run_forked("import no_such_module", "print('never')")
