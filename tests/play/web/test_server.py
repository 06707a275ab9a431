"""The server on a real port: binding, clients that hang up, and Ctrl-C."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from kexue_hf.errors import InputError
from kexue_hf.play.web import server
from tests.play.web.running_server import running
from tests.play.web.stub_player import StubPlayer


def ask(address: str, method: str, path: str, fields: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    body = None if fields is None else json.dumps(fields)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_a_taken_port_is_one_clear_line() -> None:
    with server.bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is taken .*--port 0"):
            server.bind("127.0.0.1", port)
    # It is free again at once.
    server.bind("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 300, "192.0.2.1", "bad\x00host"])
def test_a_wrong_host_is_one_clear_line(host: str) -> None:
    with pytest.raises(InputError, match="--host: expected an address") as caught:
        server.bind(host, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}/"),
        ("0.0.0.0", "http://127.0.0.1:{}/"),
        ("localhost", "http://localhost:{}/"),
    ],
)
def test_the_address_opens_the_page(host: str, address: str) -> None:
    with server.bind(host, 0) as listener:
        assert server.address_of(listener, host) == address.format(listener.getsockname()[1])


def test_a_client_that_hangs_up_stops_the_search() -> None:
    player = StubPlayer(hold=threading.Event())
    with running(player) as address:
        _, state = ask(address, "POST", "/api/games", {"side": "b", "strength": "policy"})
        path = f"/api/games/{state['id']}"
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
        connection.request("POST", f"{path}/reply", '{"revision": 0}', {"Content-Type": "application/json"})
        assert player.started.wait(20)
        connection.close()
        assert player.stopped.wait(20)
        while ask(address, "GET", path)[1]["thinking"]:
            time.sleep(0.01)
        assert ask(address, "GET", path) == (200, state)
        assert player.hold is not None
        player.hold.set()
        status, state = ask(address, "POST", f"{path}/reply", {"revision": 0})
        assert status == 200 and len(state["moves"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/games HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"",
    ],
    ids=["length", "unfinished_body", "long_line", "tls", "nothing"],
)
def test_broken_requests_do_not_harm_the_server(text: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with running(StubPlayer()) as address:
        parts = urlsplit(address)
        assert parts.hostname and parts.port
        with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
            connection.sendall(text)
        assert ask(address, "GET", "/api/settings")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


PROGRAM = """
import threading
from kexue_hf.cli import play_web
from tests.play.web.stub_player import StubPlayer
play_web.serve_page(lambda: StubPlayer(hold=threading.Event()), None, None, 0, True)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("is_thinking", [False, True])
def test_ctrl_c_ends_the_server_with_code_0(is_thinking: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().split()[0]
        assert ask(address, "GET", "/api/settings")[1]["model"] == "kexue-hf"
        thinking, answers = [], []
        if is_thinking:
            _, state = ask(address, "POST", "/api/games", {"side": "b", "strength": "policy"})
            path = f"/api/games/{state['id']}"
            reply = (f"{path}/reply", {"revision": 0})
            thinking.append(threading.Thread(target=lambda: answers.append(ask(address, "POST", *reply))))
            thinking[0].start()
            while not ask(address, "GET", path)[1]["thinking"]:
                time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
        errors = process.stderr.read()
        for thread in thinking:
            thread.join(20)
    assert [(status, found["error"]["code"]) for status, found in answers] == [(409, "stopped")] * is_thinking
    assert code == 0 and errors.split("\n") == ["loading the model ...", "stopped", ""], errors
