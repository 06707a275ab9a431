"""The application on a real port of this machine, in a thread."""

import contextlib
import threading
import time
from collections.abc import Iterator

from kexue_hf.play.web import server
from kexue_hf.play.web.application import build_application
from kexue_hf.play.web.player_protocol import Player


@contextlib.contextmanager
def running(player: Player, name: str = "stub") -> Iterator[str]:
    """Yield the address of a server that runs inside the block."""
    listener = server.bind("127.0.0.1", 0)
    runner = server.Server(build_application(player, name=name))
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not runner.started and thread.is_alive():
            time.sleep(0.01)
        yield server.address_of(listener, "127.0.0.1")
    finally:
        runner.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()
