"""The workers of a run of examples/embed_corpus_ray.py: for its tests and its benchmark."""

import signal
import subprocess
import time
from pathlib import Path

import psutil


def kill_worker(run: "subprocess.Popen[str]", output: Path) -> bool:
    """Kill a worker of a run by SIGKILL while it writes a shard; return whether there was one."""
    while run.poll() is None:
        if list(output.glob(".*partial*/*")):
            for process in psutil.Process(run.pid).children(recursive=True):
                if process.name().startswith("ray::embed_shar"):
                    process.send_signal(signal.SIGKILL)
                    return True
        time.sleep(0.01)
    return False


__all__ = ["kill_worker"]
